"""Events that leave all weights and concern the optimizer alone."""

import pytest
import torch
from treated import event, part, train, trained, update


@pytest.mark.parametrize("kind", ["optimizer_reset", "adam_rel"])
def test_no_weight_changes(kind) -> None:
    network = trained([[part(kind)]])
    train(network, 5)
    before = network.online.flat.clone(), network.target.flat.clone()  # type: ignore[union-attr]
    event(network, [0], 5)
    assert torch.equal(network.online.flat, before[0])
    assert torch.equal(network.target.flat, before[1])  # type: ignore[union-attr]


def test_moments_and_counts_begin_anew() -> None:
    network = trained([[part("optimizer_reset")], [part("none")]])
    train(network, 5)
    event(network, [0], 5)
    for moment in network.optimizer.moments.values():
        views = network.online.views(moment)
        assert all(not view[0].any() for view in views.values())
        assert all(view[1].any() for view in views.values())
    assert network.optimizer.steps[:, 0].unique().tolist() == [0]
    assert network.optimizer.steps[:, 1].unique().tolist() == [5]


def test_adam_rel_keeps_the_moments_and_counts_anew() -> None:
    network = trained([[part("adam_rel")]])
    train(network, 5)
    before = {name: moment.clone() for name, moment in network.optimizer.moments.items()}
    event(network, [0], 5)
    assert all(torch.equal(moment, before[name]) for name, moment in network.optimizer.moments.items())
    assert network.optimizer.steps.unique().tolist() == [0]


def test_the_first_update_after_a_long_past_is_a_third_of_the_usual_one_with_adam_rel() -> None:
    """Of a constant gradient Adam's steps are all equal; with old sums and a count of 1 they are 0.316 of that."""
    network = trained([[part("adam_rel")], [part("none")]], seeds=[0, 0])
    for moment, value in zip(network.optimizer.moments.values(), (1.0, 1.0), strict=True):
        moment.fill_(value)
    network.optimizer.steps.fill_(10_000)
    network.optimizer.rebuild()
    event(network, [0], 1)
    change = network.online.views(network.optimizer.preview(torch.ones_like(network.online.flat)))["fc1.weight"]
    ratio = (change[0] / change[1]).mean()
    assert float(ratio) == pytest.approx((1 / (1 - 0.9)) / (1 / (1 - 0.999)) ** 0.5, rel=1e-3)


def test_at_target_copies_both_networks_are_equal() -> None:
    network = trained([[part("optimizer_reset", preset="at_target_copies")]])
    update(network, 1)
    event(network, [0], 1)
    assert network.target is not None
    assert torch.equal(network.target.flat, network.online.flat)
