"""Images of your own in one NumPy archive: ``x_train``, ``y_train``, ``x_test`` and ``y_test``.

Images are bytes, ``[rows, height, width]`` or ``[rows, height, width, channels]``; labels are whole numbers from 0 on.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from plasticbench.contracts.supervised import DataSet
from plasticbench.envs.datasets._files import channels_first
from plasticbench.envs.datasets._statistics import data_set
from plasticbench.settings import PositiveInt, Settings

_NAMES = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``path`` of the file; ``classes``, where that is more than the largest label says."""

    path: str
    classes: PositiveInt | None = None

    @property
    def label(self) -> str:
        """The file's name."""
        return Path(self.path).stem

    def load(self) -> DataSet:
        """What the file holds."""
        return _archive(self.path, self.classes)


@cache
def _archive(path: str, classes: int | None) -> DataSet:
    file = Path(path).expanduser()
    try:
        with np.load(file, allow_pickle=False) as found:
            if missing := [name for name in _NAMES if name not in found]:
                raise ValueError(f"path: {file.absolute()} has no {missing[0]}; expected are {', '.join(_NAMES)}")
            x_train, y_train, x_test, y_test = (found[name] for name in _NAMES)
    except FileNotFoundError as error:
        raise ValueError(f"path: there is no {file.absolute()}; expected is a file with {', '.join(_NAMES)}") from error
    except (OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"path: {file.absolute()} cannot be read: {error}") from error
    images, test_images = channels_first(x_train, "path: x_train"), channels_first(x_test, "path: x_test")
    labels, test_labels = (np.asarray(y, np.int64).reshape(-1) for y in (y_train, y_test))
    for name, rows, own in (("train", images, labels), ("test", test_images, test_labels)):
        if len(rows) != len(own):
            raise ValueError(f"path: x_{name} has {len(rows)} rows and y_{name} {len(own)}")
    if images.shape[1:] != test_images.shape[1:]:
        raise ValueError(f"path: training images are {images.shape[1:]}, test images {test_images.shape[1:]}")
    largest = int(max(labels.max(initial=-1), test_labels.max(initial=-1)))
    return data_set(images, labels, test_images, test_labels, classes or largest + 1)
