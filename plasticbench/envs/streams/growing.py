"""Growing data: each phase adds as many training rows again, all earlier ones included.

FIRE's ``continual`` benchmark (isaac7778/FIRE, ``vision/task.py``): ten phases, phase i has the first i tenths of a
random order, and as many passes over its rows as every other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from plasticbench.contracts.supervised import DataSet, Measure, Phase
from plasticbench.envs.streams._base import StreamSettings, held_out, random_rows, training
from plasticbench.settings import Ge


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(StreamSettings):
    """``equal``: whether all phases have as many ``passes`` over their rows, or as many ``updates``."""

    measure: ClassVar[Measure] = "test"
    differs: ClassVar[bool] = False
    phases: Annotated[int, Ge(2)] = 10
    equal: Literal["passes", "updates"] = "passes"

    def check(self, data: DataSet) -> None:
        """Every phase adds a row at least."""
        if self.phases > len(data.labels):
            raise ValueError(f"phases: must be at most the {len(data.labels):,} training rows, got {self.phases:,}")

    def lengths(self, data: DataSet) -> Sequence[float]:
        """In proportion to the rows, or equal."""
        return tuple(float(index + 1 if self.equal == "passes" else 1) for index in range(self.phases))

    def phase(self, data: DataSet, seed: int, index: int) -> Phase:
        """The first rows of a random order."""
        count = round(len(data.labels) * (index + 1) / self.phases)
        return Phase(train=training(data, random_rows(data, seed, count)), test=held_out(data))
