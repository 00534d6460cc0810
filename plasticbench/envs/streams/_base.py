"""What most streams answer alike, and how they choose rows and classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from plasticbench.contracts.supervised import DataSet, Measure, Rows
from plasticbench.seeding import derive_generator
from plasticbench.settings import Settings


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


def check_samples(data: DataSet, samples: int | None) -> None:
    """Raises ``ValueError`` for more rows than there are."""
    if samples is not None and samples > len(data.labels):
        raise ValueError(
            f"samples: must be at most the {len(data.labels):,} training rows of the data, got {samples:,}"
        )
