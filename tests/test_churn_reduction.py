"""Updates that are kept from changing outputs for other states."""

import copy

import pytest
import torch
from plain_training import assert_agrees, plain_copy
from treated import BASE, batch, conv_specs, part, train, trained, update, weights


def test_the_first_update_is_that_of_none() -> None:
    treated, untreated = trained([[part("churn_reduction", strength=100.0)]]), trained([[part("none")]])
    update(treated, 1)
    update(untreated, 1)
    ours, theirs = weights(treated, 0), weights(untreated, 0)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_members_of_two_strengths_agree_with_a_plain_loop_that_looks_back() -> None:
    strengths = (0.5, 5.0)
    network = trained([[part("churn_reduction", strength=strength)] for strength in strengths])
    modules = [plain_copy(network, member) for member in range(2)]
    train(network, 20)
    for member, (module, strength) in enumerate(zip(modules, strengths, strict=True)):
        optimizer = torch.optim.Adam(module.parameters(), lr=BASE.learning_rate, eps=BASE.eps)
        before, reference = None, None
        for step in range(1, 21):
            inputs, targets = batch([member], step)
            loss = (module(inputs[0]) - targets[0]).square().mean()
            if before is not None:
                loss = loss + strength * (module(reference) - before(reference).detach()).square().mean()
            before, reference = copy.deepcopy(module), inputs[0]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert_agrees(network, member, module)


@pytest.mark.parametrize(("layers", "shape"), [(None, (4,)), (conv_specs(), (3, 6, 6))])
def test_the_second_update_takes_back_some_of_what_the_first_did_to_its_rows(layers, shape) -> None:
    """Under plain descent, where a pull is as strong as it says."""
    moved = []
    for method in ([part("sgd"), part("churn_reduction", strength=20.0)], [part("sgd"), part("none")]):
        network = trained([method], layers=layers)
        rows, _ = batch([0], 1, shape)
        outputs = []
        for step in range(1, 4):
            with torch.no_grad():
                outputs.append(network.online.forward(rows))
            update(network, step, shape)
        moved.append(float((outputs[2] - outputs[0]).square().mean()))
    assert moved[0] < 0.9 * moved[1]
