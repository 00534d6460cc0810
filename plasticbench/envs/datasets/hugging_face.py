"""A data set of images that Hugging Face's ``datasets`` saved to a folder, by its ``load_from_disk``.

The package is imported when it is needed, and is no dependency: ``pip install datasets``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from plasticbench.contracts.supervised import DataSet
from plasticbench.envs.datasets._files import existing
from plasticbench.envs.datasets._statistics import data_set
from plasticbench.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``train`` and ``test`` are names of splits, ``image`` and ``labels`` of columns."""

    folder: str
    train: str = "train"
    test: str = "test"
    image: str = "image"
    labels: str = "label"

    @property
    def label(self) -> str:
        """The folder's name."""
        return Path(self.folder).name

    def load(self) -> DataSet:
        """All images must be of one size."""
        return _saved(self.folder, (self.train, self.test), (self.image, self.labels))


@cache
def _saved(folder: str, splits: tuple[str, str], columns: tuple[str, str]) -> DataSet:
    existing(folder, ["dataset_dict.json"], "what save_to_disk of a DatasetDict writes")
    try:
        from datasets import load_from_disk
    except ImportError as error:
        raise ValueError(f"folder: reading {folder} takes Hugging Face's package: pip install datasets") from error
    found: Any = load_from_disk(str(Path(folder).expanduser()))
    if missing := [split for split in splits if split not in found]:
        raise ValueError(f"train, test: {folder} has no split {missing[0]!r}, only {', '.join(found)}")
    (images, labels), (test_images, test_labels) = (_arrays(found[split], *columns) for split in splits)
    return data_set(images, labels, test_images, test_labels, int(max(labels.max(), test_labels.max())) + 1)


def _arrays(split: Any, image: str, labels: str) -> tuple[np.ndarray, np.ndarray]:
    from plasticbench.envs.datasets._files import channels_first

    pictures = [np.asarray(one) for one in split[image]]
    if len(shapes := {picture.shape for picture in pictures}) > 1:
        raise ValueError(f"image: all images must be of one shape, got {sorted(shapes)[:3]}")
    return channels_first(np.stack(pictures), "image"), np.asarray(split[labels], np.int64)
