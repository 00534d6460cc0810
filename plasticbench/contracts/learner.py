"""Who learns: what a course asks of its learner, and the course of a trial of the trainer.

Shape legend: ``M`` members of a population, ``E`` environments per member, ``N`` rows of a probe batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from plasticbench.contracts.network import NetworkView
from plasticbench.contracts.task import Demands, EnvSpec, World
from plasticbench.contracts.treatment import Hook, Part, Report
from plasticbench.seeding import Streams

if TYPE_CHECKING:
    import torch
    from torch import Tensor


Precision = Literal["float32", "bfloat16"]
"""Of products and convolutions of hidden layers, and all of modules; whatever is kept is float32."""
Convolutions = Literal["auto", "by_member", "channels_last", "grouped"]
"""How those of a population are made, which differs in rounding: ``learning/convolutions.py``."""
ReplayStore = Literal["auto", "compressed", "raw"]
"""How frames of a replay are held; ``auto`` compresses those that are pictures and take much memory."""


MemberRows = Mapping[str, "Sequence[Tensor]"]
"""What a replay exported, of each member by itself; members that fork from one may share what they are given."""


class SavedReplay(Protocol):
    """What was learnt from, saved row by row; row numbers grow with time and are never used again."""

    @property
    def rows(self) -> int:
        """Rows written since the beginning."""
        ...

    @property
    def oldest_row(self) -> int:
        """The first row that a restored replay still needs."""
        ...

    def clear(self) -> None:
        """Forgets all transitions; the agent begins a new course next."""
        ...

    def meta(self) -> dict[str, Any]:
        """Plain data that, with the chunks of all live rows, restores the replay."""
        ...

    def export(self, since_row: int) -> dict[str, Tensor]:
        """Rows ``[max(since_row, oldest_row), rows)`` as tensors ``[M, ...]``."""
        ...

    def restore(self, meta: dict[str, Any], chunks: Iterable[tuple[int, MemberRows]], parents: Sequence[int]) -> None:
        """Copies chunks (first row, and tensors in this population's order) in order of export."""
        ...


class Learner(Protocol):
    """M members with their networks: what treatments act on, probes look at and checkpoints hold."""

    @property
    def replay(self) -> SavedReplay:
        """What it learns from."""
        ...

    def probe_batch(self, uniforms: np.ndarray) -> Any | None:
        """A sample chosen by uniforms ``[M, N]``, for ``views`` and ``treat``; ``None`` before there is any."""
        ...

    def views(self, batch: Any, previous: Mapping[str, Any] | None = None) -> tuple[NetworkView, ...]:
        """All networks as probes see them; ``previous`` is what ``weights`` returned before a reset."""
        ...

    def weights(self) -> Mapping[str, Any]:
        """A copy of what a reset may change, by name of network."""
        ...

    def parameters(self, member: int) -> dict[str, Tensor]:
        """Copies of one member's trained weights, named as in ``actor.fc1.weight``; targets are left out."""
        ...

    def treat(self, members: Sequence[int], index: int, step: int, batch: Any | None) -> dict[str, Report]:
        """The event of part ``index`` of the members' methods; returns what it did by name of network."""
        ...

    @property
    def not_finite(self) -> Mapping[int, str]:
        """Members that are silent, and what of each was not finite first, for people."""
        ...

    def check_finite(self) -> None:
        """Silences members with weights that are not finite; waits for the device, so it is not done at updates."""
        ...

    def silence(self, faults: Mapping[int, str]) -> None:
        """These members are zeros from now on; all others go on bit-equal."""
        ...

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain data, the replay's rows and who is silent left out."""
        ...

    def load_state_dict(self, tensors: dict[str, Tensor], plain: dict[str, Any], parents: Sequence[int]) -> None:
        """Member i continues as the saved member ``parents[i]``."""
        ...

    def close(self) -> None:
        """Frees processes and memory outside this object."""
        ...


class Agent(Learner, Protocol):
    """A learner that acts: ``agents/<kind>.py``; arrays are shaped ``[M, E, ...]``."""

    def begin(self, obs: np.ndarray, ended: np.ndarray | None = None) -> None:
        """Starts a new course at ``obs``, after environments or their view of the world were changed.

        Episodes that have ``ended`` ``[M, E]`` are over: the next step ignores its action and begins others. By
        default none has.
        """
        ...

    def advance(self, world: World, step: int) -> Iterator[dict[str, Tensor]]:
        """Trains for one stride of the clock, which stands at ``step``; yields the metrics ``[M]`` of updates."""
        ...

    def act_in_evaluation(self, obs: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Actions for evaluation, with uniforms ``[M, E, 2]`` from outside the trial's streams."""
        ...


class AgentConfig(Protocol):
    """``Config`` of an agent; ``agents/_settings.py`` has what most of them answer alike.

    Its module may have ``check(config, spec)``, which raises ``ValueError`` if it cannot act in such environments. It
    may have ``compresses(spec, choice, budget_steps)``, whether ``build`` shall hold frames ``compressed``, and
    ``fits(num_envs, budget_steps)``, which raises for numbers with which it would learn nothing, and
    ``not_settings``: names of settings that others have, and why it has none; and ``sections(spec)``: by name the
    layers of a network on which treatments may be placed alone. ``shows`` is what probes may need of it, of those that
    ``contracts/network.py`` names in ``Shown``; without it they see layers and features.
    """

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the networks as probes see them."""
        ...

    @property
    def trained_networks(self) -> tuple[str, ...]:
        """Names of the networks that treatments may concern."""
        ...

    @property
    def hooks(self) -> tuple[Hook, ...]:
        """The moments at which treatments may act; structures and optimizers need all three."""
        ...

    @property
    def has_temperature(self) -> bool:
        """Whether entropy is weighed by a temperature, which a reset may concern."""
        ...

    @property
    def learning_starts_steps(self) -> int:
        """Agent steps before the first update."""
        ...

    @property
    def demands(self) -> Demands:
        """What it asks of those who run it."""
        ...

    def layers(self, spec: EnvSpec) -> Mapping[str, Sequence[Any]]:
        """The ``LayerSpec`` of each trained network, for structures to rewrite; empty where they cannot."""
        ...

    def memory_bytes(self, spec: EnvSpec, num_members: int) -> int:
        """Bytes of replay and networks of a population."""
        ...

    def disk_bytes(self, spec: EnvSpec, num_members: int) -> int:
        """Bytes of one commit of a population."""
        ...

    def network_bytes(self, spec: EnvSpec) -> int:
        """Bytes of one member's networks, with gradients and moments."""
        ...

    def build(
        self,
        *,
        spec: EnvSpec,
        num_envs: int,
        streams: Sequence[Streams],
        budget_steps: int,
        device: torch.device,
        parts: Sequence[Sequence[Part]],
    ) -> Agent:
        """A population of ``len(streams)`` members; ``parts`` are those of each member's method."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Population:
    """Who is to be trained, and on what: all that a task needs to build its course."""

    agent: Any  # an ``AgentConfig``, or that of a learner
    seeds: Sequence[int]
    parts: Sequence[Sequence[Part]]  # of each member's method
    budget_steps: int
    evaluation: Any  # an ``Evaluation``, or the cadence of one
    device: torch.device
    num_threads: int
    replay_store: ReplayStore = "auto"
    saves_states: bool = True  # of environments that can, in place of all their past actions
    max_replay_s: float = math.inf


class Course(Protocol):
    """What a population goes through: environments, or phases of data.

    The trainer owns the clock, events, probes and records; a course owns the task and trains its learner on it. The
    ``Config`` of a task that needs no agent says when it changes, ``change_steps(budget_steps)``, and builds its
    course, ``build_course(population)``; others get an ``RLCourse``. ``resets_see_new_phase``: whether what resets look
    at are rows of the phase that begins with them, or still of the one that ends.
    """

    change_steps: tuple[int, ...]
    stride_steps: int
    clears_replay: bool
    resets_see_new_phase: bool
    failed: dict[int, str]
    """Members whose task raised, while that of others went on; and what, as Python prints it."""

    @property
    def learner(self) -> Learner:
        """Who is trained."""
        ...

    @property
    def lowest(self) -> Mapping[str, float]:
        """What an evaluation counts as that is not finite, by name of record; NaN where a task has no reference low."""
        ...

    def begin(self) -> None:
        """The learner takes up the task: at step 0, after a restart, and after a change."""
        ...

    def restart(self, step: int) -> None:
        """The task starts anew, by chance that depends on the members' seeds and ``step`` alone."""
        ...

    def set_phase(self, phase: int, step: int) -> None:
        """The task is as it is after ``phase`` changes; called before every stride."""
        ...

    def advance(self, step: int) -> Iterator[Mapping[str, Tensor]]:
        """Trains for one stride of the clock, which stands at ``step``; yields the metrics ``[M]`` of updates."""
        ...

    def evaluate(self, step: int, phase: int) -> Mapping[str, np.ndarray]:
        """Scores ``[M]`` by name of record, ``eval/score`` among them; leaves no trace in the training."""
        ...

    def training_metrics(self) -> Mapping[str, tuple[Sequence[int], Sequence[float]]]:
        """What training showed since the last call: by name of record, the members concerned and their values."""
        ...

    def policy(self, member: int, phase: int) -> Callable[[np.ndarray], np.ndarray]:
        """How ``member`` acts now: raw observations ``[1, ...]`` to actions ``[1, ...]``."""
        ...

    def state_dict(self) -> dict[str, np.ndarray]:
        """Where the task stands, without the learner."""
        ...

    def load_state_dict(
        self, state: Mapping[str, np.ndarray], parents: Sequence[int], *, phase: int, restarts: bool
    ) -> None:
        """Member i goes on as the saved member ``parents[i]``; with ``restarts`` the task is about to start anew.

        ``state`` may hold what is not the course's own.
        """
        ...

    def close(self) -> None:
        """Frees what the task holds."""
        ...
