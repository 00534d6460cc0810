"""When the phases of a stream begin, on the clock of updates."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise


def change_updates(lengths: Sequence[float], budget_updates: int) -> tuple[int, ...]:
    """Updates at which each phase after the first begins: the budget, divided in proportion to the lengths.

    Raises ``ValueError`` if a phase would have no update.
    """
    ends = [round(budget_updates * part / sum(lengths)) for part in accumulate(lengths)]
    if any(before >= after for before, after in pairwise([0, *ends])):
        raise ValueError(
            f"phases: each needs an update, and {len(lengths)} phases do not fit into a budget of {budget_updates:,} "
            "updates. Raise budget_updates, or take fewer phases"
        )
    return tuple(ends[:-1])
