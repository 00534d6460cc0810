"""Random streams of members whose numbers can be had again, so that one operation can be carried out twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


class Chance:
    """Remembers where each member's stream stood when it was first asked for."""

    def __init__(self, stream: Callable[[int], np.random.Generator]) -> None:
        self._stream = stream
        self._first: dict[int, tuple[np.random.Generator, Any]] = {}

    def __call__(self, member: int) -> np.random.Generator:
        """The stream of one of the members."""
        generator = self._stream(member)
        self._first.setdefault(member, (generator, generator.bit_generator.state))
        return generator

    @contextmanager
    def again(self) -> Iterator[None]:
        """Within it the streams give what they have given; afterwards they go on as if it had not been asked again."""
        used = list(self._first.values())
        now = [generator.bit_generator.state for generator, _ in used]
        for generator, state in used:
            generator.bit_generator.state = state
        yield
        for (generator, _), state in zip(used, now, strict=True):
            generator.bit_generator.state = state
