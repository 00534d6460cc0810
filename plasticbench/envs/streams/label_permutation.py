"""Permuted labels: in each phase the classes swap their names, and what the images show stays.

As in Kumar et al. 2023 (arXiv 2308.11958) and Elsayed & Mahmood 2024 (arXiv 2404.00781, label-permuted EMNIST).
Features learned before are worth as much as ever; what has to change is the way from them to the outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from plasticbench.contracts.supervised import DataSet, Phase, Rows
from plasticbench.envs.streams._base import StreamSettings, check_samples, held_out, random_rows, training
from plasticbench.seeding import derive_generator
from plasticbench.settings import Ge, PositiveInt


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(StreamSettings):
    """``samples`` training rows, chosen by the seed and the same in all phases; by default all."""

    differs: ClassVar[bool] = True
    phases: Annotated[int, Ge(2)] = 10
    samples: PositiveInt | None = None

    def check(self, data: DataSet) -> None:
        """There must be so many rows."""
        check_samples(data, self.samples)

    def phase(self, data: DataSet, seed: int, index: int) -> Phase:
        """The same rows; class c is called ``names[c]``. In the first phase classes have their own names."""
        names = derive_generator(seed, "stream", "names", index).permutation(data.num_classes) if index else None

        def named(own: Rows) -> Rows:
            return own if names is None else Rows(own.rows, names[own.labels])

        return Phase(train=named(training(data, random_rows(data, seed, self.samples))), test=named(held_out(data)))
