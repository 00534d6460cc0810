"""SGD and AdamW over populations, against PyTorch's own, member by member."""

import pytest
import torch
from plain_training import assert_agrees, plain_copy
from treated import BASE, batch, part, train, trained


def plain(module, seed: int, optimizer: torch.optim.Optimizer, updates: int = 20) -> None:
    for step in range(1, updates + 1):
        inputs, targets = batch([seed], step)
        optimizer.zero_grad()
        (module(inputs[0]) - targets[0]).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_agrees_with_pytorch(momentum) -> None:
    network = trained([[part("sgd", momentum=momentum)]] * 2)
    modules = [plain_copy(network, member) for member in range(2)]
    train(network, 20)
    for member, module in enumerate(modules):
        plain(module, member, torch.optim.SGD(module.parameters(), lr=BASE.learning_rate or 0.0, momentum=momentum))
        assert_agrees(network, member, module)


def test_decay_of_sgd_is_times_the_learning_rate() -> None:
    network = trained([[part("sgd", learning_rate=0.1, weight_decay=0.5)]])
    network.online.flat.fill_(2.0)
    network.online.flat_grad.fill_(3.0)
    network.optimizer.step()
    assert network.online.flat.unique().tolist() == pytest.approx([2.0 * 0.95 - 0.3])


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adamw_agrees_with_pytorch(decay) -> None:
    network = trained([[part("adamw", weight_decay=decay)]] * 2)
    modules = [plain_copy(network, member) for member in range(2)]
    train(network, 20)
    for member, module in enumerate(modules):
        parameters = module.parameters()
        plain(module, member, torch.optim.AdamW(parameters, lr=BASE.learning_rate, eps=BASE.eps, weight_decay=decay))
        assert_agrees(network, member, module)


def test_a_preview_is_the_step_that_follows() -> None:
    network = trained([[part("sgd", preset="momentum")]])
    train(network, 3)
    gradients = torch.randn(network.online.flat.shape, generator=torch.Generator().manual_seed(0))
    before, change = network.online.flat.clone(), network.optimizer.preview(gradients)
    network.online.flat_grad.copy_(gradients)
    network.optimizer.step()
    torch.testing.assert_close(network.online.flat - before, change, rtol=1e-5, atol=1e-7)
