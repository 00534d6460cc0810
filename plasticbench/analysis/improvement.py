"""The probability that a run of one method beats one of another on the same task, for all pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from plasticbench.analysis import aggregate
from plasticbench.analysis.aggregate import Runs

BOOTSTRAP_SEED = 20210831
_RESAMPLES = 2_000


class Improvement(NamedTuple):
    """P(a run of ``method`` ends with a higher score than one of ``over``), ties counting half, and its interval."""

    method: str
    over: str
    value: float
    low: float | None
    high: float | None

    @property
    def colour(self) -> str:
        """Nothing at one half, blue towards 1, orange towards 0; of the page's background as much as is left."""
        colour = "0 114 178" if self.value > 0.5 else "213 94 0"
        return f"rgb({colour} / {abs(self.value - 0.5):.2f})"


def improvements(scores: Mapping[str, Sequence[Runs]]) -> list[Improvement]:
    """All ordered pairs of the methods."""
    bounds: Mapping[tuple[str, str], tuple[Any, Any]] = {}
    if scores and all(aggregate.has_interval(tasks) for tasks in scores.values()):
        rng = np.random.Generator(np.random.PCG64(BOOTSTRAP_SEED))
        samples = aggregate.bootstrap_improvement(scores, rng, resamples=_RESAMPLES)
        bounds = {pair: aggregate.interval(values) for pair, values in samples}
    found = []
    for a, b in ((a, b) for a in scores for b in scores if a != b):
        x, y = ([runs.values for runs in scores[method]] for method in (a, b))
        low, high = bounds.get((a, b), (None, None))
        value = aggregate.probability_of_improvement(x, y)
        found.append(Improvement(a, b, value, *(None if end is None else float(end) for end in (low, high))))
    return found
