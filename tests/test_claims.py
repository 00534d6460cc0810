import numpy as np
import pytest
from scipy import stats

from benchmarks.null_claims import SHAPES, false_claims, spreads
from plasticbench.analysis.aggregate import Runs
from plasticbench.analysis.claims import (
    above_zero,
    compare,
    compare_methods,
    correlation_bound,
    detectable_difference,
    detectable_spreads,
    pair_level,
)


def generator() -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(11))


def test_the_bound_of_two_methods_by_hand():
    counts = np.full((2, 1), 10)
    found = compare(np.array([[1.0], [0.0]]), np.array([[0.5], [0.5]]), counts)
    # Variances of both means 0.05; degrees of freedom together 18, halved and less one 8; 2 % for one pair.
    expected = stats.t.ppf(0.99, 8) * np.sqrt(0.1)
    assert found.difference.tolist() == [[0.0, 1.0], [-1.0, 0.0]]
    assert found.bound[0, 1] == pytest.approx(expected)
    assert found.is_ahead.tolist() == [[False, bool(expected < 1.0)], [False, False]]


def test_a_lucky_small_spread_counts_with_the_mean_of_all_spreads():
    counts = np.full((3, 1), 5)
    found = compare(np.zeros((3, 1)), np.array([[0.0], [0.0], [3.0]]), counts)
    freedom = 1.0  # one variance alone: 4 degrees of freedom, halved and less one
    level = pair_level(3, 5)
    assert found.bound[0, 1] == pytest.approx(stats.t.ppf(1 - level / 2, freedom) * np.sqrt(2 * 0.2))
    assert found.bound[0, 2] == pytest.approx(stats.t.ppf(1 - level / 2, freedom) * np.sqrt(0.6))


def test_tasks_weigh_the_same_and_each_has_a_spread_of_its_own():
    counts = np.array([[5, 10], [5, 10]])
    found = compare(np.array([[1.0, 3.0], [0.0, 0.0]]), np.array([[1.0, 2.0], [1.0, 2.0]]), counts)
    assert found.difference[0, 1] == pytest.approx(2.0)
    own = (1 / 5 + 2 / 10) / 4
    freedom = (2 * own) ** 2 / (2 * ((0.2 / 4) ** 2 / 4 + (0.2 / 4) ** 2 / 9))
    assert freedom / 2 - 1 > 2 * 4  # no more than two samples of the fewest seeds have
    assert found.bound[0, 1] == pytest.approx(stats.t.ppf(1 - pair_level(2, 5) / 2, 8) * np.sqrt(2 * own))


@pytest.mark.parametrize(
    "num_methods, num_seeds, level", [(2, 5, 0.04), (2, 10, 0.02), (4, 5, 2.3 * 0.05 / 6), (4, 10, 0.05 / 6)]
)
def test_the_level_of_one_pair(num_methods, num_seeds, level):
    assert pair_level(num_methods, num_seeds) == pytest.approx(level)


def test_methods_without_any_spread_differ_if_their_means_do():
    found = compare(np.array([[1.0], [1.0], [0.0]]), np.zeros((3, 1)), np.full((3, 1), 5))
    assert found.is_ahead.tolist() == [[False, False, True], [False, False, True], [False, False, False]]


def test_what_seeds_share_is_found_and_what_they_do_not_share_is_not():
    draws = generator().standard_normal((2_000, 4, 1, 5))
    shared = np.sqrt(0.95) * generator().standard_normal((2_000, 1, 1, 5)) + np.sqrt(0.05) * draws
    bounds = {
        name: correlation_bound(x - x.mean(-1, keepdims=True)) for name, x in (("own", draws), ("shared", shared))
    }
    assert np.median(bounds["own"]) == 0.0
    assert 0.6 < np.median(bounds["shared"]) < 0.95


def test_other_seeds_share_nothing():
    values, seeds = np.array([0.1, 0.3, 0.5, 0.7, 0.9]), tuple(range(5))
    paired = compare_methods({"x": [Runs(values + 0.1, seeds)], "y": [Runs(values, seeds)]})
    apart = compare_methods({"x": [Runs(values + 0.1, seeds)], "y": [Runs(values, (5, 6, 7, 8, 9))]})
    assert paired.is_ahead[0, 1]
    assert not apart.is_ahead.any()


def test_the_detectable_difference_is_in_units_of_the_scores():
    rng = generator()
    scores = {m: [Runs(0.1 * rng.standard_normal(5), tuple(range(5 * i, 5 * i + 5)))] for i, m in enumerate("abcd")}
    spread = np.sqrt(np.mean([runs.values.var(ddof=1) for (runs,) in scores.values()]))
    assert detectable_difference(scores) == pytest.approx(spread * detectable_spreads(np.full((4, 1), 5)))


def test_three_standard_deviations_are_found_among_four_methods_with_five_seeds():
    rng = generator()
    scores = rng.standard_normal((4_000, 4, 1, 5))
    scores[:, 0] += 3.0
    found = compare(scores.mean(-1), scores.var(-1, ddof=1), np.full((4, 1), 5))
    assert found.is_ahead[:, 0, 1].mean() > 0.79
    assert found.is_ahead[:, 1:, 0].mean() < 0.01


@pytest.mark.parametrize("num_methods, num_seeds, num_tasks", [(2, 5, 1), (4, 5, 1), (4, 10, 2), (8, 5, 1)])
@pytest.mark.parametrize("shape", ["normal", "exponential", "two modes"])
def test_boards_without_a_difference_claim_one_in_five_percent_at_most(shape, num_methods, num_seeds, num_tasks):
    for name, spread in spreads(num_methods).items():
        share = false_claims(shape, spread, num_tasks, num_seeds, 2_000, generator())
        assert share < 0.05 + 0.015, name  # three standard errors of 2,000 boards


def test_a_test_of_single_pairs_claims_far_more():
    """The simulation can fail: four equal methods, each pair tested by itself at 5 %."""
    scores = generator().standard_normal((2_000, 4, 5))
    pairs = [stats.ttest_ind(scores[:, i], scores[:, j], axis=-1).pvalue for i in range(4) for j in range(i)]
    assert (np.min(pairs, axis=0) < 0.05).mean() > 0.15


def test_what_is_above_random_play_by_hand():
    means, variances, counts = np.array([0.5, 0.5, 0.0]), np.array([[0.05], [5.0], [0.0]]), np.full((3, 1), 5)
    bound = stats.t.ppf(1 - 0.05 / 6, 4) * 0.1
    assert bound < 0.5
    assert above_zero(means, variances, counts).tolist() == [True, False, False]


@pytest.mark.parametrize("num_methods, num_seeds", [(2, 5), (12, 5), (24, 20)])
@pytest.mark.parametrize("shape", ["normal", "exponential"])
def test_of_methods_that_play_at_random_any_is_above_it_in_five_percent_at_most(shape, num_methods, num_seeds):
    scores = SHAPES[shape](generator(), (4_000, num_methods, 1, num_seeds))
    counts = np.full((num_methods, 1), num_seeds)
    assert above_zero(scores.mean((-1, -2)), scores.var(-1, ddof=1), counts).any(-1).mean() <= 0.05
