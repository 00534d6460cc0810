"""Which methods are really apart: the one test behind every claim of a report, rank bracket and criterion of a suite.

Of a board's methods the best is picked from the data and compared with many, often from five seeds each whose spreads
differ by an order of magnitude. Pairwise intervals then claim differences where there are none, Tukey's test among
them. This test compares mean scores of all pairs, with four rules that were chosen by simulation
(``python -m benchmarks.null_claims`` prints every cell, and what is left of the power):

* the variance of a difference is the two methods' own (Welch), or the mean of all methods' where that is larger: a
  lucky small spread of two among many methods proves nothing;
* what methods share seed by seed is taken off as far as it is certain (``correlation_bound``);
* the degrees of freedom are those of all methods' variances together (Satterthwaite), halved and less one, and no more
  than two samples have: they fall where one spread outweighs the others, which is where skewed scores deceive;
* the level of one pair is ``pair_level``.

Sharp two-mode scores are beyond any test: all five seeds of a method fall into one mode of two with a probability of
6 %, and nothing in the data tells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from plasticbench.analysis.aggregate import MIN_SEEDS, Runs

FAMILY_LEVEL = 0.05
"""Share of boards without any difference on which something is claimed, at most."""
_MAX_PAIR_LEVEL = 0.02
_ONE_PAIR_LEVEL = 0.04  # of two methods with few seeds
_FEW_SEEDS = 7
_FEW_SEEDS_FACTOR = 2.3  # with fewer, the guards alone hold the level; Bonferroni on top of them would find nothing
POWER = 0.8
HARDLY = 0.1
"""Scores below it, of too few seeds for a test, are taken for random play."""
_POWER_DRAWS = 4_000
_MOST_SEEDS = 200
_POWER_SEED = 20260301


class Comparison(NamedTuple):
    """All ordered pairs ``[..., M, M]``: mean of the row's method minus the column's, and what its noise allows.

    ``is_ahead`` holds where the row is ahead of the column at the family's level, ``bound`` is half the width of the
    simultaneous interval of ``difference``: it excludes zero just where one of the two is ahead.
    """

    difference: np.ndarray
    bound: np.ndarray
    is_ahead: np.ndarray


def pair_level(num_methods: int, num_seeds: int) -> float:
    """Level of the test of one pair, so that all pairs together make false claims in 5 % at most."""
    pairs = num_methods * (num_methods - 1) // 2
    is_few = num_seeds < _FEW_SEEDS
    if is_few and pairs == 1:
        return _ONE_PAIR_LEVEL
    return min(_MAX_PAIR_LEVEL, (_FEW_SEEDS_FACTOR if is_few else 1.0) * FAMILY_LEVEL / pairs)


def is_testable(scores: Mapping[str, Sequence[Runs]]) -> bool:
    """Whether there is something to compare, and every task of every method has enough seeds."""
    return len(scores) > 1 and all(len(runs.seeds) >= MIN_SEEDS for tasks in scores.values() for runs in tasks)


def compare_methods(scores: Mapping[str, Sequence[Runs]]) -> Comparison:
    """Compares the methods of a board, in their order; every task weighs the same."""
    counts = np.array([[len(runs.seeds) for runs in tasks] for tasks in scores.values()])
    means = np.array([[runs.values.mean() for runs in tasks] for tasks in scores.values()])
    return compare(means, _variances(scores), counts, _shared_by_seeds(scores))


def compare(
    means: np.ndarray, variances: np.ndarray, counts: np.ndarray, correlation: np.ndarray | float = 0.0
) -> Comparison:
    """The test from means and sample variances ``[..., M, tasks]`` of ``counts`` ``[M, tasks]`` runs each.

    ``correlation`` ``[...]`` is what methods surely share seed by seed.
    """
    num_methods = len(counts)
    error, freedom = _noise(variances, counts, np.asarray(correlation))
    overall = means.mean(axis=-1)
    difference = overall[..., :, None] - overall[..., None, :]
    if num_methods < 2:
        return Comparison(difference, np.zeros_like(difference), np.zeros_like(difference, dtype=bool))
    level = pair_level(num_methods, int(counts.min()))
    bound = stdtrit(freedom, 1.0 - level / 2)[..., None, None] * error
    return Comparison(difference, bound, (difference > bound) & (difference > 0.0))


def above_reference(scores: Mapping[str, Sequence[Runs]]) -> np.ndarray:
    """Which methods ``[M]`` have a mean score above 0, the reference low, which is random play where a task has it.

    Student's t of each method by itself, as what spreads in others says nothing about it, one-sided at 2.5 % over all
    methods (Bonferroni). Random play is the mean of many episodes, so this holds for normal scores and such as are
    skewed to the high side; where it had two modes, five seeds would all fall into the upper one in 3 % of cases.
    """
    counts = np.array([[len(runs.seeds) for runs in tasks] for tasks in scores.values()])
    means = np.array([np.mean([runs.values.mean() for runs in tasks]) for tasks in scores.values()])
    return above_zero(means, _variances(scores), counts)


def has_learned(scores: Mapping[str, Sequence[Runs]]) -> dict[str, bool]:
    """Of each method whether its mean score is above 0 as far as anything can tell; with few seeds by its size."""
    if all(len(runs.seeds) >= MIN_SEEDS for tasks in scores.values() for runs in tasks):
        return dict(zip(scores, above_reference(scores).tolist(), strict=True))
    return {m: bool(np.mean([runs.values.mean() for runs in tasks]) >= HARDLY) for m, tasks in scores.items()}


def above_zero(means: np.ndarray, variances: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The same from means ``[..., M]`` and sample variances ``[..., M, tasks]`` of ``counts`` ``[M, tasks]`` runs."""
    cells = variances / (counts * counts.shape[1] ** 2)
    own, squares = cells.sum(axis=-1), (cells**2 / (counts - 1)).sum(axis=-1)
    with np.errstate(invalid="ignore"):
        freedom = np.where(squares > 0.0, own**2 / squares, 1.0)
    bound = stdtrit(freedom, 1.0 - FAMILY_LEVEL / (2 * len(counts))) * np.sqrt(own)
    is_above: np.ndarray = (means > bound) & (means > 0.0)
    return is_above


