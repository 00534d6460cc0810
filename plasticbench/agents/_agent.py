"""What the trainer asks of every agent: ``agents/<kind>.py``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from plasticbench.contracts.network import NetworkView
from plasticbench.contracts.task import World
from plasticbench.contracts.treatment import ResetReport
from plasticbench.learning.event import PolicyConfig


class SavedReplay(Protocol):
    """A replay that is saved row by row; row numbers grow with time and are never used again."""

    @property
    def rows(self) -> int:
        """Rows written since the beginning."""
        ...

    @property
    def oldest_row(self) -> int:
        """The first row that a restored replay still needs."""
        ...

    def clear(self) -> None:
        """Forgets all transitions; the agent begins a new course next."""
        ...

    def meta(self) -> dict[str, Any]:
        """Plain data that, with the chunks of all live rows, restores the replay."""
        ...

    def export(self, since_row: int) -> dict[str, Tensor]:
        """Rows ``[max(since_row, oldest_row), rows)`` as tensors ``[M, ...]``."""
        ...

    def restore(
        self, meta: dict[str, Any], chunks: Iterable[tuple[int, dict[str, Tensor]]], parents: Sequence[int]
    ) -> None:
        """Loads chunks (first row, tensors in this population's order) in order of export."""
        ...


class Agent(Protocol):
    """A population of M members with E environments each; arrays are shaped ``[M, E, ...]``."""

    @property
    def replay(self) -> SavedReplay:
        """What it learns from."""
        ...

    def begin(self, obs: np.ndarray) -> None:
        """Starts a new course at ``obs``, after environments or their view of the world were changed."""
        ...

    def advance(self, world: World, step: int) -> Iterator[dict[str, Tensor]]:
        """Trains for one stride of the clock, which stands at ``step``; yields the metrics ``[M]`` of updates."""
        ...

    def act_in_evaluation(self, obs: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Actions for evaluation, with uniforms ``[M, E, 2]`` from outside the trial's streams."""
        ...

    def probe_batch(self, uniforms: np.ndarray) -> Any | None:
        """A replay sample chosen by uniforms ``[M, N]``, for ``views`` and ``reset``; ``None`` before there is any."""
        ...

    def views(self, batch: Any, previous: Mapping[str, Any] | None = None) -> tuple[NetworkView, ...]:
        """All networks as probes see them; ``previous`` is what ``weights`` returned before a reset."""
        ...

    def weights(self) -> Mapping[str, Any]:
        """A copy of what a reset may change, by name of network."""
        ...

    def parameters(self, member: int) -> dict[str, Tensor]:
        """Copies of one member's trained weights, named as in ``actor.fc1.weight``; targets are left out."""
        ...

    def reset(self, members: Sequence[int], policy: PolicyConfig, batch: Any | None) -> dict[str, ResetReport]:
        """Applies a policy to all networks of the members; returns what it did by name of network."""
        ...

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain data, the replay's rows left out."""
        ...

    def load_state_dict(self, tensors: dict[str, Tensor], plain: dict[str, Any], parents: Sequence[int]) -> None:
        """Member i continues as the saved member ``parents[i]``."""
        ...

    def close(self) -> None:
        """Frees processes and memory outside this object."""
        ...
