"""The mark ``overvalued``: whether a trial's values left what any policy can earn, from its records alone.

``q/bound_ratio`` is the mean magnitude of values over r / (1 - discount), with r the largest reward seen, and 0 until
there was any (``agents/_value_bound.py``). Ten records running above 2 are no noise of a young network. What such a
trial shows is divergence and not lost plasticity (Hussing et al. 2024, arXiv 2403.05996); it keeps its score and rank.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

RATIO = "q/bound_ratio"
LIMIT = 2.0
NUM_RECORDS = 10


class Overvalued(NamedTuple):
    """Agent steps of the first and of the last record at which a trial's values were too large."""

    first_step: int
    last_step: int


class ValueCourse(NamedTuple):
    """What a trial's ratios have shown so far: how many records running were above the limit, and since which step."""

    num_above: int = 0
    since_step: int = 0
    mark: Overvalued | None = None

    def then(self, step: int, ratio: float) -> ValueCourse:
        """The course after one more record; a ratio that is not a number is no value within any bound."""
        if ratio <= LIMIT:
            return ValueCourse(mark=self.mark)
        num_above, since_step = self.num_above + 1, self.since_step if self.num_above else step
        if num_above < NUM_RECORDS:
            return ValueCourse(num_above, since_step, self.mark)
        return ValueCourse(num_above, since_step, Overvalued(self.mark.first_step if self.mark else since_step, step))


def overvalued(steps: np.ndarray, ratios: np.ndarray) -> Overvalued | None:
    """The mark of a trial from its records ``[n]`` in their order, ``None`` if its values stayed within the limit."""
    if np.count_nonzero(~(ratios <= LIMIT)) < NUM_RECORDS:
        return None
    course = ValueCourse()
    for step, ratio in zip(steps.tolist(), ratios.tolist(), strict=True):
        course = course.then(step, ratio)
    return course.mark
