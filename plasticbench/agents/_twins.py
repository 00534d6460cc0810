"""Twins of whole agents: who acts and who only learns have networks, optimizers and a temperature each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

from torch import Tensor

from plasticbench.agents._temperature import Temperature
from plasticbench.learning.trained import TrainedNetwork
from plasticbench.learning.turns import are_due, turn

_PREFIX = "twin/"


class HasTwins(Protocol):
    """An agent, some of whose members may have a twin."""

    temperature: Temperature | None

    @property
    def trained(self) -> tuple[TrainedNetwork, ...]:
        """Its networks, whose treatments keep those of the twins."""
        ...


class Twins:
    """What twins have besides networks: a temperature of their own, from the first turn on."""

    def __init__(self) -> None:
        self._temperature: Temperature | None = None

    def are_due(self, agent: HasTwins, step: int) -> bool:
        """Whether a turn of theirs follows an update at clock ``step``."""
        return any(are_due(trained, step) for trained in agent.trained)

    @contextmanager
    def turn(self, agent: HasTwins, step: int) -> Iterator[None]:
        """What the agent does within, its twins do."""
        own = agent.temperature
        with ExitStack() as turns:
            for trained in agent.trained:
                turns.enter_context(turn(trained, step))
            agent.temperature = self._of(own)
            try:
                yield
            finally:
                agent.temperature = own

    def _of(self, own: Temperature | None) -> Temperature | None:
        if own is not None and self._temperature is None:
            self._temperature = own.another()
        return self._temperature

    def take_over(self, agent: HasTwins, members: Sequence[int]) -> None:
        """The twins of these members act with the temperature that they have, and new twins begin with a new one."""
        if agent.temperature is not None and (twin := self._of(agent.temperature)) is not None:
            agent.temperature.take(twin, members)
            twin.reset(members)

    def state_dict(self) -> dict[str, Tensor]:
        """Named tensors ``[M]``."""
        own = {} if self._temperature is None else self._temperature.state_dict()
        return {_PREFIX + name: tensor for name, tensor in own.items()}

    def load_state_dict(self, own: Temperature | None, state: Mapping[str, Tensor], parents: Sequence[int]) -> None:
        """Member i's twin becomes that of the saved member ``parents[i]``, where it had one."""
        found = {name.removeprefix(_PREFIX): tensor for name, tensor in state.items() if name.startswith(_PREFIX)}
        if found and (twin := self._of(own)) is not None:
            twin.load_state_dict(found, parents)
