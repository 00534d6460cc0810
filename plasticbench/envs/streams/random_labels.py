"""Random labels: the same images under new random labels in each phase, to be learned by heart.

Lyle et al. 2023, arXiv 2303.01486; Kumar et al. 2023, arXiv 2308.11958 (1,200 images, 50 phases of 400 passes). There
is nothing to generalise, so what is lost from phase to phase is the ability to fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from plasticbench.contracts.supervised import DataSet, Phase, Rows
from plasticbench.envs.streams._base import StreamSettings, check_samples, random_rows
from plasticbench.seeding import derive_generator
from plasticbench.settings import Ge, PositiveInt


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(StreamSettings):
    """``samples`` training rows, chosen by the seed and the same in all phases; by default all."""

    differs: ClassVar[bool] = False
    phases: Annotated[int, Ge(2)] = 10
    samples: PositiveInt | None = None

    def check(self, data: DataSet) -> None:
        """There must be so many rows."""
        check_samples(data, self.samples)

    def phase(self, data: DataSet, seed: int, index: int) -> Phase:
        """The same rows under labels drawn anew; of other rows nothing can be known."""
        rows = random_rows(data, seed, self.samples)
        labels = derive_generator(seed, "stream", "labels", index).integers(data.num_classes, size=len(rows))
        return Phase(train=Rows(rows, labels), test=None)
