"""Which steps of a task its methods have in common: changes of the task, and resets that all of them make."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from plasticbench.analysis.runs import Trial


class TaskEvents(NamedTuple):
    """Agent steps in ascending order.

    ``resets`` are those at which each method but controls and references does; what one method does by itself is no
    event of the task. A control has none, whatever its schedule says, as nothing happens to it.
    """

    changes: tuple[int, ...] = ()
    resets: tuple[int, ...] = ()
    settled_step: int | None = None  # from when on each method has had its first reset

    @property
    def steps(self) -> tuple[int, ...]:
        """Of all events."""
        return tuple(sorted({*self.changes, *self.resets}))

    @property
    def after_step(self) -> int | None:
        """From when on evaluations tell what methods are for: the first change, else each method's first reset.

        One step for all methods, so that what lies after it is the same stretch of training for each.
        """
        return self.changes[0] if self.changes else self.settled_step

    def label(self, step: int) -> str:
        """What happens at a step."""
        names = {(True, False): "change", (False, True): "reset", (True, True): "change and reset"}
        return names.get((step in self.changes, step in self.resets), "")


def task_events(trials: Iterable[Trial]) -> TaskEvents:
    """The events of one task from all of its trials, of one or of several runs."""
    changes: set[int] = set()
    resets: dict[str, set[int]] = {}
    for trial in trials:
        changes.update(trial.change_steps)
        if not trial.is_control and not trial.is_reference:
            resets.setdefault(trial.method, set()).update(trial.events)
    shared = set.intersection(*resets.values()) if resets else set()
    return TaskEvents(
        changes=tuple(sorted(changes)),
        resets=tuple(sorted(shared)),
        settled_step=max((min(steps) for steps in resets.values() if steps), default=None),
    )


def own_resets(trials: Iterable[Trial]) -> dict[str, tuple[int, ...]]:
    """The steps at which each method of one task resets something, controls left out."""
    resets: dict[str, set[int]] = {}
    for trial in trials:
        if trial.reset_steps and not trial.is_control:
            resets.setdefault(trial.method, set()).update(trial.reset_steps)
    return {method: tuple(sorted(steps)) for method, steps in resets.items()}
