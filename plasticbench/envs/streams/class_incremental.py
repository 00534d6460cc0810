"""Class by class: the classes come in a random order, a few more in each phase.

FIRE (isaac7778/FIRE, ``vision/task.py``): twenty phases, each with the rows of all classes seen so far, and accuracy on
the classes seen and on the whole test set. With ``rows: new`` it is the usual class-incremental learning, in which what
came before is forgotten; Dohare et al. 2024 (doi:10.1038/s41586-024-07711-7) add five classes of CIFAR-100 at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from plasticbench.contracts.supervised import DataSet, Measure, Phase
from plasticbench.envs.streams._base import StreamSettings, held_out, training
from plasticbench.seeding import derive_generator
from plasticbench.settings import Ge


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(StreamSettings):
    """``rows``: those of all classes ``seen`` so far, or of the ``new`` ones alone; the test is of the same classes.

    ``equal``: whether all phases have as many ``passes`` over their rows, or as many ``updates``.
    """

    measure: ClassVar[Measure] = "test"
    phases: Annotated[int, Ge(2)] = 20
    rows: Literal["seen", "new"] = "seen"
    equal: Literal["passes", "updates"] = "passes"

    @property
    def differs(self) -> bool:
        """The test of seen classes contains those before it."""
        return self.rows == "new"

    def check(self, data: DataSet) -> None:
        """No phase without a class, no class without rows."""
        if self.phases > data.num_classes:
            raise ValueError(f"phases: must be at most the {data.num_classes} classes of the data, got {self.phases}")
        for name, labels in (("training", data.labels), ("test", data.test_labels)):
            if missing := sorted(set(range(data.num_classes)) - set(labels.tolist())):
                raise ValueError(f"phases: class {missing[0]} has no {name} rows, so its phase would be empty")

    def lengths(self, data: DataSet) -> Sequence[float]:
        """In proportion to the classes, or equal."""
        counts = [len(self._classes(data, 0, index)) for index in range(self.phases)]
        return tuple(float(count if self.equal == "passes" else 1) for count in counts)

    def phase(self, data: DataSet, seed: int, index: int) -> Phase:
        """Rows of the classes of the phase."""
        classes = self._classes(data, seed, index)
        seen = self._classes(data, seed, index, since_first=True)
        wider = {"all_classes": held_out(data)}
        if self.rows == "new":
            wider["seen_classes"] = held_out(data, seen)
        chosen = np.nonzero(np.isin(data.labels, classes))[0]
        return Phase(train=training(data, chosen), test=held_out(data, classes), wider=wider)

    def _classes(self, data: DataSet, seed: int, index: int, *, since_first: bool = False) -> np.ndarray:
        order = derive_generator(seed, "stream", "classes").permutation(data.num_classes)
        parts = np.array_split(order, self.phases)
        first = 0 if self.rows == "seen" or since_first else index
        return np.concatenate(parts[first : index + 1])
