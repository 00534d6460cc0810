"""Permuted labels: in each phase the classes swap their names, and what the images show stays.

As in Kumar et al. 2023 (arXiv 2308.11958) and Elsayed & Mahmood 2024 (arXiv 2404.00781, label-permuted EMNIST).
Features learned before are worth as much as ever; what has to change is the way from them to the outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from plasticbench.contracts.supervised import DataSet, Phase, Rows
from plasticbench.envs.streams._base import SameRowsSettings, held_out, random_rows, training
from plasticbench.seeding import derive_generator


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(SameRowsSettings):
    """``samples`` training rows, chosen by the seed and the same in all phases; by default all."""

    differs: ClassVar[bool] = True

    def phase(self, data: DataSet, seed: int, index: int) -> Phase:
        """The same rows; class c is called ``names[c]``. In the first phase classes have their own names."""
        names = derive_generator(seed, "stream", "names", index).permutation(data.num_classes) if index else None

        def named(own: Rows) -> Rows:
            return own if names is None else Rows(own.rows, names[own.labels])

        return Phase(train=named(training(data, random_rows(data, seed, self.samples))), test=named(held_out(data)))
