"""Random labels: the same images under new random labels in each phase, to be learned by heart.

Lyle et al. 2023, arXiv 2303.01486; Kumar et al. 2023, arXiv 2308.11958 (1,200 images, 50 phases of 400 passes). There
is nothing to generalise, so what is lost from phase to phase is the ability to fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from plasticbench.contracts.supervised import DataSet, Phase, Rows
from plasticbench.envs.streams._base import SameRowsSettings, random_rows
from plasticbench.seeding import derive_generator


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(SameRowsSettings):
    """``samples`` training rows, chosen by the seed and the same in all phases; by default all."""

    differs: ClassVar[bool] = False

    def phase(self, data: DataSet, seed: int, index: int) -> Phase:
        """The same rows under labels drawn anew; of other rows nothing can be known."""
        rows = random_rows(data, seed, self.samples)
        labels = derive_generator(seed, "stream", "labels", index).integers(data.num_classes, size=len(rows))
        return Phase(train=Rows(rows, labels), test=None)
