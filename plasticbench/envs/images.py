"""Images in classes, phase by phase: supervised tracks on digits, or on data sets that lie in a folder of yours.

The data are kept as bytes, normalised by channel, and gathered on the device. One update of the learner is one step of
the clock, so ``budget_updates`` times ``batch_rows`` rows are read in all, pass after pass of each phase's rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from plasticbench.contracts.learner import Population
from plasticbench.contracts.supervised import DataConfig, DataSet, StreamConfig
from plasticbench.contracts.task import DiscreteActions, EnvSpec
from plasticbench.envs._feed import ImageMaterial
from plasticbench.envs._phases import change_updates
from plasticbench.envs._supervised import SupervisedCourse, supervised_course
from plasticbench.envs.datasets import digits
from plasticbench.envs.streams import stationary
from plasticbench.plugins import PluginField
from plasticbench.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``data`` and how they change: ``stream``."""

    num_envs: ClassVar[int] = 1
    data: Annotated[Any, PluginField("datasets")] = field(default_factory=digits.Config)
    stream: Annotated[Any, PluginField("streams")] = field(default_factory=stationary.Config)

    def _loaded(self) -> DataSet:
        """The data; what is wrong with them is said below ``data``."""
        config: DataConfig = self.data
        try:
            return config.load()
        except ValueError as error:
            joint = "." if re.match(r"[a-z]+: ", str(error)) else ": "
            raise ValueError(f"data{joint}{error}") from error

    @property
    def _stream(self) -> StreamConfig:
        stream: StreamConfig = self.stream
        return stream

    @property
    def task(self) -> str:
        """Data and stream."""
        return f"{self.data.label}_{type(self.stream).__module__.rpartition('.')[2]}"

    @property
    def spec(self) -> EnvSpec:
        """Shape of an image, and the classes."""
        data = self._loaded()
        return EnvSpec(
            obs_shape=data.shape, obs_dtype="uint8", actions=DiscreteActions(count=self._stream.num_outputs(data))
        )

    @property
    def score_source(self) -> str:
        """What a score is."""
        what = {"online": "told right before each update of a phase", "test": "of the test told right"}
        return f"0: no row {what[self._stream.measure]}; 1: every row"

    @property
    def memory_bytes(self) -> int:
        """Of the data, on the host and on the device."""
        data = self._loaded()
        return data.images.nbytes + data.test_images.nbytes

    def score(self, accuracy: float) -> float:
        """Accuracies are scores."""
        return accuracy

    def change_steps(self, budget_steps: int) -> tuple[int, ...]:
        """Updates at which the phases after the first begin. Raises ``ValueError`` for a stream that does not fit."""
        data = self._loaded()
        self._stream.check(data)
        return change_updates(self._stream.lengths(data), budget_steps)

    def build_course(self, population: Population) -> SupervisedCourse:
        """The phases of a population, and its learner in them."""
        batch_rows: int = population.agent.batch_rows
        material = ImageMaterial(self._loaded(), self._stream, population.seeds, batch_rows, population.device)
        return supervised_course(material, population, self.spec, self.change_steps(population.budget_steps))

    def build(self, seeds: Sequence[int], num_threads: int) -> Any:
        """Raises ``TypeError``: there is nothing to act in."""
        raise TypeError("images are no environment to act in")
