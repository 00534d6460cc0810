"""When something happens: pure functions of a trial's clock, the agent step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from plasticbench.settings import Ge, MinLen, OpenFraction, Settings

AgentSteps = Annotated[int, Ge(1, "agent step")]
Fractions = Annotated[tuple[OpenFraction, ...], MinLen(1, "fraction of the budget")]


def rounded_up(step: int, stride_steps: int) -> int:
    """The first multiple of the stride at or after ``step``: where a clock that moves by strides passes it."""
    return -(-step // stride_steps) * stride_steps


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearSchedule:
    """From ``start`` to ``end`` over ``duration_steps`` steps that begin at ``begin_step``; constant outside."""

    start: float
    end: float
    begin_step: int
    duration_steps: int

    def value(self, step: int) -> float:
        """The value at ``step``."""
        if self.duration_steps <= 0:
            return self.end if step >= self.begin_step else self.start
        fraction = min(max((step - self.begin_step) / self.duration_steps, 0.0), 1.0)
        return self.start + fraction * (self.end - self.start)


@dataclass(frozen=True, kw_only=True, slots=True)
class At(Settings):
    """At fractions of the budget, each strictly between 0 and 1."""

    at: Fractions

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        if list(self.at) != sorted(set(self.at)):
            raise ValueError(f"at: must be in ascending order without repetition, got {list(self.at)}")

    def steps(self, budget_steps: int) -> tuple[int, ...]:
        """Fractions in agent steps, rounded to the nearest step."""
        return tuple(round(fraction * budget_steps) for fraction in self.at)


@dataclass(frozen=True, kw_only=True, slots=True)
class Boundaries:
    """``at: boundaries``: whenever the task changes. ``known`` are the steps at which it does, once it is known."""

    known: tuple[int, ...] = ()

    def steps(self, budget_steps: int) -> tuple[int, ...]:
        """The task's changes."""
        return self.known


@dataclass(frozen=True, kw_only=True, slots=True)
class Every(Settings):
    """Every ``every`` agent steps, the first after one period; ``until`` (agent steps, exclusive) ends it."""

    every: AgentSteps
    until: AgentSteps | None = None

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        if self.until is not None and self.until <= self.every:
            raise ValueError(f"until: must lie after the first event at step {self.every}, got {self.until}")

    def steps(self, budget_steps: int) -> tuple[int, ...]:
        """Multiples of the period before the end of the budget."""
        return tuple(range(self.every, min(budget_steps, self.until or budget_steps), self.every))


@dataclass(frozen=True, kw_only=True, slots=True)
class Trigger(Settings):
    """When a probe's total on the online network crosses a bound, for each member by itself.

    ``at_most_every`` (agent steps) is the shortest time between two events of a member, and before its first.
    """

    probe: str
    at_most_every: AgentSteps
    above: float | None = None
    below: float | None = None
    network: str = "online"

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        if (self.above is None) == (self.below is None):
            raise ValueError("needs exactly one of 'above' and 'below'")

    def steps(self, budget_steps: int) -> tuple[int, ...]:
        """Nothing is known in advance."""
        return ()

    def fires(self, value: float, step: int, last_event_step: int) -> bool:
        """Whether a member with this probe value has an event now; ``last_event_step`` is 0 before the first."""
        if step - last_event_step < self.at_most_every:
            return False
        return value > self.above if self.above is not None else value < (self.below or 0.0)


Schedule = At | Boundaries | Every | Trigger


def schedule_to_dict(schedule: Schedule | None) -> Mapping[str, Any]:
    """Plain data for plans, hashes and MLflow parameters."""
    match schedule:
        case None:
            return {}
        case At(at=at):
            return {"at": list(at)}
        case Boundaries():
            return {"at": "boundaries"}
        case Every(every=every, until=until):
            return {"every": every} | ({"until": until} if until is not None else {})
        case Trigger():
            bound = {"above": schedule.above} if schedule.above is not None else {"below": schedule.below}
            when = {"probe": schedule.probe, **bound, "at_most_every": schedule.at_most_every}
            return {"when": when | {"network": schedule.network}}
