import numpy as np
import pytest
from scipy import stats

from plasticbench.analysis import aggregate
from plasticbench.analysis.aggregate import Runs


def generator() -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(7))


def test_iqm_of_eight_numbers_is_the_mean_of_the_middle_four():
    assert aggregate.iqm([np.array([100.0, 1, 2, 3, 4, 5, 6, -100])]) == pytest.approx(3.5)


@pytest.mark.parametrize("count, expected", [(1, 0.0), (2, 0.5), (3, 1.0), (4, 1.5), (5, 2.0), (7, 3.0)])
def test_iqm_drops_a_quarter_rounded_down_at_each_end(count, expected):
    assert aggregate.iqm([np.arange(count, dtype=float)]) == pytest.approx(expected)


def test_iqm_of_three_skewed_numbers_drops_none():
    assert aggregate.iqm([np.array([0.0, 0.0, 9.0])]) == pytest.approx(3.0)


@pytest.mark.parametrize("shape", [(5, 1), (5, 26), (3, 3), (10, 7)])
def test_iqm_agrees_with_scipy_trim_mean(shape):
    matrix = generator().normal(size=shape)
    assert aggregate.iqm(list(matrix.T)) == pytest.approx(stats.trim_mean(matrix, 0.25, axis=None), abs=1e-12)


def test_mean_median_and_gap_of_tasks_with_different_numbers_of_runs():
    scores = [np.array([0.0, 1.0]), np.array([0.2, 0.4, 0.6]), np.array([3.0])]
    assert aggregate.mean(scores) == pytest.approx((0.5 + 0.4 + 3.0) / 3)
    assert aggregate.median(scores) == pytest.approx(0.5)
    assert aggregate.optimality_gap(scores) == pytest.approx(1 - (0.5 + 0.4 + 1.0) / 3)
    assert aggregate.iqm(scores) == pytest.approx((0.2 + 0.4 + 0.6 + 1.0) / 4)


def test_median_is_of_task_means_and_not_of_runs():
    assert aggregate.median([np.array([0.0, 0.0, 9.0]), np.array([1.0])]) == pytest.approx(2.0)


@pytest.mark.parametrize("statistic", [aggregate.iqm, aggregate.mean, aggregate.median, aggregate.optimality_gap])
def test_statistics_keep_leading_dimensions(statistic):
    scores = [generator().normal(size=(4, 5)), generator().normal(size=(4, 3))]
    batched = statistic(scores)
    assert batched == pytest.approx([float(statistic([task[i] for task in scores])) for i in range(4)])


def test_performance_profile_counts_strictly_greater_scores():
    share = aggregate.performance_profile([np.array([0.0, 0.5]), np.array([0.5, 1.0])], np.array([-1, 0.5, 0.7, 1.0]))
    assert share == pytest.approx([1.0, 0.25, 0.25, 0.0])


def test_probability_of_improvement_by_hand():
    x, y = [np.array([1.0, 2.0]), np.array([0.0])], [np.array([0.0, 2.0]), np.array([1.0])]
    assert aggregate.probability_of_improvement(x, y) == pytest.approx(((1 + 0 + 1 + 0.5) / 4 + 0) / 2)


def test_probability_of_improvement_of_equal_scores_is_one_half():
    assert aggregate.probability_of_improvement([np.ones(4)], [np.ones(3)]) == pytest.approx(0.5)


def test_probability_of_improvement_agrees_with_the_mann_whitney_statistic():
    x, y = generator().integers(0, 9, size=(2, 12)).astype(float)
    expected = stats.mannwhitneyu(x, y).statistic / 144
    assert aggregate.probability_of_improvement([x], [y]) == pytest.approx(expected)


def test_stratified_interval_agrees_with_scipy():
    tasks = [generator().normal(i, 1 + i, size=12) for i in range(3)]
    samples = aggregate.bootstrap({"a": [Runs(task, tuple(range(12))) for task in tasks]}, aggregate.mean, generator())
    expected = stats.bootstrap(
        tasks,
        lambda *samples, axis: np.mean([sample.mean(axis=axis) for sample in samples], axis=0),
        method="percentile",
        n_resamples=20_000,
        rng=generator(),
    ).confidence_interval
    low, high = aggregate.interval(samples["a"])
    width = expected.high - expected.low
    assert abs(low - expected.low) < 0.05 * width
    assert abs(high - expected.high) < 0.05 * width


def test_bootstrap_repeats_from_equal_generators_across_its_chunks():
    scores = {"a": [Runs(generator().normal(size=5), tuple(range(5)))]}
    first, again = (aggregate.bootstrap(scores, aggregate.iqm, generator(), resamples=2_500)["a"] for _ in range(2))
    assert len(first) == 2_500
    assert np.array_equal(first, again)
    assert not np.array_equal(first[:1_000], first[1_000:2_000])


def test_methods_with_the_same_seeds_are_resampled_together():
    values, seeds = generator().normal(size=6), tuple(range(6))
    scores = {"a": [Runs(values, seeds)], "b": [Runs(values + 0.1, seeds)], "c": [Runs(values, (9, *seeds[1:]))]}
    samples = aggregate.bootstrap(scores, aggregate.mean, generator(), resamples=500)
    assert samples["b"] - samples["a"] == pytest.approx(0.1)
    assert np.std(samples["c"] - samples["a"]) > 0.1


def test_improvement_distribution_centres_on_the_estimate_and_its_mirror():
    x, y = generator().normal(0.5, 1, size=20), generator().normal(size=20)
    scores = {"x": [Runs(x, tuple(range(20)))], "y": [Runs(y, tuple(range(20, 40)))]}
    samples = dict(aggregate.bootstrap_improvement(scores, generator(), resamples=4_000))
    assert samples["x", "y"].mean() == pytest.approx(aggregate.probability_of_improvement([x], [y]), abs=0.01)
    assert samples["y", "x"] == pytest.approx(1 - samples["x", "y"])


def test_improvement_distribution_of_paired_single_draws_by_hand():
    scores = {"x": [Runs(np.array([1.0, 0.0]), (0, 1))], "y": [Runs(np.array([0.0, 1.0]), (0, 1))]}
    samples = dict(aggregate.bootstrap_improvement(scores, generator(), resamples=400))["x", "y"]
    # Both draw the same seeds: seed 0 twice gives 1, seed 1 twice gives 0, one of each (1 + 0 + 2 ties) / 4.
    assert set(samples) == {0.0, 0.5, 1.0}


def test_five_runs_per_task_are_needed_for_an_interval():
    enough, few = Runs(np.zeros(5), (0, 1, 2, 3, 4)), Runs(np.zeros(4), (0, 1, 2, 3))
    assert aggregate.has_interval([enough, enough])
    assert not aggregate.has_interval([enough, few])
    assert not aggregate.has_interval([])
