"""Every source of chance is a named stream of the trial's seed, and its state is plain data."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np


def _sequence(seed: int, names: Sequence[str | int]) -> np.random.SeedSequence:
    key = [zlib.crc32(name.encode()) if isinstance(name, str) else name for name in names]
    return np.random.SeedSequence(entropy=seed, spawn_key=tuple(key))


def derive_seed(seed: int, *names: str | int) -> int:
    """A seed in [0, 2^31) from ``seed`` and the names alone, for environments and other foreign generators."""
    return int(_sequence(seed, names).generate_state(1)[0] >> 1)


def derive_generator(seed: int, *names: str | int) -> np.random.Generator:
    """A generator outside the trial's streams, for work that must leave them untouched (evaluation, probes)."""
    return np.random.Generator(np.random.PCG64(_sequence(seed, names)))


class Streams:
    """The named, independent generators of one trial; a stream exists from its first use on."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._generators: dict[str, np.random.Generator] = {}

    def __getitem__(self, name: str) -> np.random.Generator:
        if name not in self._generators:
            self._generators[name] = derive_generator(self.seed, name)
        return self._generators[name]

    def seeds(self, name: str) -> Callable[[], int]:
        """Seeds in [0, 2^63) from a stream, which is looked up anew each time."""
        return lambda: int(self[name].integers(2**63))

    def state_dict(self) -> dict[str, Any]:
        """Plain data that round-trips through JSON."""
        states = {name: deepcopy(generator.bit_generator.state) for name, generator in self._generators.items()}
        return {"seed": self.seed, "generators": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what ``state_dict`` returned, the seed included."""
        self.seed = state["seed"]
        self._generators = {}
        for name, generator_state in state["generators"].items():
            self[name].bit_generator.state = deepcopy(generator_state)
