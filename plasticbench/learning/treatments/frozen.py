"""A reference, never ranked: networks stop learning at the first change of the task, and stay as they are.

Source: Forager, arXiv 2605.01131: a method that does no better has learnt nothing of the tasks that came later. Running
statistics of observations, an entropy temperature and targets go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, Report, State
from plasticbench.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """Has no settings."""

    is_reference: ClassVar[bool] = True
    begins_at_first_event: ClassVar[bool] = True

    def build(self) -> Frozen:
        """The treatment."""
        return Frozen()


PRESETS = {"clean": Config()}


class Frozen:
    """The state is what the networks were when it first acted: all parameters ``[m, ...]`` by full name."""

    def init(self, net: NetworkState) -> State:
        """The parameters of this moment."""
        return {name: parameter.value.clone() for name, parameter in net.parameters.items()}

    def on_event(self, net: NetworkState, state: State, look: Look) -> Report:
        """Nothing: the first event alone says from when on."""
        return Report()

    def on_update(self, net: NetworkState, state: State, look: Look) -> None:
        """Takes the update back."""
        for name, parameter in net.parameters.items():
            parameter.value.copy_(state[name])
