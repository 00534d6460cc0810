"""What supervised tracks share: data, the phases of a stream, and who learns from them.

Shape legend: ``M`` members of a population, ``B`` rows of a batch, ``n`` training rows of a phase, ``t`` its test rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np

from plasticbench.contracts.learner import Learner, SavedReplay

if TYPE_CHECKING:
    from torch import Tensor

Measure = Literal["online", "test"]
"""What the score of a stream is: accuracy before each update over a phase so far, or on test rows."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DataSet:
    """Examples in memory; ``mean`` and ``std`` of the training images by channel, in [0, 1], are what normalises them.

    Images are ``[rows, channels, height, width]``, uint8; labels ``[rows]``, int64, 0 to ``num_classes`` - 1.
    """

    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image: channels, height, width."""
        return self.images.shape[1:]


class DataConfig(Protocol):
    """``Config`` of a data set: ``envs/datasets/<kind>.py``. Nothing is downloaded."""

    @property
    def label(self) -> str:
        """What the data are called in the names of tasks."""
        ...

    def load(self) -> DataSet:
        """Raises ``ValueError`` that names the folder that was looked at and the layout that was expected."""
        ...


class Rows(NamedTuple):
    """Rows of a training or test set ``[n]``, and what each is to be called ``[n]``."""

    rows: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Phase:
    """What one member meets between two changes.

    ``permutation`` ``[pixels]`` shuffles flattened images, channels and all; ``wider`` are further tests by name.
    Without ``test`` there is nothing to generalise.
    """

    train: Rows
    test: Rows | None
    permutation: np.ndarray | None = None
    wider: Mapping[str, Rows] = field(default_factory=dict)


class StreamConfig(Protocol):
    """``Config`` of a stream: ``envs/streams/<kind>.py``. All that chance decides depends on seed and phase alone."""

    @property
    def measure(self) -> Measure:
        """What its score is."""
        ...

    @property
    def differs(self) -> bool:
        """Whether phases have tests of their own, so that what was learned before can be forgotten."""
        ...

    def check(self, data: DataSet) -> None:
        """Raises ``ValueError`` with the setting's name where the data do not allow the stream."""
        ...

    def num_outputs(self, data: DataSet) -> int:
        """Classes that a network must tell apart."""
        ...

    def lengths(self, data: DataSet) -> Sequence[float]:
        """How long each phase is, relative to the others."""
        ...

    def phase(self, data: DataSet, seed: int, index: int) -> Phase:
        """What the member of this seed meets in a phase, 0 being the first."""
        ...


class Batch(NamedTuple):
    """What an update learns from, one batch a member, normalised."""

    inputs: Tensor  # [M, B, ...]
    labels: Tensor  # [M, B], or [M, B, T] of sequences


class Source(Protocol):
    """The training rows of the phase under way, on the device."""

    def sample(self, uniforms: np.ndarray) -> Batch:
        """Rows chosen by uniforms ``[M, B]``."""
        ...


Pieces = Iterator[tuple[Batch, "Tensor"]]
"""Rows in pieces, with weights ``[M, B]`` that sum to 1 for each member."""


class Entered(Source, Protocol):
    """A phase as the members of a population meet it."""

    def batch(self, update: int) -> Batch:
        """What update number ``update`` of the phase, from 0, reads."""
        ...

    def known(self) -> Pieces | None:
        """Training rows that tell how much is known by heart, where that can be told."""
        ...

    def tests(self) -> Mapping[str, Pieces]:
        """By name: ``test`` is that of the phase."""
        ...


class Material(Protocol):
    """What a population meets, phase by phase."""

    @property
    def differs(self) -> bool:
        """Whether phases have tests of their own, so that what was learned before can be forgotten."""
        ...

    def enter(self, phase: int) -> Entered:
        """A phase, 0 being the first."""
        ...

    def score(self, found: Mapping[str, np.ndarray]) -> np.ndarray:
        """The score ``[M]``, in [0, 1], from accuracies and losses ``[M]`` by name of record."""
        ...


@dataclass(frozen=True, slots=True)
class PhaseClock:
    """Where in its phase an update stands: number ``update``, from 0, of ``updates``."""

    update: int
    updates: int


class SupervisedLearner(Learner, Protocol):
    """A learner that is told what is right: ``agents/learners/<kind>.py``."""

    def meet(self, source: Source) -> None:
        """Further probes look at rows of this source."""
        ...

    def begin_phase(self) -> None:
        """A new phase begins, and not only goes on after an interruption."""
        ...

    def update(self, batch: Batch, step: int, at: PhaseClock) -> Mapping[str, Tensor]:
        """One update at clock ``step``; metrics ``[M]``, ``online/accuracy`` and ``loss/...`` before it among them."""
        ...

    def judge(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Whether each row ``[M, B]`` is told right, as a number, and its loss; in evaluation mode."""
        ...


class NoReplay:
    """For learners that store nothing: the data are where they were."""

    rows = 0
    oldest_row = 0

    def clear(self) -> None:
        """There is nothing to forget."""

    def meta(self) -> dict[str, Any]:
        """There is nothing to say."""
        return {}

    def export(self, since_row: int) -> dict[str, Tensor]:
        """There is nothing to save."""
        return {}

    def restore(self, meta: dict[str, Any], chunks: Any, parents: Sequence[int]) -> None:
        """There is nothing to load."""


_: type[SavedReplay] = NoReplay
