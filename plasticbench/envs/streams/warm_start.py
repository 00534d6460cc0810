"""Warm start: first a share of the training rows, then all of them; does the first part cost the second?

Ash & Adams, NeurIPS 2020, arXiv 1910.08475 (half the rows first); FIRE (isaac7778/FIRE, ``vision/``) begins with a
tenth and gives both phases as many updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from plasticbench.contracts.supervised import DataSet, Measure, Phase
from plasticbench.envs.streams._base import StreamSettings, held_out, random_rows, training
from plasticbench.settings import OpenFraction


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(StreamSettings):
    """``share`` of the training rows, chosen by the seed, for the first half of the updates."""

    measure: ClassVar[Measure] = "test"
    differs: ClassVar[bool] = False
    share: OpenFraction = 0.1

    def check(self, data: DataSet) -> None:
        """Some rows must be left for the first phase."""
        if round(self.share * len(data.labels)) < 1:
            raise ValueError(f"share: leaves no row of {len(data.labels):,} for the first phase, got {self.share}")

    def lengths(self, data: DataSet) -> Sequence[float]:
        """Two phases of as many updates."""
        return (1.0, 1.0)

    def phase(self, data: DataSet, seed: int, index: int) -> Phase:
        """A share of the rows, then all."""
        count = round(self.share * len(data.labels)) if index == 0 else None
        return Phase(train=training(data, random_rows(data, seed, count)), test=held_out(data))
