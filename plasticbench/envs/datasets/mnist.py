"""MNIST and the sets of the same form, from a folder as torchvision lays them out: 28 x 28 in grey, 10 classes.

LeCun et al. 1998; Fashion-MNIST: Xiao et al. 2017, arXiv 1708.07747; Kuzushiji-MNIST: Clanuwat et al. 2018, arXiv
1812.01718.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from plasticbench.contracts.supervised import DataSet
from plasticbench.envs.datasets._files import existing, idx
from plasticbench.envs.datasets._statistics import data_set
from plasticbench.settings import Settings

_PARTS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``folder`` holds ``MNIST/raw/train-images-idx3-ubyte`` and so on, compressed (``.gz``) or not."""

    folder: str
    name: Literal["MNIST", "FashionMNIST", "KMNIST"] = "MNIST"

    @property
    def label(self) -> str:
        """The name in small letters."""
        return self.name.lower()

    def load(self) -> DataSet:
        """60,000 training and 10,000 test images ``[1, 28, 28]``."""
        return _mnist(self.folder, self.name)


@cache
def _mnist(folder: str, name: str) -> DataSet:
    raw = Path(folder).expanduser() / name / "raw"
    names = [f"{name}/raw/{part}" + (".gz" if (raw / f"{part}.gz").exists() else "") for part in _PARTS]
    images, labels, test_images, test_labels = (
        idx(path) for path in existing(folder, names, f"{name}/raw/ with the four files of torchvision's layout")
    )
    return data_set(images[:, None], labels.astype(np.int64), test_images[:, None], test_labels.astype(np.int64), 10)
