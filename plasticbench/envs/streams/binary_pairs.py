"""Pairs of classes: two classes at a time are to be told apart, drawn without repeating a pair while there are any.

The form of continual ImageNet (Dohare et al. 2024, doi:10.1038/s41586-024-07711-7: 5,000 pairs of 1,000 classes),
where the head starts anew with each pair: give methods ``last_layers`` at boundaries for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, ClassVar

import numpy as np

from plasticbench.contracts.supervised import DataSet, Phase, Rows
from plasticbench.envs.streams._base import StreamSettings
from plasticbench.seeding import derive_generator
from plasticbench.settings import Ge, PositiveInt


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(StreamSettings):
    """``samples_per_class``: how many training rows of each class, the first ones; by default all."""

    differs: ClassVar[bool] = True
    phases: Annotated[int, Ge(2)] = 10
    samples_per_class: PositiveInt | None = None

    def check(self, data: DataSet) -> None:
        """Every class must have so many rows, and a test row."""
        if data.num_classes < 2:
            raise ValueError(f"phases: pairs need at least two classes, and the data have {data.num_classes}")
        counts = np.bincount(data.labels, minlength=data.num_classes)
        if (fewest := int(counts.min())) < (wanted := self.samples_per_class or 1):
            raise ValueError(
                f"samples_per_class: class {int(counts.argmin())} has {fewest} training rows, so {wanted} are too many"
            )

    def num_outputs(self, data: DataSet) -> int:
        """The first and the second of a pair."""
        return 2

    def phase(self, data: DataSet, seed: int, index: int) -> Phase:
        """All rows of two classes, which are called 0 and 1."""
        pairs = list(combinations(range(data.num_classes), 2))
        round_number, place = divmod(index, len(pairs))
        order = derive_generator(seed, "stream", "pairs", round_number).permutation(len(pairs))
        pair = pairs[order[place]]

        def chosen(labels: np.ndarray, count: int | None) -> Rows:
            own = [np.nonzero(labels == one)[0][:count] for one in pair]
            return Rows(np.concatenate(own), np.repeat(np.arange(2), [len(rows) for rows in own]))

        return Phase(train=chosen(data.labels, self.samples_per_class), test=chosen(data.test_labels, None))
