"""Self-normalized resets: gaps, thresholds, and who is recycled."""

import pytest
import torch
from treated import part, train, trained, update, weights

from plasticbench.learning.treatments import self_normalized_resets


def state_of(network) -> dict[str, torch.Tensor]:
    (application,) = network.parts.applications
    return application._begun()


def silence(network, unit: int, is_silent: bool = True) -> None:
    network.online.parameters["fc1.bias"].data[0].fill_(50.0)
    if is_silent:
        network.online.parameters["fc1.bias"].data[0, unit] = -1000.0


def test_silence_ages_a_unit_and_a_word_records_the_gap() -> None:
    network = trained([[part("self_normalized_resets", longest_gap_updates=10, recompute_updates=100)]])
    state = state_of(network)
    for step, is_silent in enumerate([False, True, True, True, False, True], start=1):
        silence(network, 2, is_silent)
        update(network, step)
    assert state["fc1.age"][0].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    assert state["fc1.gaps"][0, 2].nonzero().flatten().tolist() == [3]
    assert int(state["fc1.gaps"][0].sum()) == 1


def test_a_unit_is_recycled_when_its_age_reaches_its_threshold() -> None:
    network = trained([[part("self_normalized_resets", longest_gap_updates=3, recompute_updates=100)]])
    silence(network, 2)
    for step in (1, 2):
        update(network, step)
    assert float(weights(network, 0)["fc1.bias"][2]) < -900
    update(network, 3)
    after = weights(network, 0)
    assert float(after["fc1.bias"][2]) == 0.0
    assert not after["fc2.weight"][:, 2].any()
    assert state_of(network)["fc1.recycled"].tolist() == [1]
    assert state_of(network)["fc1.age"][0, 2] == 0


def test_a_recycled_unit_begins_without_gaps_and_others_keep_theirs() -> None:
    network = trained([[part("self_normalized_resets", longest_gap_updates=3, recompute_updates=100)]])
    state = state_of(network)
    state["fc1.gaps"][0, :4, 1] = 5
    silence(network, 2)
    for step in (1, 2, 3):
        update(network, step)
    assert state["fc1.gaps"][0, :4, 1].tolist() == [5, 5, 0, 5]


@pytest.mark.parametrize(
    ("eta", "threshold", "gaps", "expected"),
    [
        (0.5, 20, [2, 2, 3, 9], 2),  # half of the gaps are at most 2
        (0.75, 20, [2, 2, 3, 9], 3),
        (1.0, 20, [2, 2, 3, 9], 9),
        (1.0, 9, [2, 2, 3, 9], 18),  # not below the threshold, so that doubles
        (1.0, 15, [2, 2, 3, 19], 20),  # and ends at the longest gap
        (0.5, 20, [], 1),  # it fired at every update
    ],
)
def test_thresholds_by_hand(eta, threshold, gaps, expected) -> None:
    network = trained([[part("self_normalized_resets", eta=eta, longest_gap_updates=20)]])
    state = state_of(network)
    state["fc1.threshold"].fill_(threshold)
    for gap in gaps:
        state["fc1.gaps"][0, 0, gap] += 1
    self_normalized_resets._recompute("fc1", state, torch.tensor([True]), eta)
    assert state["fc1.threshold"][0, 0] == expected
    assert not state["fc1.gaps"].any()


def test_thresholds_are_found_anew_every_so_many_updates() -> None:
    network = trained([[part("self_normalized_resets", recompute_updates=4, longest_gap_updates=50)]])
    silence(network, 2, is_silent=False)
    train(network, 3)
    assert state_of(network)["fc1.threshold"].unique().tolist() == [50]
    train(network, 1, first=4)
    assert state_of(network)["fc1.threshold"][0].tolist() == [1] * 8


def test_a_plain_loop_agrees_over_a_random_history() -> None:
    """One unit with its own list of gaps, in words of the paper."""
    rng = torch.Generator().manual_seed(3)
    eta, longest = 0.8, 12
    network = trained([[part("self_normalized_resets", eta=eta, longest_gap_updates=longest, recompute_updates=8)]])
    state = state_of(network)
    age, threshold, gaps, resets = 0, longest, [], 0
    for step in range(1, 81):
        is_silent = bool(torch.rand(1, generator=rng) < 0.6)
        silence(network, 2, is_silent)
        network.online.parameters["fc1.weight"].data[0, 2] = 0.1
        update(network, step)
        if is_silent:
            age += 1
        else:
            gaps += [age] if age else []
            age = 0
        if age >= threshold:
            resets, age, gaps = resets + 1, 0, []
        if step % 8 == 0:
            ordered = sorted(gaps)
            quantile = next((g for i, g in enumerate(ordered, 1) if i >= eta * len(ordered)), 1) if gaps else 1
            threshold = min(longest, max(1, (quantile if quantile < threshold else 2 * threshold) if gaps else 1))
            gaps = []
        assert (int(state["fc1.age"][0, 2]), int(state["fc1.threshold"][0, 2])) == (age, threshold), step
    assert resets > 3
    assert int(state["fc1.recycled"][0]) >= resets
