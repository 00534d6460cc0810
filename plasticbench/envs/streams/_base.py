"""What most streams answer alike, and how they choose rows and classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from plasticbench.contracts.supervised import DataSet, Measure, Rows
from plasticbench.seeding import derive_generator
from plasticbench.settings import Ge, PositiveInt, Settings


class StreamSettings(Settings):
    """Base of streams' Configs: all classes, and phases of equal length."""

    __slots__ = ()
    measure: ClassVar[Measure] = "online"

    def check(self, data: DataSet) -> None:
        """Any data will do."""

    def num_outputs(self, data: DataSet) -> int:
        """All classes."""
        return data.num_classes

    def lengths(self, data: DataSet) -> Sequence[float]:
        """Phases of equal length."""
        return (1.0,) * int(getattr(self, "phases", 1))


@dataclass(frozen=True, kw_only=True, slots=True)
class SameRowsSettings(StreamSettings):
    """``samples`` training rows, chosen by the seed and the same in all phases; by default all."""

    phases: Annotated[int, Ge(2)] = 10
    samples: PositiveInt | None = None

    def check(self, data: DataSet) -> None:
        """There must be so many rows."""
        if self.samples is not None and self.samples > len(data.labels):
            raise ValueError(
                f"samples: must be at most the {len(data.labels):,} training rows of the data, got {self.samples:,}"
            )


def training(data: DataSet, rows: np.ndarray | None = None) -> Rows:
    """Training rows, by default all, under their own labels."""
    rows = np.arange(len(data.labels)) if rows is None else rows
    return Rows(rows, data.labels[rows])


def held_out(data: DataSet, classes: np.ndarray | None = None) -> Rows:
    """Test rows, by default of all classes, under their own labels."""
    chosen = np.arange(len(data.test_labels)) if classes is None else np.nonzero(np.isin(data.test_labels, classes))[0]
    return Rows(chosen, data.test_labels[chosen])


def random_rows(data: DataSet, seed: int, count: int | None) -> np.ndarray:
    """That many training rows in random order, the same ones for all phases of a seed."""
    order = derive_generator(seed, "stream", "rows").permutation(len(data.labels))
    return order if count is None else order[:count]
