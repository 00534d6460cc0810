"""Observation and action spaces of Gymnasium as what an agent sees and does: one array each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import gymnasium
import numpy as np

from plasticbench.contracts.task import BoxActions, DiscreteActions
from plasticbench.plugins import did_you_mean

_SMALLEST_PICTURE = 32
"""Pixels of a side; smaller grids of bytes hold kinds of cells, not brightness."""
_LARGEST_BOUND = 1e6
"""Actions beyond it are unbounded in all but name: 1e10, or the largest number there is."""


def parts_of(space: gymnasium.Space[Any], prefix: str = "") -> dict[str, gymnasium.Space[Any]]:
    """The parts of nested ``Dict`` spaces by dotted name, in their order; a plain space is the part ``""``."""
    if not isinstance(space, gymnasium.spaces.Dict):
        return {prefix: space}
    found: dict[str, gymnasium.Space[Any]] = {}
    for name, inner in space.spaces.items():
        found |= parts_of(inner, f"{prefix}.{name}" if prefix else name)
    return found


@dataclass(frozen=True, slots=True)
class Observations:
    """How batches of observations are read. A single part keeps its shape; several become one vector, in order.

    Pictures are uint8 with their channels first. Everything else is float32: a choice among n is n numbers, one of
    them 1, and a vector of bytes is a text, whose characters are divided by 255.
    """

    parts: tuple[tuple[str, gymnasium.Space[Any]], ...]
    shape: tuple[int, ...]
    dtype: Literal["uint8", "float32"]

    @classmethod
    def of(cls, parts: Mapping[str, gymnasium.Space[Any]]) -> Observations:
        """Raises ``ValueError`` for a part that is no array of numbers."""
        sizes = {name: _size(space) for name, space in parts.items()}
        only = next(iter(parts.values())) if len(parts) == 1 else None
        if only is None or isinstance(only, gymnasium.spaces.Discrete) or only.shape == ():
            return cls(tuple(parts.items()), (sum(sizes.values()),), "float32")
        shape = tuple(int(n) for n in only.shape or ())
        if _is_grid(only):
            shape = (shape[-1], *shape[:-1]) if _channels_last(shape) else shape
        return cls(tuple(parts.items()), shape, "uint8" if _is_picture(only) else "float32")

    @property
    def scale(self) -> float:
        """What a network's inputs are multiplied with."""
        return 1 / 255 if self.dtype == "uint8" else 1.0

    def read(self, obs: Any) -> np.ndarray:
        """``[N, *shape]`` from a batch of this space: an array, or nested dictionaries of arrays."""
        arrays = [(space, _part(obs, name)) for name, space in self.parts]
        space, values = arrays[0]
        if _is_grid(space) and len(arrays) == 1:
            first = np.moveaxis(values, -1, 1) if _channels_last(values.shape[1:]) else values
            return np.ascontiguousarray(first, self.dtype)
        numbers = [_numbers(space, values) for space, values in arrays]
        joined = numbers[0] if len(numbers) == 1 else np.concatenate(numbers, axis=1)
        return joined.reshape(-1, *self.shape)


def _part(obs: Any, name: str) -> np.ndarray:
    return np.asarray(reduce(lambda tree, inner: tree[inner], name.split("."), obs) if name else obs)


def _is_grid(space: gymnasium.Space[Any]) -> bool:
    return isinstance(space, gymnasium.spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3


def _is_picture(space: gymnasium.Space[Any]) -> bool:
    return _is_grid(space) and sorted(space.shape or ())[1] >= _SMALLEST_PICTURE


def _channels_last(shape: Sequence[int]) -> bool:
    return shape[-1] < shape[0]


def _size(space: gymnasium.Space[Any]) -> int:
    if isinstance(space, gymnasium.spaces.Discrete):
        return int(space.n)
    if isinstance(space, gymnasium.spaces.Box | gymnasium.spaces.MultiBinary):
        return math.prod(space.shape)
    raise ValueError(f"observations must be numbers or choices, got {space}")


def _numbers(space: gymnasium.Space[Any], values: np.ndarray) -> np.ndarray:
    """``[N, size]`` float32."""
    rows = values.reshape(len(values), -1)
    if isinstance(space, gymnasium.spaces.Discrete):
        choices: np.ndarray = rows - int(space.start) == np.arange(int(space.n))
        return choices.astype(np.float32)
    numbers = rows.astype(np.float32, copy=False)
    is_text = space.dtype == np.uint8 and len(space.shape or ()) == 1
    return numbers / np.float32(255) if is_text else numbers


def chosen(parts: Mapping[str, gymnasium.Space[Any]], names: Sequence[str]) -> Observations:
    """Observations of these parts, in the order of ``names``. Raises ``ValueError`` for a name that is none."""
    for name in names:
        if name not in parts:
            known = did_you_mean(name, parts) if len(parts) > 1 else "It has only one"
            raise ValueError(f"there is no part {name!r}. {known}")
    return Observations.of({name: parts[name] for name in names})


def actions_of(space: gymnasium.Space[Any]) -> DiscreteActions | BoxActions:
    """Raises ``ValueError`` where actions are neither one choice nor a bounded vector."""
    if isinstance(space, gymnasium.spaces.Discrete) and space.start == 0:
        return DiscreteActions(count=int(space.n))
    if not isinstance(space, gymnasium.spaces.Box):
        raise ValueError(f"actions must be Discrete from 0 or a bounded vector, got {space}")
    if np.issubdtype(space.dtype, np.integer):
        raise ValueError(f"actions are {math.prod(space.shape)} choices at once, and agents make one: {space}")
    if len(space.shape) != 1:
        raise ValueError(f"actions must be one vector, got {space}")
    if not (np.abs(space.low) < _LARGEST_BOUND).all() or not (np.abs(space.high) < _LARGEST_BOUND).all():
        raise ValueError(f"actions must be bounded, got {space}")
    low, high = (tuple(float(x) for x in bound) for bound in (space.low, space.high))
    return BoxActions(low=low, high=high)
