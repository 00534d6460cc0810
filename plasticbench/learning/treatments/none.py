"""No reset at all: the control that every other policy is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import (
    OptimizerRule,
    ProbeBatch,
    ResetPolicy,
    ResetReport,
    TargetRule,
    TemperatureRule,
)
from plasticbench.seeding import Streams


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
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

    def inert(self) -> dict[str, str]:
        """Nothing can be set, so nothing is inert."""
        return {}

    def build(self) -> ResetPolicy:
        """The policy."""
        return NoReset()


PRESETS = {"clean": Config(), "fire_paper_dqn": Config(), "fire_paper_sac": Config()}


class NoReset:
    """Leaves every byte as it is."""

    def apply(self, net: NetworkState, streams: Sequence[Streams], data: ProbeBatch | None) -> ResetReport:
        """Touches nothing."""
        return ResetReport()
