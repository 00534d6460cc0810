"""The mark ``restarted``: a trial whose environments began new episodes where its run was gone on with.

``checkpoint.environments: restart`` asks for it. What such a trial shows depends on when it was interrupted, so it
cannot be made again from its seed; it keeps its score and rank.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

RESTARTED = "resume/restarted"
"""The record that marks a trial, 1 at each step at which it happened."""


def restarts(table: pd.DataFrame) -> dict[tuple[Any, ...], list[int]]:
    """The steps of restarts by task, method and seed."""
    trials = table[table["name"] == RESTARTED].groupby(["task", "method", "seed"], observed=True)["step"]
    return {key: sorted(set(steps.tolist())) for key, steps in trials}
