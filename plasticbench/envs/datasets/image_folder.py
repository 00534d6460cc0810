"""Images in one folder for each class, as torchvision's ``ImageFolder`` reads them: ``train/<class>/*.png``.

The test has folders of its own. All images are brought to one size and kept in memory: for sets like Tiny ImageNet
(64 x 64, 200 classes), whose ``val`` has to be sorted into classes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from plasticbench.contracts.supervised import DataSet
from plasticbench.envs.datasets._files import existing
from plasticbench.envs.datasets._statistics import data_set
from plasticbench.settings import PositiveInt, Settings

_ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # those of ImageFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``folder`` holds ``train`` and ``val``, or what ``test`` names; images become squares of ``size`` pixels."""

    folder: str
    size: PositiveInt
    test: str = "val"

    @property
    def label(self) -> str:
        """The folder's name."""
        return Path(self.folder).name

    def load(self) -> DataSet:
        """In colour; classes in the order of their names."""
        return _folder(self.folder, self.size, self.test)


@cache
def _folder(folder: str, size: int, test: str) -> DataSet:
    train, held_out = existing(folder, ["train", test], f"train/<class>/*.png and {test}/<class>/*.png")
    classes = sorted(path.name for path in train.iterdir() if path.is_dir())
    return data_set(*_images(train, classes, size), *_images(held_out, classes, size), len(classes))


def _images(folder: Path, classes: list[str], size: int) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image

    if strangers := sorted({path.name for path in folder.iterdir() if path.is_dir()} - set(classes)):
        raise ValueError(f"folder: {folder} has a class {strangers[0]!r} that the training images have not")
    found: list[tuple[Path, int]] = []
    for number, name in enumerate(classes):
        paths = (folder / name).rglob("*")
        found += [(path, number) for path in sorted(paths) if path.suffix.lower() in _ENDINGS]
    if not found:
        raise ValueError(f"folder: {folder.absolute()} has no images in folders of classes")
    images = np.empty((len(found), 3, size, size), np.uint8)
    for row, (path, _) in enumerate(found):
        with Image.open(path) as image:
            pixels = image.convert("RGB")
            pixels = pixels if pixels.size == (size, size) else pixels.resize((size, size), Image.Resampling.BILINEAR)
            images[row] = np.asarray(pixels).transpose(2, 0, 1)
    return images, np.array([number for _, number in found], np.int64)
