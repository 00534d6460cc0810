"""Adam-Rel: at an event Adam counts its updates anew, and keeps its moments.

Source: Ellis et al., NeurIPS 2024, arXiv 2412.17113. Moments of a long past are then treated as sums that have just
begun, so Adam divides the first by (1 - beta1^t) and the second by (1 - beta2^t) of a small t: the first updates are a
third of the usual size and grow back over some hundred, whatever the new gradients are. A change of the target is the
paper's event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, OptimizerRule, Report, State, TargetRule
from plasticbench.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``target``: what the event does to the target network."""

    optimizer: ClassVar[OptimizerRule] = "reset_touched_steps"
    target: TargetRule = "keep"

    def build(self) -> AdamRel:
        """The treatment."""
        return AdamRel()


PRESETS = {"clean": Config()}


class AdamRel:
    """Writes nothing; the machinery carries the rule out."""

    def on_event(self, net: NetworkState, state: State, look: Look) -> Report:
        """Names every parameter, since the counts of all begin anew."""
        return Report(touched=set(net.parameters))
