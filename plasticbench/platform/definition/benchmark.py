"""What a benchmark consists of: frozen settings, plain data out. Reading them from a file is ``benchmark.py``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from plasticbench.contracts.learner import Convolutions, ReplayStore
from plasticbench.contracts.task import EnvConfig, Scenario
from plasticbench.envs.scenarios._unchanged import Unchanged
from plasticbench.platform.definition.clock import STEPS, UPDATES, Clock
from plasticbench.platform.definition.method import Chosen, Method
from plasticbench.platform.definition.start import Start
from plasticbench.schedules import schedule_to_dict
from plasticbench.settings import (
    UNHASHED_DEFAULT,
    Ge,
    Le,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Settings,
    stated,
)

STEP_TIMEOUT_S = 600.0
"""What no environment takes that works, however slow its machine: building one may load gigabytes."""
Boundaries = Literal["known", "hidden"]
Pixels = Annotated[int, Ge(16), Le(1920, "pixels")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """A task of a family under a scenario; ``name`` labels it everywhere. Tasks of data bring their own phases.

    A call of its environments that lasts longer than ``step_timeout_s`` fails their population; ``None``: none does.
    With ``boundaries`` hidden, files in which something acts just where the task changes are refused.
    """

    name: str
    family: Chosen
    scenario: Chosen | None
    step_timeout_s: float | None = STEP_TIMEOUT_S
    boundaries: Boundaries = "known"

    def __post_init__(self) -> None:
        if self.step_timeout_s is not None and not self.step_timeout_s > 0:
            raise ValueError(
                f"step_timeout_s: must be above 0 seconds, or null for no limit, got {self.step_timeout_s}"
            )

    @property
    def config(self) -> EnvConfig:
        """The family's settings."""
        config: EnvConfig = self.family.config
        return config

    @property
    def is_supervised(self) -> bool:
        """Whether it builds its own course, for a learner that does not act."""
        return hasattr(self.config, "build_course")

    def changes(self, seeds: Sequence[int], budget_steps: int, stride_steps: int) -> Scenario:
        """How it changes within a budget. Raises ``ValueError`` where its changes do not fit."""
        if self.scenario is None:
            task: Any = self.config
            phases = Unchanged()
            phases.change_steps = task.change_steps(budget_steps)
            return phases
        if hasattr(self.scenario.config, "check"):
            self.scenario.config.check(self.config)
        scenario: Scenario = self.scenario.config.build(self.config.spec, seeds, budget_steps, stride_steps)
        return scenario

    def identity(self) -> dict[str, Any]:
        """Its settings as trial ids hold them: what gives the same course bit for bit is one."""
        return self.settings() | getattr(self.config, "identity", {})

    def told(self) -> dict[str, Any]:
        """Its settings as plans tell them, with what they equal, by which runs are compared."""
        own, identity = self.settings(), self.identity()
        others = {name: value for name, value in identity.items() if own[name] != value}
        return own | ({"equals": others} if others else {})

    def settings(self) -> dict[str, Any]:
        """Plain data of all that can change a result: no label, no time limit, and nothing that only forbids."""
        return self.family.settings() | ({"scenario": self.scenario.settings()} if self.scenario is not None else {})

    def resolved(self) -> dict[str, Any]:
        """Plain data that reads back as an equal environment."""
        timeout = {} if self.step_timeout_s == STEP_TIMEOUT_S else {"step_timeout_s": self.step_timeout_s}
        hidden = {} if self.boundaries == "known" else {"boundaries": self.boundaries}
        return {"name": self.name, **self.settings(), **timeout, **hidden}


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation(Settings):
    """Every ``every_steps`` agent steps: whole ``episodes``, or ``steps`` agent steps, per member.

    An episode of more than ``max_episode_steps`` agent steps, which may never end, fails its population with a word.
    Atari's longest take 27,000.
    """

    every_steps: PositiveInt
    episodes: PositiveInt | None = None
    steps: PositiveInt | None = None
    num_envs: PositiveInt = 1
    max_episode_steps: PositiveInt = field(default=200_000, metadata=UNHASHED_DEFAULT)

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        if (self.episodes is None) == (self.steps is None):
            raise ValueError(f"needs exactly one of 'episodes' and 'steps', got {self.episodes} and {self.steps}")
        if self.steps is not None and "max_episode_steps" in stated(self):
            raise ValueError("max_episode_steps: this setting has no effect: 'steps' bounds the evaluation. Remove one")
        if self.episodes is not None and self.episodes % self.num_envs:
            raise ValueError(
                f"episodes: must be a multiple of num_envs ({self.num_envs}), so that every environment plays "
                f"equally many, got {self.episodes}"
            )

    def settings(self) -> dict[str, int]:
        """Plain data, without the measure that is not used, nor a limit that is the default."""
        return {name: value for name, value in stated(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseEvaluation(Settings):
    """Of learners of data, every ``every_steps`` updates: on all test rows, and on what updates showed."""

    every_steps: PositiveInt

    def settings(self) -> dict[str, int]:
        """Plain data."""
        return stated(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Probes(Settings):
    """Measurements every ``every_steps`` agent steps on ``batch_rows`` replay rows."""

    every_steps: PositiveInt
    batch_rows: PositiveInt = 512
    probes: tuple[Chosen, ...] = ()

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        labels = self.labels
        if repeated := {label for label in labels if labels.count(label) > 1}:
            raise ValueError(
                f"kinds: each measurement must be listed once, got {', '.join(sorted(repeated))} repeatedly"
            )

    @property
    def labels(self) -> tuple[str, ...]:
        """Metric names, in order."""
        return tuple(probe.config.label for probe in self.probes)

    def settings(self) -> dict[str, Any]:
        """Plain data."""
        kinds = [probe.settings() for probe in self.probes]
        return {"every_steps": self.every_steps, "batch_rows": self.batch_rows, "kinds": kinds}


@dataclass(frozen=True, kw_only=True, slots=True)
class Records(Settings):
    """Losses, returns and speed are recorded every ``every_steps`` agent steps."""

    every_steps: PositiveInt


@dataclass(frozen=True, kw_only=True, slots=True)
class Tracking(Settings):
    """What MLflow shows of the probes: each network's ``totals``, or ``all`` values of single layers as well.

    Record files hold everything in any case; a report never needs MLflow. ``weights`` are the ``final`` ones of each
    trial's networks, kept in the run directory and in MLflow, or ``none``.
    """

    probes: Literal["totals", "all"] = "totals"
    weights: Literal["final", "none"] = "final"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures(Settings):
    """Films of the final policies, ``num_steps`` agent steps each, of the first seed; they change no result."""

    num_steps: PositiveInt = 150
    width: Pixels = 320
    height: Pixels = 240


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint(Settings):
    """Seconds between two commits of a population, what becomes of its end, and how environments are found again.

    With ``ends: remove`` its networks and replay go as soon as nothing that is open goes on from them, which bounds the
    disk. A method that the run is given later then trains from step 0, and no other run can ``start`` from there.

    ``environments``: by a saved state (``exact``), by stepping through all actions since their start (``replay``), or
    not at all (``restart``: new episodes with new seeds, which marks the trials). ``auto`` is ``exact`` for families
    that can save their state, else ``replay``. A replay of more than ``max_replay_s`` is refused.
    """

    every_s: PositiveFloat = 30.0
    ends: Literal["keep", "remove"] = field(default="keep", metadata=UNHASHED_DEFAULT)
    environments: Literal["auto", "exact", "replay", "restart"] = field(default="auto", metadata=UNHASHED_DEFAULT)
    max_replay_s: PositiveFloat = field(default=600.0, metadata=UNHASHED_DEFAULT)


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution(Settings):
    """How the work is cut and what each population is given.

    It is no part of a trial's id. ``members_per_population``, ``num_cpus`` and ``device`` change the order in which
    float32 sums are taken, and training amplifies that rounding: a trial may end otherwise, in favour of no method.
    ``max_concurrent`` bounds the populations that run at once beyond what the resources bound.

    ``replay_store``: how frames of replays are held, with equal results; ``auto`` compresses pictures where a member
    has 256 MiB of them. ``capture``: on a GPU, updates of agents with a replay are recorded as CUDA graphs and
    replayed; ``auto`` does so unless a treatment acts at updates, the optimizer or an adaptive replay ratio decides on
    the host, or a network is a module or keeps running statistics; ``always`` refuses these. ``convolutions``: how
    those of native networks are made, which differs in rounding; ``auto``: on a CPU member by member, on a GPU as was
    fastest with the shapes at hand. ``opener_threads``: that open compressed frames, those of a burst's next update
    while one is trained on, with equal results; by default one beside a GPU, and none on a CPU, whose cores are busy.
    """

    members_per_population: PositiveInt = 32
    num_cpus: PositiveInt = 1
    num_gpus: NonNegativeFloat = 0.0
    device: Literal["cpu", "cuda"] = "cpu"
    max_concurrent: PositiveInt | None = None
    replay_store: ReplayStore = field(default="auto", metadata=UNHASHED_DEFAULT)
    capture: Literal["auto", "always", "never"] = field(default="auto", metadata=UNHASHED_DEFAULT)
    convolutions: Convolutions = field(default="auto", metadata=UNHASHED_DEFAULT)
    opener_threads: Annotated[int, Ge(0)] | None = field(default=None, metadata=UNHASHED_DEFAULT)

    @property
    def num_openers(self) -> int:
        """Threads that open compressed frames."""
        if self.opener_threads is not None:
            return self.opener_threads
        return 1 if self.device == "cuda" else 0

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        if self.device == "cuda" and self.num_gpus <= 0:
            raise ValueError(f"num_gpus: must be above 0 with device 'cuda', got {self.num_gpus}")
        if self.capture == "always" and self.device == "cpu":
            raise ValueError("capture: must be auto with device 'cpu', since CUDA graphs need a GPU, got always")
        if self.num_gpus > 1 and self.num_gpus % 1:
            raise ValueError(f"num_gpus: must be a share of one GPU or a whole number of them, got {self.num_gpus}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """Everything that a file says, with all defaults filled in."""

    name: str
    description: str
    environments: tuple[Environment, ...]
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    budget_steps: int
    evaluation: Evaluation | PhaseEvaluation
    probes: Probes
    records: Records
    tracking: Tracking
    checkpoint: Checkpoint
    execution: Execution
    pictures: Pictures | None = None

    @property
    def network_modules(self) -> tuple[str, ...]:
        """Modules that its networks name, which need not be installed."""
        agents: list[Any] = [method.agent_config for method in self.methods]
        networks = [getattr(agent, field.name) for agent in agents for field in dataclasses.fields(agent)]
        return _named_by(networks)

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules that its environments and networks name."""
        return (*_named_by(environment.config for environment in self.environments), *self.network_modules)

    @property
    def clock(self) -> Clock:
        """What is counted, and what who is trained is called."""
        return UPDATES if self.environments[0].is_supervised else STEPS

    @property
    def starts(self) -> tuple[Start, ...]:
        """Stored weights that trials begin with."""
        found = {method.agent.start.content: method.agent.start for method in self.methods if method.agent.start}
        return tuple(found.values())

    def environment(self, name: str) -> Environment:
        """The environment with this label."""
        return next(environment for environment in self.environments if environment.name == name)

    def method(self, name: str) -> Method:
        """The method with this name."""
        return next(method for method in self.methods if method.name == name)

    def methods_on(self, environment: Environment) -> tuple[Method, ...]:
        """All methods; where the events of one are at a task's changes, they are known."""
        return tuple(self._on(environment, method) for method in self.methods)

    def compresses(self, environment: Environment, agent: Any) -> bool:
        """Whether an agent's replay holds frames of these environments compressed."""
        spec, store = environment.config.spec, self.execution.replay_store
        return hasattr(agent, "compresses") and bool(agent.compresses(spec, store, self.budget_steps))

    def _on(self, environment: Environment, method: Method) -> Method:
        if not method.follows_changes:
            return method
        stride_steps = method.stride_steps(environment.config.num_envs)
        return method.at_changes(environment.changes(self.seeds[:1], self.budget_steps, stride_steps).change_steps)

    def resolved(self) -> dict[str, Any]:
        """Plain data without presets and defaults that reads back as an equal benchmark.

        ``filled_in`` says that settings without effect are no mistake of whoever wrote the file.
        """
        agent = self.methods[0].agent.settings()
        restarts = next((method.restarts for method in self.methods if method.restarts is not None), None)
        data = {
            "name": self.name,
            "description": self.description,
            "environments": [one.resolved() for one in self.environments],
            "agent": agent,
            **({} if restarts is None else {"resets": dict(schedule_to_dict(restarts))}),
            "methods": {method.name: _resolved_method(method, agent) for method in self.methods},
            "seeds": list(self.seeds),
            "budget_steps": self.budget_steps,
            "evaluation": self.evaluation.settings(),
            "probes": self.probes.settings(),
            "records": dataclasses.asdict(self.records),
            "tracking": dataclasses.asdict(self.tracking),
            "checkpoint": stated(self.checkpoint),
            "execution": stated(self.execution),
            **({} if self.pictures is None else {"pictures": dataclasses.asdict(self.pictures)}),
            "filled_in": True,
        }
        return self.clock.written(data)


def _named_by(configs: Iterable[Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for config in configs for name in getattr(config, "modules", ())))


def _resolved_method(method: Method, agent: Mapping[str, Any]) -> Any:
    resolved = method.resolved()
    if (own := method.agent.settings()) == agent:
        return resolved
    return {**resolved, "agent": own} if isinstance(resolved, dict) else {"parts": resolved, "agent": own}
