"""Selective reinitialisation of single weights."""

import pytest
import torch
from treated import event, part, sample, train, trained, weights


@pytest.mark.parametrize("utility", ["gradient", "magnitude"])
def test_the_weights_of_least_utility_are_redrawn_and_no_others(utility) -> None:
    network = trained([[part("selective_weight_reinit", share=0.25, utility=utility)]])
    train(network, 5)
    before, gradients = weights(network, 0), sample(network, 5).gradients
    report = event(network, [0], 5)
    assert report.measurements["redrawn"].tolist() == [8 + 12]  # a quarter of 32 and of 48
    for name in ("fc1.weight", "fc2.weight"):
        worth = before[name].abs() * (gradients[name][0].abs() if utility == "gradient" else 1.0)
        lowest = worth.flatten().argsort(stable=True)[: worth.numel() // 4]
        changed = (weights(network, 0)[name] != before[name]).flatten().nonzero().flatten()
        assert set(changed.tolist()) == set(lowest.tolist())
    for name in ("fc1.bias", "fc3.weight"):
        assert torch.equal(weights(network, 0)[name], before[name])


def test_new_values_are_draws_of_the_initialiser() -> None:
    network = trained([[part("selective_weight_reinit", share=1.0)]])
    network.online.flat.fill_(100.0)
    event(network, [0], 1)
    new = weights(network, 0)["fc1.weight"]
    assert 0.3 < float(new.abs().max()) <= 0.5  # 1 / sqrt(4)


def test_chance_differs_between_members_and_events() -> None:
    network = trained([[part("selective_weight_reinit", share=0.5, utility="random")]] * 2)
    chosen = []
    for step in (1, 2):
        before = network.online.parameters["fc1.weight"].detach().clone()
        event(network, [0, 1], step)
        chosen.append(network.online.parameters["fc1.weight"].detach() != before)
    assert not torch.equal(chosen[0][0], chosen[0][1])
    assert not torch.equal(chosen[0][0], chosen[1][0])


def test_moments_of_new_weights_begin_anew_and_means_of_squares_at_the_mean_of_the_others() -> None:
    network = trained([[part("selective_weight_reinit", share=0.5, utility="magnitude")]])
    train(network, 5)
    first, second = (network.online.views(moment)["fc1.weight"][0] for moment in network.optimizer.moments.values())
    order = weights(network, 0)["fc1.weight"].abs().flatten().argsort(stable=True)
    chosen, others = order[:16], order[16:]
    expected = second.flatten()[others].mean()
    kept = second.flatten()[others].clone()
    event(network, [0], 5)
    assert first.flatten()[chosen].tolist() == [0.0] * 16
    assert second.flatten()[chosen] == pytest.approx(expected.expand(16), rel=1e-5)
    assert torch.equal(second.flatten()[others], kept)
