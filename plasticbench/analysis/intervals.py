"""95% intervals of the interquartile mean, and of the median, that hold with few seeds.

A bootstrap of five runs knows five values and no tails: its percentile interval covers 87 to 91 % of what it claims to
cover in 95 %. Here the wider of two studentised intervals around the IQM is taken, both stratified by task:

* Tukey and McLaughlin's of a trimmed mean (Sankhya A 25, 1963): Student's t on the winsorised variance;
* Student's t on the plain variance, which sees what trimming hides: the one seed of five that failed.

``python -m benchmarks.coverage`` prints what they cover, by simulation: at least 93 % from five seeds on for normal,
uniform, exponential and t(3) scores. Where scores have two modes no interval can: too often all
five seeds fall into one of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from plasticbench.analysis.aggregate import MIN_SEEDS, Scores, iqm
from plasticbench.analysis.rows import Estimate

_TAIL = 0.975
_MEDIAN_COVERAGE = 0.9375
"""What the whole range of five values covers; no interval of order statistics covers more of so few."""


class Median(NamedTuple):
    """A median and its interval; infinite where what is measured never came, ``None`` with too few values."""

    value: float
    low: float | None
    high: float | None


def median_interval(values: np.ndarray) -> Median:
    """The median of values ``[n]``, and between which of the sorted values it lies whatever their distribution.

    The narrowest pair of order statistics that covers the population's median in 93.75 % at least (Thompson 1936);
    values may be infinite.
    """
    ordered, count = np.sort(values), len(values)
    centre = float((ordered[(count - 1) // 2] + ordered[count // 2]) / 2)
    if count < MIN_SEEDS:
        return Median(centre, None, None)
    below, outside = -1, 0.0
    while outside + 2 * math.comb(count, below + 1) / 2**count <= 1.0 - _MEDIAN_COVERAGE:
        below += 1
        outside += 2 * math.comb(count, below) / 2**count
    return Median(centre, float(ordered[below]), float(ordered[count - 1 - below]))


def estimate_of(values: Sequence[float]) -> Estimate:
    """The IQM of one task's runs, with its interval where there are enough; ``None`` beyond what floats hold."""
    scores = [np.array(values, dtype=float)]
    centre = float(iqm(scores))
    if len(values) < MIN_SEEDS or not np.isfinite(centre):
        return Estimate(centre if np.isfinite(centre) else None)
    low, high = iqm_interval(scores)
    return Estimate(centre, float(low), float(high))


def iqm_interval(scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """Low and high ``[...]`` of the IQM of scores ``[..., runs]`` per task; runs are independent within each task."""
    centre = iqm(scores)
    half = np.maximum(_winsorised(scores), _plain(scores))
    return centre - half, centre + half


def _plain(scores: Scores) -> np.ndarray:
    total = sum(task.shape[-1] for task in scores)
    variances = [task.shape[-1] * task.var(axis=-1, ddof=1) / total**2 for task in scores]
    return _half_width(variances, [task.shape[-1] - 1 for task in scores])


def _winsorised(scores: Scores) -> np.ndarray:
    """Of what lies within the middle half of all tasks, runs beyond moved to its ends."""
    pooled = np.sort(np.concatenate(scores, axis=-1), axis=-1)
    total = pooled.shape[-1]
    cut = total // 4
    kept = total - 2 * cut
    low, high = pooled[..., cut, None], pooled[..., total - cut - 1, None]
    variances, freedom = [], []
    for task in scores:
        runs = task.shape[-1]
        own = runs * kept / total  # runs of this task in the middle half, if it had its share
        spread = np.clip(task, low, high).var(axis=-1, ddof=1)
        variances.append((runs - 1) * own / max(own - 1, 0.5) * spread / kept**2)
        freedom.append(max(own - 1, 1.0))
    return _half_width(variances, freedom)


def _half_width(variances: Sequence[np.ndarray], freedom: Sequence[float]) -> np.ndarray:
    """Student's t with the degrees of freedom of a sum of variances (Satterthwaite)."""
    total = np.sum(variances, axis=0)
    squares = np.sum([variance**2 / own for variance, own in zip(variances, freedom, strict=True)], axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        joint = np.where(squares > 0.0, total**2 / squares, 1.0)
    half: np.ndarray = stdtrit(joint, _TAIL) * np.sqrt(total)
    return half
