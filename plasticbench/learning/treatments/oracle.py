"""A reference, never ranked: at each change of the task a fresh agent takes over, which knows nothing of earlier tasks.

Source: TRAC, Muppidi et al., NeurIPS 2024, arXiv 2405.16642, and C-CHAIN, Tang et al., ICML 2025: what a network that
never lost anything learns of each task in the time that there is. Networks, optimizers, targets and a temperature are
new; the scenario empties the replay. Exploration and running statistics of observations go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, OptimizerRule, Report, State, TargetRule, TemperatureRule
from plasticbench.learning.treatments._selection import reinitialize
from plasticbench.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """Has no settings."""

    is_reference: ClassVar[bool] = True
    optimizer: ClassVar[OptimizerRule] = "reset"
    target: ClassVar[TargetRule] = "sync"
    temperature: ClassVar[TemperatureRule] = "reset"

    def build(self) -> Oracle:
        """The treatment."""
        return Oracle()


PRESETS = {"clean": Config()}


class Oracle:
    """Draws every parameter anew."""

    def on_event(self, net: NetworkState, state: State, look: Look) -> Report:
        """Fresh weights and biases ``[m, ...]`` in every layer and normalisation."""
        return Report(touched=reinitialize((*net.layers, *net.norms), "fresh"), is_new=True)
