"""When a task changes, and what becomes of the replay then: settings that scenarios share."""

from __future__ import annotations

from typing import Literal

from plasticbench.schedules import At, Fractions, rounded_up

ReplayRule = Literal["keep", "clear"]


def change_steps(at: Fractions, budget_steps: int, stride_steps: int) -> tuple[int, ...]:
    """The first multiple of the stride at or after each fraction of ``budget_steps`` (of one member).

    Raises ``ValueError`` unless these are different steps inside the budget.
    """
    steps = tuple(rounded_up(step, stride_steps) for step in At(at=at).steps(budget_steps))
    if list(steps) != sorted(set(steps)) or steps[0] == 0 or steps[-1] >= budget_steps:
        raise ValueError(
            f"at: changes must fall on different steps inside the budget of {budget_steps} steps, got {steps}"
        )
    return steps


def equal_phases(phases: int, budget_steps: int, stride_steps: int) -> tuple[int, ...]:
    """Where all but the first of ``phases`` begin. Raises ``ValueError`` unless each has a step of its own."""
    steps = tuple(rounded_up(round(phase * budget_steps / phases), stride_steps) for phase in range(1, phases))
    if len({0, *steps, budget_steps}) != phases + 1 or steps[-1] > budget_steps:
        raise ValueError(
            f"phases: must each begin on a step of its own inside the budget of {budget_steps} steps, got {phases}"
        )
    return steps
