"""What the trainer asks of every agent: ``agents/<kind>.py``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from plasticbench.agents._replay import Batch, PopulationReplay
from plasticbench.agents._temperature import Temperature
from plasticbench.agents._trained import TrainedNetwork
from plasticbench.contracts import EnvStep, NetworkView
from plasticbench.seeding import Streams


class Agent(Protocol):
    """A population of M members with E environments each; arrays are shaped ``[M, E, ...]``."""

    streams: Sequence[Streams]
    replay: PopulationReplay

    @property
    def trained(self) -> tuple[TrainedNetwork, ...]:
        """The networks that resets and probes concern."""
        ...

    @property
    def temperature(self) -> Temperature | None:
        """The weight of entropy beside reward, in agents that have one."""
        ...

    def begin(self, obs: np.ndarray) -> None:
        """Starts a new course at ``obs``, after environments or their view of the world were changed."""
        ...

    def act(self, obs: np.ndarray, step: int) -> np.ndarray:
        """Actions for training."""
        ...

    def act_in_evaluation(self, obs: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Actions for evaluation, with uniforms ``[M, E, 2]`` from outside the trial's streams."""
        ...

    def observe(self, action: np.ndarray, step: EnvStep) -> None:
        """Stores what followed ``action``."""
        ...

    def learn(self, step: int) -> Iterator[dict[str, Tensor]]:
        """Makes the updates that are due when the clock reaches ``step``; yields each one's metrics ``[M]``."""
        ...

    def probe_batch(self, uniforms: np.ndarray) -> Batch | None:
        """A replay sample chosen by uniforms ``[M, N]``; ``None`` before there is any."""
        ...

    def probe_obs(self, batch: Batch) -> Tensor:
        """The observations of a batch as the networks see them: ``[M, N, ...]``."""
        ...

    def views(self, batch: Batch, previous: Mapping[str, Tensor] | None = None) -> tuple[NetworkView, ...]:
        """All networks as probes see them; ``previous`` maps names of trained networks to flat earlier weights."""
        ...

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors ``[M, ...]`` and plain data, the replay left out."""
        ...

    def load_state_dict(self, tensors: dict[str, Tensor], plain: dict[str, Any], parents: Sequence[int]) -> None:
        """Member i continues as the saved member ``parents[i]``."""
        ...
