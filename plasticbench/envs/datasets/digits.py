"""Scikit-learn's handwritten digits: 1,797 images of 8 x 8 pixels, 10 classes, always at hand.

Alpaydin & Kaynak 1998, UCI Optical Recognition of Handwritten Digits, its test part. Every fifth row is a test row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np

from plasticbench.contracts.supervised import DataSet
from plasticbench.envs.datasets._statistics import data_set
from plasticbench.settings import Settings

_GREYS = 16  # values are 0 to 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """There is nothing to set."""

    label: ClassVar[str] = "digits"

    def load(self) -> DataSet:
        """1,438 training and 359 test images ``[1, 8, 8]``."""
        return _digits()


@cache
def _digits() -> DataSet:
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.round(found.images * (255 / _GREYS)).astype(np.uint8)[:, None]
    labels = found.target.astype(np.int64)
    is_test = np.arange(len(labels)) % 5 == 4
    return data_set(images[~is_test], labels[~is_test], images[is_test], labels[is_test], 10)
