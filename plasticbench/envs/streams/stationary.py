"""Nothing changes: all training rows from beginning to end. The control of every other stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from plasticbench.contracts.supervised import DataSet, Measure, Phase
from plasticbench.envs.streams._base import StreamSettings, held_out, training


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(StreamSettings):
    """One phase, scored on the test set."""

    measure: ClassVar[Measure] = "test"
    differs: ClassVar[bool] = False

    def phase(self, data: DataSet, seed: int, index: int) -> Phase:
        """All rows."""
        return Phase(train=training(data), test=held_out(data))
