"""Optimizer reset: weights stay, and the optimizer begins anew.

Source: Asadi, Fakoor & Sabach, NeurIPS 2023, arXiv 2306.17833: moments of a problem that is over mislead the next one.
Each copy into the target network begins such a problem, so in value-based agents the schedule of the event is the
target's: ``every: 8000`` beside ``target_period_steps: 8000``. With targets that follow softly it is a choice.
``adam_rel`` keeps the moments and restarts the count alone.
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

    optimizer: ClassVar[OptimizerRule] = "reset"
    target: TargetRule = "keep"

    def build(self) -> OptimizerReset:
        """The treatment."""
        return OptimizerReset()


PRESETS = {"clean": Config(), "at_target_copies": Config(target="sync")}


class OptimizerReset:
    """Writes nothing; the machinery carries the rule out."""

    def on_event(self, net: NetworkState, state: State, look: Look) -> Report:
        """No parameter is touched."""
        return Report()
