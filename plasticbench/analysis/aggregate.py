"""Aggregate statistics over runs x tasks, after Agarwal et al. 2021 (https://arxiv.org/abs/2108.13264).

Scores are one array ``[..., runs]`` per task, so that tasks may have different numbers of runs; a matrix
``[runs, tasks]`` is ``list(matrix.T)``. Leading dimensions are kept: the bootstrap passes all its samples at once.
Scores are normalised: 0 is the reference low, 1 the reference high.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

Scores = Sequence[np.ndarray]
Statistic = Callable[[Scores], np.ndarray]

MIN_SEEDS = 5
"""With fewer seeds in any task there is no interval and no claim: points alone, as a hint."""
RESAMPLES = 10_000
_CHUNK = 1_000


class Runs(NamedTuple):
    """The scores ``[runs]`` of one method on one task, and the seed of each."""

    values: np.ndarray
    seeds: tuple[int, ...]


def iqm(scores: Scores) -> np.ndarray:
    """Interquartile mean: all runs of all tasks pooled, a quarter dropped at each end (rounded down)."""
    pooled = np.sort(np.concatenate(scores, axis=-1), axis=-1)
    cut = pooled.shape[-1] // 4
    middle: np.ndarray = pooled[..., cut : pooled.shape[-1] - cut].mean(axis=-1)
    return middle


def mean(scores: Scores) -> np.ndarray:
    """Mean of the task means: every task weighs the same."""
    means: np.ndarray = _task_means(scores).mean(axis=-1)
    return means


def median(scores: Scores) -> np.ndarray:
    """Median of the task means."""
    middle: np.ndarray = np.median(_task_means(scores), axis=-1)
    return middle


def optimality_gap(scores: Scores, target: float = 1.0) -> np.ndarray:
    """How far the scores fall short of ``target`` on average; what lies above it does not make up. Lower is better."""
    gap: np.ndarray = target - mean([np.minimum(task, target) for task in scores])
    return gap


def performance_profile(scores: Scores, thresholds: np.ndarray) -> np.ndarray:
    """Share ``[..., thresholds]`` of the pooled runs that score strictly more than each threshold."""
    pooled = np.concatenate(scores, axis=-1)
    return np.stack([(pooled > threshold).mean(axis=-1) for threshold in thresholds], axis=-1)


def probability_of_improvement(x: Scores, y: Scores) -> float:
    """P(X > Y): chance that a run of X beats a run of Y on the same task, ties count half; mean over tasks."""
    return float(np.mean([_win_share(a, b, _equal(a), _equal(b)) for a, b in zip(x, y, strict=True)]))


def bootstrap(
    scores: Mapping[str, Sequence[Runs]], statistic: Statistic, rng: np.random.Generator, resamples: int = RESAMPLES
) -> dict[str, np.ndarray]:
    """Distribution ``[resamples, ...]`` of a statistic for each method, runs resampled within each task.

    Methods with the same seeds on a task share one draw, so differences between the distributions are paired: trials
    of one seed share their start, and often all training up to the first reset.
    """
    parts: dict[str, list[np.ndarray]] = {method: [] for method in scores}
    for draws in _draws(scores, rng, resamples):
        for method, tasks in scores.items():
            parts[method].append(
                statistic([runs.values[index] for runs, index in zip(tasks, draws[method], strict=True)])
            )
    return {method: np.concatenate(chunks) for method, chunks in parts.items()}


def bootstrap_improvement(
    scores: Mapping[str, Sequence[Runs]], rng: np.random.Generator, resamples: int = RESAMPLES
) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
    """Distribution ``[resamples]`` of ``probability_of_improvement`` for each ordered pair of methods.

    One after the other: those of hundreds of methods together would take gigabytes.
    """
    drawn = [
        {m: [_shares(i, len(runs.seeds)) for i, runs in zip(draws[m], scores[m], strict=True)] for m in scores}
        for draws in _draws(scores, rng, resamples)
    ]
    for a, b in combinations(scores, 2):
        parts = []
        for shares in drawn:
            tasks = zip(scores[a], scores[b], shares[a], shares[b], strict=True)
            parts.append(np.mean([_win_share(x.values, y.values, p, q) for x, y, p, q in tasks], axis=0))
        values = np.concatenate(parts)
        yield (a, b), values
        yield (b, a), 1.0 - values


def has_interval(tasks: Sequence[Runs]) -> bool:
    """Whether every task has enough runs for an interval."""
    return bool(tasks) and all(len(runs.seeds) >= MIN_SEEDS for runs in tasks)


def interval(distribution: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval over the first dimension of a bootstrap distribution."""
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(distribution, [tail, 100.0 - tail], axis=0)
    return low, high


def _task_means(scores: Scores) -> np.ndarray:
    means: np.ndarray = np.stack([task.mean(axis=-1) for task in scores], axis=-1)
    return means


def _win_share(x: np.ndarray, y: np.ndarray, x_shares: np.ndarray, y_shares: np.ndarray) -> np.ndarray:
    """P(X > Y) plus half of P(X = Y), ``[...]``, where each run makes up its share ``[..., runs]`` of a sample.

    Through the distribution function of ``y``: comparing all pairs would be quadratic in the seeds.
    """
    order = np.argsort(y)
    upto = np.cumsum(y_shares[..., order], axis=-1)
    upto = np.concatenate([np.zeros_like(upto[..., :1]), upto], axis=-1)
    below, not_above = (np.searchsorted(y[order], x, side) for side in ("left", "right"))
    wins: np.ndarray = (x_shares * (upto[..., below] + upto[..., not_above])).sum(axis=-1) / 2
    return wins


def _equal(runs: np.ndarray) -> np.ndarray:
    return np.full(len(runs), 1.0 / len(runs))


def _shares(index: np.ndarray, num_runs: int) -> np.ndarray:
    """How much of each sample ``[resamples, drawn]`` each run makes up: ``[resamples, runs]``."""
    offset = index + num_runs * np.arange(len(index))[:, None]
    counts = np.bincount(offset.ravel(), minlength=num_runs * len(index))
    shares: np.ndarray = counts.reshape(len(index), num_runs) / index.shape[1]
    return shares


def _draws(
    scores: Mapping[str, Sequence[Runs]], rng: np.random.Generator, resamples: int
) -> Iterator[dict[str, list[np.ndarray]]]:
    """Chunks of indices ``[chunk, runs]`` per method and task, equal where the seeds are."""
    for start in range(0, resamples, _CHUNK):
        chunk = min(_CHUNK, resamples - start)
        drawn: dict[tuple[int, tuple[int, ...]], np.ndarray] = {}
        for tasks in scores.values():
            for task, runs in enumerate(tasks):
                if (task, runs.seeds) not in drawn:
                    count = len(runs.seeds)
                    drawn[task, runs.seeds] = rng.integers(count, size=(chunk, count))
        yield {m: [drawn[task, runs.seeds] for task, runs in enumerate(tasks)] for m, tasks in scores.items()}
