"""Hare and tortoise: a slow copy follows every update, and at an event the network becomes the slow copy.

Source: Lee et al., ICML 2024, arXiv 2406.02596: tortoise <- mu tortoise + (1 - mu) hare with mu 0.999; every ten epochs
hare <- tortoise; the optimizer is kept. Their public code trains classifiers and evaluates the tortoise, which is not
offered: evaluation is of the network that is trained. In value-based agents the tortoise is the target network itself
(as in the code of Forager, arXiv 2605.01131, which also begins a new optimizer: preset ``forager_dqn``), so that hare
and target are equal after an event. Here the tortoise is a network of its own, since targets may be copied rarely, and
``target: sync`` makes them equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, OptimizerRule, Report, State, TargetRule
from plasticbench.settings import Ge, Le, PerMember, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``mu``: how much of itself the tortoise keeps at an update; with 1 it stays where it began."""

    is_for_events: ClassVar[bool] = True  # without any, nobody ever sees the tortoise

    mu: Annotated[float, Ge(0), Le(1), PerMember] = 0.999
    optimizer: OptimizerRule = "keep"
    target: TargetRule = "sync"

    def build(self) -> HareTortoise:
        """The treatment."""
        return HareTortoise(self)


PRESETS = {"clean": Config(), "forager_dqn": Config(optimizer="reset")}


class HareTortoise:
    """The state is the tortoise: all parameters ``[m, ...]`` by full name, normalisations too."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def init(self, net: NetworkState) -> State:
        """Both begin at the same place."""
        return {name: parameter.value.clone() for name, parameter in net.parameters.items()}

    def on_update(self, net: NetworkState, state: State, look: Look) -> None:
        """The tortoise follows."""
        from plasticbench.learning.members import column

        for name, parameter in net.parameters.items():
            state[name].lerp_(parameter.value, column(1 - self.config.mu, parameter.value))

    def on_event(self, net: NetworkState, state: State, look: Look) -> Report:
        """The hare goes back to where the tortoise is."""
        for name, parameter in net.parameters.items():
            parameter.value.copy_(state[name])
        return Report(touched=set(state))
