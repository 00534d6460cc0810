"""Random numbers for all members at once, each member's from its own stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from plasticbench.seeding import Streams

_BLOCK_DRAWS = 64  # one call per stream serves this many draws; it is part of what a seed means


class MemberUniforms:
    """Draws float64 uniforms in [0, 1) of shape ``[M, *shape]``, blockwise, so that a draw costs one slice."""

    def __init__(self, streams: Sequence[Streams], name: str, shape: tuple[int, ...]) -> None:
        self._streams = streams
        self._name = name
        self._shape = shape
        self._block = np.empty(0)
        self._cursor = _BLOCK_DRAWS
        self._states: list[Any] = []

    def draw(self) -> np.ndarray:
        """The next draw; members advance together."""
        if self._cursor == _BLOCK_DRAWS:
            self._refill()
        self._cursor += 1
        drawn: np.ndarray = self._block[self._cursor - 1]
        return drawn

    def rewind(self) -> None:
        """The next draw will be the last one again."""
        self._cursor -= 1

    def _refill(self) -> None:
        generators = [streams[self._name] for streams in self._streams]
        self._states = [generator.bit_generator.state for generator in generators]
        self._block = np.stack([self._numbers(g, (_BLOCK_DRAWS, *self._shape)) for g in generators], axis=1)
        self._cursor = 0

    def _numbers(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return generator.random(shape)

    def state_dict(self) -> dict[str, Any]:
        """Plain data: the state of each stream before the current block, and the position in it."""
        return {"cursor": self._cursor, "states": self._states}

    def load_state_dict(self, state: dict[str, Any], parents: Sequence[int]) -> None:
        """Member i goes on where member ``parents[i]`` was saved; its stream ends up after the block, as saved."""
        if state["states"]:
            for streams, parent in zip(self._streams, parents, strict=True):
                streams[self._name].bit_generator.state = state["states"][parent]
            self._refill()
        self._cursor = state["cursor"]


class MemberNormals(MemberUniforms):
    """Draws float32 standard normal numbers instead."""

    def _numbers(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return generator.standard_normal(shape, dtype=np.float32)
