"""No reset at all: the control that every other policy is compared with."""

from __future__ import annotations

from dataclasses import dataclass

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, OptimizerRule, Report, State, TargetRule, TemperatureRule
from plasticbench.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """No settings: weights, optimizer, target network and temperature go on as they are."""

    @property
    def optimizer(self) -> OptimizerRule:
        """Always kept."""
        return "keep"

    @property
    def target(self) -> TargetRule:
        """Always kept."""
        return "keep"

    @property
    def temperature(self) -> TemperatureRule:
        """Always kept."""
        return "keep"

    def build(self) -> NoReset:
        """The treatment."""
        return NoReset()


PRESETS = {"clean": Config(), "fire_paper_dqn": Config(), "fire_paper_sac": Config()}


class NoReset:
    """Leaves every byte as it is."""

    def on_event(self, net: NetworkState, state: State, look: Look) -> Report:
        """Touches nothing."""
        return Report()
