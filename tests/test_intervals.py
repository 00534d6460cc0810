import numpy as np
import pytest
from scipy import stats

from benchmarks.coverage import coverage
from plasticbench.analysis.intervals import iqm_interval


def generator() -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(5))


def test_five_equal_scores_have_an_interval_of_no_width():
    assert iqm_interval([np.full(5, 0.7)]) == pytest.approx((0.7, 0.7))


def test_the_plain_interval_by_hand_where_it_is_the_wider():
    scores = np.array([0.0, 1.0, 1.0, 1.0, 1.0])  # trimming hides the one that failed
    half = stats.t.ppf(0.975, 4) * scores.std(ddof=1) / np.sqrt(5)
    assert iqm_interval([scores]) == pytest.approx((1.0 - half, 1.0 + half))


def test_the_winsorised_interval_by_hand_where_it_is_the_wider():
    scores = np.array([0.0, 0.1, 0.5, 0.9, 1.0])
    winsorised = np.array([0.1, 0.1, 0.5, 0.9, 0.9])
    # Tukey and McLaughlin: (n - 1) s_w^2 / (h (h - 1)) with h = 3 kept, and h - 1 degrees of freedom.
    half = stats.t.ppf(0.975, 2) * np.sqrt(4 * winsorised.var(ddof=1) / (3 * 2))
    assert half > stats.t.ppf(0.975, 4) * scores.std(ddof=1) / np.sqrt(5)
    assert iqm_interval([scores]) == pytest.approx((0.5 - half, 0.5 + half))


def test_what_lies_between_tasks_does_not_widen_the_interval():
    apart = [np.array([0.0, 0.0, 0.0, 0.0, 0.0]), np.array([1.0, 1.0, 1.0, 1.0, 1.0])]
    assert iqm_interval(apart) == pytest.approx((0.5, 0.5))


def test_leading_dimensions_are_kept():
    tasks = [generator().normal(size=(4, 5)), generator().normal(size=(4, 8))]
    low, high = iqm_interval(tasks)
    single = [iqm_interval([task[i] for task in tasks]) for i in range(4)]
    assert np.stack([low, high], axis=1) == pytest.approx(np.array(single, dtype=float))


@pytest.mark.parametrize("num_tasks", [1, 6])
@pytest.mark.parametrize("num_seeds", [5, 8, 10, 20])
@pytest.mark.parametrize("shape", ["normal", "uniform", "exponential", "t(3)"])
def test_intervals_cover_at_least_93_percent(shape, num_seeds, num_tasks):
    assert coverage(shape, num_seeds, num_tasks, 4_000, generator()) > 0.93 - 0.008  # two standard errors
