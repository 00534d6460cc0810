"""``boundaries: hidden``: methods must not know when a task changes, so nothing in a file may act just there."""

from __future__ import annotations

from plasticbench.platform.definition.benchmark import Benchmark, Environment
from plasticbench.platform.definition.method import Method, Part
from plasticbench.platform.definition.parsing import Problems
from plasticbench.schedules import At, Boundaries, Schedule

_ADVICE = "Use 'every', 'when', or 'boundaries: known'"


def check_boundaries(benchmark: Benchmark, environment: Environment, key: str, problems: Problems) -> None:
    """Notes what would tell methods of changes that the environment hides; references may know."""
    if environment.boundaries == "known":
        return
    changes = environment.changes(benchmark.seeds[:1], benchmark.budget_steps, environment.config.num_envs)
    if not changes.change_steps:
        problems.add(f"{key}.boundaries", f"{environment.name!r} never changes, so nothing is hidden. Remove it")
    if changes.clears_replay:
        problems.add(
            f"{key}.scenario.replay", "must be 'keep' with 'boundaries: hidden': who clears a replay knows why"
        )
    for method in benchmark.methods_on(environment):
        for where, schedule in _schedules(method):
            if _tells(schedule, changes.change_steps, benchmark.budget_steps):
                problems.add(where, f"acts at the changes of {environment.name!r}, which hides them. {_ADVICE}")


def _schedules(method: Method) -> list[tuple[str, Schedule | None]]:
    """When a method acts, and when environments start anew for it, by key."""
    if any(_is_reference(part) for part in method.parts):
        return []
    own = [(f"methods.{method.name}.at", part.schedule) for part in method.parts if "event" in part.hooks]
    return [*own, ("resets.at", method.restarts)]


def _is_reference(part: Part) -> bool:
    return bool(getattr(part.chosen.config, "is_reference", False))


def _tells(schedule: Schedule | None, changes: tuple[int, ...], budget_steps: int) -> bool:
    if isinstance(schedule, Boundaries):
        return True
    return isinstance(schedule, At) and not set(changes).isdisjoint(schedule.steps(budget_steps))
