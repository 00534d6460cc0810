"""Gymnasium's spaces as what agents act in, and the two ways between them.

Boxes are taken as they are, pictures with channels first or last or none; a choice is a number from 0. What no agent
can use is refused with the wrapper that helps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from gymnasium import spaces

from plasticbench.contracts.task import BoxActions, DiscreteActions, EnvironmentFault

Layout = Literal["vector", "channels last", "channels first", "plane"]
MAX_CHOICES = 1_000
_FLATTEN = "FlattenObservation makes a vector of them: wrappers: [FlattenObservation]"


@dataclass(frozen=True, slots=True)
class Observations:
    """How observations come (``shape``) and how agents see them: pictures are uint8 with channels first."""

    shape: tuple[int, ...]
    layout: Layout

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """One observation as agents see it."""
        match self.layout:
            case "channels last":
                return (self.shape[-1], *self.shape[:-1])
            case "plane":
                return (1, *self.shape)
            case _:
                return self.shape

    @property
    def dtype(self) -> Literal["uint8", "float32"]:
        """Of observations as agents see them."""
        return "float32" if self.layout == "vector" else "uint8"

    def batch(self, observations: Sequence[Any]) -> np.ndarray:
        """Stacks observations of N environments. Raises ``EnvironmentFault`` for one of another shape."""
        for index, observation in enumerate(observations):
            if np.shape(observation) != self.shape:
                raise EnvironmentFault(
                    f"its observation_space promises shape {self.shape}, and {_shape_of(observation)} came", index
                )
        stacked = np.stack(observations).astype(self.dtype, copy=False)
        match self.layout:
            case "channels last":
                return np.moveaxis(stacked, -1, 1)
            case "plane":
                return stacked[:, None]
            case _:
                return stacked


def _shape_of(observation: Any) -> str:
    if isinstance(observation, dict | tuple):
        return f"a {type(observation).__name__}"
    return f"shape {np.shape(observation)}"


def observations_of(space: spaces.Space[Any]) -> Observations:
    """Raises ``ValueError`` with the wrapper that helps where observations are no Box."""
    if not isinstance(space, spaces.Box):
        raise ValueError(f"observations must be a Box of numbers, got {_text(space)}. {_observation_advice(space)}")
    if not space.shape:
        raise ValueError(f"observations must have at least one axis, got {_text(space)}. {_FLATTEN}")
    if 0 in space.shape:
        raise ValueError(f"observations must hold at least one number, got {_text(space)}")
    is_picture = space.dtype == np.uint8 and len(space.shape) in (2, 3)
    return Observations(tuple(space.shape), _layout(space.shape) if is_picture else "vector")


def _layout(shape: tuple[int, ...]) -> Layout:
    """Channels are fewer than rows or columns; where they are as many, they stand last, as is usual in Gymnasium."""
    if len(shape) == 2:
        return "plane"
    return "channels first" if shape[0] < shape[-1] else "channels last"


def _observation_advice(space: spaces.Space[Any]) -> str:
    match space:
        case spaces.Discrete():
            return "FlattenObservation makes one 0 or 1 for each of its values: wrappers: [FlattenObservation]"
        case spaces.Dict():
            keys = ", ".join(map(str, space.spaces))
            return f"{_FLATTEN}; before it {{kind: FilterObservation, filter_keys: [...]}} chooses among {keys}"
        case space if space.is_np_flattenable:
            return _FLATTEN
    return "No wrapper of Gymnasium makes numbers of it: the environment's own module must"


@dataclass(frozen=True, slots=True)
class Actions:
    """What agents choose from, and how the environment takes it."""

    spec: DiscreteActions | BoxActions
    to_env: Any  # from an agent's action of one environment to its own


def actions_of(space: spaces.Space[Any]) -> Actions:
    """Raises ``ValueError`` with what helps where actions are neither a choice nor bounded numbers."""
    match space:
        case spaces.Discrete():
            return Actions(DiscreteActions(count=int(space.n)), partial(_offset, int(space.start)))
        case spaces.MultiDiscrete():
            return _combinations(space, space.nvec, space.start)
        case spaces.MultiBinary():
            return _combinations(space, np.full(space.shape, 2), np.zeros(space.shape, np.int64))
        case spaces.Box() if 0 in space.shape:
            raise ValueError(f"actions must be at least one number, got {_text(space)}")
        case spaces.Box() if np.issubdtype(space.dtype, np.integer):
            counts = space.high.astype(object) - space.low + 1  # which 64 bits may not hold
            return _combinations(space, counts, space.low.astype(np.int64))
        case spaces.Box():
            return _numbers(space)
    raise ValueError(
        f"actions must be a choice (Discrete, MultiDiscrete) or a bounded Box, got {_text(space)}. No wrapper of "
        "Gymnasium makes one of it: the environment's own module must"
    )


def _offset(start: int, action: Any) -> Any:
    return action + start if start else action


def _combinations(space: Any, counts: np.ndarray, start: np.ndarray) -> Actions:
    total = math.prod(int(count) for count in counts.flat)
    if total > MAX_CHOICES:
        raise ValueError(
            f"actions must have at most {MAX_CHOICES:,} combinations, each of which becomes one choice, got {total:,} "
            f"of {_text(space)}. Let the environment's own module offer fewer"
        )
    sizes = counts.ravel().astype(np.int64)
    grid = np.stack(np.unravel_index(np.arange(total), sizes), axis=-1).reshape(total, *counts.shape)
    table = (grid + start).astype(space.dtype)
    return Actions(DiscreteActions(count=total), table.__getitem__)


def _numbers(space: spaces.Box) -> Actions:
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise ValueError(
            f"actions must be bounded, got {_text(space)}. BoundAction gives bounds: "
            "wrappers: [{kind: BoundAction, low: -1, high: 1}]"
        )
    low, high = (tuple(float(x) for x in bound.ravel()) for bound in (space.low, space.high))
    return Actions(BoxActions(low=low, high=high), partial(_shaped, space.shape))


def _shaped(shape: tuple[int, ...], action: np.ndarray) -> np.ndarray:
    return action if len(shape) == 1 else action.reshape(shape)


def _text(space: spaces.Space[Any]) -> str:
    text = " ".join(str(space).split())
    return text if len(text) <= 120 else f"{text[:117]}..."