def detectable_difference(scores: Mapping[str, Sequence[Runs]]) -> float:
    """Difference of mean scores that the test finds with 80 % between two methods of the board's mean spread."""
    counts = np.array([[len(runs.seeds) for runs in tasks] for tasks in scores.values()])
    spread = np.sqrt(_variances(scores).mean() * (1.0 - _shared_by_seeds(scores)))
    return float(spread * detectable_spreads(counts))


def seeds_needed(scores: Mapping[str, Sequence[Runs]], difference: float) -> int | None:
    """Fewest seeds with which ``detectable_difference`` is at most that; ``None`` if 200 are too few."""
    shape = np.ones((len(scores), len(next(iter(scores.values())))), dtype=int)
    spread = float(np.sqrt(_variances(scores).mean() * (1.0 - _shared_by_seeds(scores))))
    if spread * detectable_spreads(_MOST_SEEDS * shape) > difference:
        return None
    counts = range(MIN_SEEDS, _MOST_SEEDS + 1)
    return next(seeds for seeds in counts if spread * detectable_spreads(seeds * shape) <= difference)


def detectable_spreads(counts: np.ndarray) -> float:
    """The same in standard deviations of one run, for normal scores of equal spread; by simulation, fixed seed."""
    rng = np.random.Generator(np.random.PCG64(_POWER_SEED))
    variances = rng.chisquare(counts - 1, size=(_POWER_DRAWS, *counts.shape)) / (counts - 1)
    means = rng.standard_normal((_POWER_DRAWS, *counts.shape)) / np.sqrt(counts)
    found = compare(means, variances, counts)
    return float(np.quantile(found.bound[:, 0, 1] - found.difference[:, 0, 1], POWER))


def correlation_bound(residuals: np.ndarray) -> np.ndarray:
    """Lower bound ``[...]`` of the correlation of methods seed by seed, from residuals ``[..., M, tasks, seeds]``.

    Methods of one seed share their start, and with forks all training before their first event. The mean correlation
    of all pairs counts as far as it is two standard errors above none (Fisher's z).
    """
    num_methods, num_tasks, num_seeds = residuals.shape[-3:]
    freedom = num_tasks * (num_seeds - 1)
    own = (residuals**2).sum(axis=(-1, -2)) / freedom
    joint = (residuals.mean(axis=-3) ** 2).sum(axis=(-1, -2)) / freedom
    covariance = (num_methods**2 * joint - own.sum(axis=-1)) / (num_methods * (num_methods - 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nan_to_num(covariance / own.mean(axis=-1))
    bound = np.tanh(np.arctanh(np.clip(mean, 0.0, 1.0 - 1e-9)) - 2.0 / np.sqrt(freedom * (num_methods - 1)))
    kept: np.ndarray = np.maximum(bound, 0.0)
    return kept


def _shared_by_seeds(scores: Mapping[str, Sequence[Runs]]) -> np.ndarray | float:
    seeds = {runs.seeds for tasks in scores.values() for runs in tasks}
    if len(scores) < 2 or len(seeds) > 1:
        return 0.0
    values = np.array([[runs.values for runs in tasks] for tasks in scores.values()])
    return correlation_bound(values - values.mean(axis=-1, keepdims=True))


def _variances(scores: Mapping[str, Sequence[Runs]]) -> np.ndarray:
    variances: np.ndarray = np.array([[runs.values.var(ddof=1) for runs in tasks] for tasks in scores.values()])
    return variances


def _noise(variances: np.ndarray, counts: np.ndarray, correlation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard error of each difference ``[..., M, M]`` and the degrees of freedom ``[...]``."""
    num_tasks = counts.shape[1]
    cells = variances / (counts * num_tasks**2)
    own = cells.sum(axis=-1)
    shared = correlation[..., None, None]
    pair = own[..., :, None] + own[..., None, :] - 2.0 * shared * np.sqrt(own[..., :, None] * own[..., None, :])
    floor = 2.0 * own.mean(axis=-1)[..., None, None] * (1.0 - shared)
    total, squares = own.sum(axis=-1), (cells**2 / (counts - 1)).sum(axis=(-1, -2))
    with np.errstate(invalid="ignore"):
        freedom = np.where(squares > 0.0, total**2 / squares, 2.0 * counts.min())
    return np.sqrt(np.maximum(pair, floor)), np.clip(freedom / 2 - 1, 1.0, 2.0 * (counts.min() - 1))
