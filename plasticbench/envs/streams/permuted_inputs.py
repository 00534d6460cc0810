"""Permuted inputs: the pixels are shuffled anew in each phase, and the labels stay.

Goodfellow et al. 2013, arXiv 1312.6211; for plasticity, Dohare et al. 2024 (doi:10.1038/s41586-024-07711-7) make 800
phases of one pass over MNIST and score the accuracy before each update. The first phase is not permuted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from plasticbench.contracts.supervised import DataSet, Phase
from plasticbench.envs.streams._base import SameRowsSettings, held_out, random_rows, training
from plasticbench.seeding import derive_generator


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(SameRowsSettings):
    """``samples`` training rows, chosen by the seed and the same in all phases; by default all."""

    differs: ClassVar[bool] = True

    def phase(self, data: DataSet, seed: int, index: int) -> Phase:
        """The same rows under another permutation."""
        permutation = derive_generator(seed, "stream", "pixels", index).permutation(math.prod(data.shape))
        return Phase(
            train=training(data, random_rows(data, seed, self.samples)),
            test=held_out(data),
            permutation=permutation if index else None,
        )
