"""A method: the parts that keep its networks plastic, when each acts, and the agent that they act on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from plasticbench.contracts.learner import AgentConfig
from plasticbench.contracts.treatment import Family, Hook, hooks_of
from plasticbench.contracts.treatment import Part as AgentPart
from plasticbench.platform.definition.parsing import to_dict
from plasticbench.platform.definition.start import Start
from plasticbench.schedules import Boundaries, Schedule, Trigger, rounded_up, schedule_to_dict
from plasticbench.settings import per_member_names

RESET_POLICIES = ("none", "full_reset", "shrink_perturb", "fire", "last_layers")
"""What version 0.1 knew. Alone in a method they keep the trial ids, the forks and the restart that they had there."""


def canonical(data: Any) -> str:
    """One text for equal plain data."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """A plug-in that a file chose, with its ``Config``."""

    kind: str
    config: Any

    def settings(self) -> dict[str, Any]:
        """Plain data that reads back as an equal choice."""
        return to_dict(self.kind, self.config)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenAgent(Chosen):
    """An agent, and the stored weights that its trials begin with, if any."""

    start: Start | None = None

    def settings(self) -> dict[str, Any]:
        """Plain data that reads back as an equal choice."""
        own = Chosen.settings(self)
        return own if self.start is None else own | {"start": self.start.settings()}


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a method. ``schedule`` is when its events are; ``begin`` a fraction of the budget.

    With ``every_steps`` a part without events acts at the first update of each such period.
    """

    family: Family
    chosen: Chosen
    networks: str = "all"
    schedule: Schedule | None = None
    begin: float = 0.0
    every_steps: int | None = None

    @cached_property
    def hooks(self) -> tuple[Hook, ...]:
        """At which moments it acts; none for structures and optimizers, which are what a network is built with."""
        return hooks_of(self.chosen.config.build()) if self.family == "treatments" else ()

    @property
    def kind(self) -> str:
        """The plug-in's name."""
        return self.chosen.kind

    def at_changes(self, steps: tuple[int, ...]) -> Part:
        """The same for a task that changes at these steps."""
        return replace(self, schedule=_at_changes(self.schedule, steps))

    @property
    def is_at_updates(self) -> bool:
        """Whether it acts at updates."""
        return self.hooks not in ((), ("event",))

    def placing(self) -> dict[str, Any]:
        """Where and when it acts, as plain data without what holds by default."""
        placed: dict[str, Any] = {} if self.networks == "all" else {"networks": self.networks}
        placed |= {"from": self.begin} if self.begin else {}
        placed |= {"every": self.every_steps} if self.every_steps is not None else {}
        return placed | dict(schedule_to_dict(self.schedule))

    def settings(self) -> dict[str, Any]:
        """Plain data that reads back as an equal part."""
        return {**self.chosen.settings(), **self.placing()}

    def shared_settings(self) -> dict[str, Any]:
        """Its settings without those in which members of one population may differ."""
        free = per_member_names(self.chosen.config)
        return {name: value for name, value in self.settings().items() if name not in free or value is None}

    def event_steps(self, budget_steps: int, stride_steps: int) -> tuple[int, ...]:
        """Events known in advance: each at the first multiple of the stride at or after it, inside the budget."""
        if self.schedule is None or "event" not in self.hooks:
            return ()
        known = dict.fromkeys(rounded_up(step, stride_steps) for step in self.schedule.steps(budget_steps))
        return tuple(step for step in known if 0 < step < budget_steps)

    def begin_step(self, budget_steps: int, stride_steps: int) -> int:
        """The clock from which on it acts; of a part that acts at known events alone, or from one on, the first."""
        known = self.event_steps(budget_steps, stride_steps)
        if known and (not self.is_at_updates or getattr(self.chosen.config, "begins_at_first_event", False)):
            return known[0]
        return rounded_up(round(self.begin * budget_steps), stride_steps)

    def for_agent(self, budget_steps: int, stride_steps: int) -> AgentPart:
        """What its agent is given."""
        return AgentPart(
            family=self.family,
            kind=self.kind,
            config=self.chosen.config,
            id=hashlib.sha256(canonical(self.settings()).encode()).hexdigest()[:12],
            networks=self.networks,
            begin_step=self.begin_step(budget_steps, stride_steps),
            every_steps=self.every_steps,
        )


