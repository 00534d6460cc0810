"""CIFAR-10 and CIFAR-100 from a folder, as torchvision and the authors' archives lay them out: 32 x 32 in colour.

Krizhevsky 2009. Extract ``cifar-10-python.tar.gz`` or ``cifar-100-python.tar.gz`` into the folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from plasticbench.contracts.supervised import DataSet
from plasticbench.envs.datasets._files import existing, unpickled
from plasticbench.envs.datasets._statistics import data_set
from plasticbench.settings import Settings

_STATISTICS = {
    10: ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    100: ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}
"""Mean and deviation by channel of the training images, as they are published and used everywhere."""
_FILES = {
    10: ([f"cifar-10-batches-py/data_batch_{n}" for n in range(1, 6)], ["cifar-10-batches-py/test_batch"], b"labels"),
    100: (["cifar-100-python/train"], ["cifar-100-python/test"], b"fine_labels"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``folder`` holds ``cifar-10-batches-py`` or ``cifar-100-python``; ``classes`` says which."""

    folder: str
    classes: Literal[10, 100] = 10

    @property
    def label(self) -> str:
        """``cifar10`` or ``cifar100``."""
        return f"cifar{self.classes}"

    def load(self) -> DataSet:
        """50,000 training and 10,000 test images ``[3, 32, 32]``."""
        return _cifar(self.folder, self.classes)


@cache
def _cifar(folder: str, classes: int) -> DataSet:
    training, test, labels = _FILES[classes]
    layout = f"{training[0].partition('/')[0]}/ as the archive cifar-{classes}-python.tar.gz has it"
    paths = existing(folder, [*training, *test], layout)
    batches = [unpickled(path) for path in paths]
    images = [np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32) for batch in batches]
    names = [np.asarray(batch[labels], np.int64) for batch in batches]
    train = np.concatenate(images[:-1]), np.concatenate(names[:-1])
    return data_set(*train, images[-1], names[-1], classes, _STATISTICS[classes])
