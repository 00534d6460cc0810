"""Shrink and perturb by dormancy."""

import pytest
import torch
from treated import event, part, train, trained, weights


def silence(network, units: int) -> None:
    """The first units of ``fc1`` are zero on every input, all others speak."""
    network.online.parameters["fc1.bias"].data.fill_(10.0)
    network.online.parameters["fc2.bias"].data.fill_(100.0)
    network.online.parameters["fc1.bias"].data[:, :units] = -1000.0


@pytest.mark.parametrize(
    ("silent", "kept"),
    [(0, 0.9), (2, 1 - 2 * 2 / 14), (7, 0.2)],  # of 14 hidden units; held between 0.2 and 0.9
)
def test_what_is_kept_falls_with_dormancy_between_its_bounds(silent, kept) -> None:
    network = trained([[part("drm")]])
    silence(network, silent)
    before, streams = weights(network, 0), network.streams
    report = event(network, [0], 1)
    assert report.measurements["dormant_share"].tolist() == pytest.approx([silent / 14])
    assert report.measurements["kept"].tolist() == pytest.approx([kept])
    after = weights(network, 0)
    moved = (after["fc3.weight"] - kept * before["fc3.weight"]) / (1 - kept)
    bound = 1 / 6**0.5  # of the initialiser
    assert float(moved.abs().max()) <= bound + 1e-4
    assert float(moved.abs().max()) > 0.3 * bound
    assert streams is network.streams


def test_members_have_their_own_factors() -> None:
    network = trained([[part("drm", rate=2.0)], [part("drm", rate=0.0)]])
    silence(network, 4)
    kept = event(network, [0, 1], 1).measurements["kept"]
    assert kept.tolist() == pytest.approx([1 - 2 * 4 / 14, 0.9])


def test_a_factor_of_one_changes_nothing() -> None:
    network = trained([[part("drm", rate=0.0, most_kept=1.0)]])
    train(network, 3)
    before = weights(network, 0)
    event(network, [0], 3)
    assert all(torch.equal(value, before[name]) for name, value in weights(network, 0).items())