@dataclass(frozen=True, kw_only=True)
class Method:
    """Parts in the order in which they act, and the agent that they act on.

    ``restarts`` is the file's default schedule: at its first step the environments of methods that version 0.1 did not
    know start new episodes, so that a method without events of its own is as comparable as one with.
    ``key`` is where it stands in its file; variants of a sweep stand at one.
    """

    name: str
    parts: tuple[Part, ...]
    agent: ChosenAgent
    restarts: Schedule | None = None
    key: str = field(default="", compare=False)

    @cached_property
    def is_reset_policy(self) -> bool:
        """Whether it is one of version 0.1's reset policies and nothing else."""
        (first, *others) = self.parts
        placed = first.placing().keys() - schedule_to_dict(first.schedule).keys()
        return not others and not placed and first.kind in RESET_POLICIES

    @property
    def agent_config(self) -> AgentConfig:
        """The agent's settings."""
        config: AgentConfig = self.agent.config
        return config

    def stride_steps(self, num_envs: int) -> int:
        """Agent steps by which the clock moves at once."""
        return self.agent_config.demands.round_steps * num_envs

    def part_settings(self, part: Part) -> dict[str, Any]:
        """Plain data of a part, without a rule for a temperature that the agent lacks."""
        has_temperature = self.agent_config.has_temperature
        return {name: value for name, value in part.settings().items() if name != "temperature" or has_temperature}

    def settings(self) -> dict[str, Any]:
        """What a trial's settings say of it: a reset policy's own, or each part below its kind."""
        if self.is_reset_policy:
            timed = schedule_to_dict(self.parts[0].schedule)
            return {name: value for name, value in self.part_settings(self.parts[0]).items() if name not in timed}
        kinds = [part.kind for part in self.parts]
        labels = [k if kinds.count(k) == 1 else f"{k}#{kinds[: i + 1].count(k)}" for i, k in enumerate(kinds)]
        own = {label: self.part_settings(part) for label, part in zip(labels, self.parts, strict=True)}
        for settings in own.values():
            del settings["kind"]
        return {"kind": " + ".join(labels), **own}

    def schedule_settings(self) -> dict[str, Any]:
        """When a reset policy acts; parts carry their own schedules, and here stands what restarts the environments."""
        if self.is_reset_policy:
            return dict(schedule_to_dict(self.parts[0].schedule))
        return {"restarts": dict(schedule_to_dict(self.restarts))} if self.restarts is not None else {}

    def resolved(self) -> Any:
        """Plain data that reads back as an equal method."""
        parts = [self.part_settings(part) for part in self.parts]
        return parts[0] if len(parts) == 1 else parts

    @property
    def follows_changes(self) -> bool:
        """Whether a schedule is that of a task's changes."""
        return any(isinstance(one, Boundaries) for one in (self.restarts, *(part.schedule for part in self.parts)))

    def at_changes(self, steps: tuple[int, ...]) -> Method:
        """The same on a task that changes at these steps."""
        parts = tuple(part.at_changes(steps) for part in self.parts)
        return replace(self, parts=parts, restarts=_at_changes(self.restarts, steps))

    # -- when ----------------------------------------------------------------------------------------------------

    def reset_steps(self, budget_steps: int, num_envs: int) -> tuple[int, ...]:
        """Known events of all parts on the clock of the agent, ascending."""
        stride = self.stride_steps(num_envs)
        return tuple(sorted({step for part in self.parts for step in part.event_steps(budget_steps, stride)}))

    def fork_step(self, budget_steps: int, num_envs: int) -> int | None:
        """Where its trials leave what they share with others, and their environments start anew.

        A reset policy's own first event; for every other method the first step of the file's default schedule.
        """
        if self.is_reset_policy:
            return next(iter(self.reset_steps(budget_steps, num_envs)), None)
        known = self.restarts.steps(budget_steps) if self.restarts is not None else ()
        step = rounded_up(known[0], self.stride_steps(num_envs)) if known else 0
        return step if 0 < step < budget_steps else None

    def acting_before(self, step: int, budget_steps: int, num_envs: int) -> tuple[Part, ...]:
        """Parts that make a difference before ``step``; trials with equal ones share their training up to there."""
        stride = self.stride_steps(num_envs)
        return tuple(part for part in self.parts if _acts_before(part, step, budget_steps, stride))

    @cached_property
    def population_key(self) -> str:
        """What must be equal for members of one population: agent, structures, the kind of optimizer, and twins."""
        built = [part.shared_settings() for part in self.parts if part.family != "treatments" or "turn" in part.hooks]
        return canonical([self.agent.settings(), built])


def _at_changes(schedule: Schedule | None, steps: tuple[int, ...]) -> Schedule | None:
    return replace(schedule, known=steps) if isinstance(schedule, Boundaries) else schedule


def _acts_before(part: Part, step: int, budget_steps: int, stride_steps: int) -> bool:
    if part.family == "structures":
        return False  # a population shares them
    if part.family == "optimizers":
        return bool(per_member_names(part.chosen.config))
    if part.kind == "none":
        return False
    if part.is_at_updates and part.begin_step(budget_steps, stride_steps) < step:
        return True
    known = part.event_steps(budget_steps, stride_steps)
    return isinstance(part.schedule, Trigger) or bool(known and known[0] < step)
