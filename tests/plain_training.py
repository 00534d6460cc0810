"""What treated networks are compared with: one member of an MLP as plain PyTorch, trained with its own Adam."""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn
from treated import BASE, batch

from plasticbench.learning.trained import TrainedNetwork


def plain_copy(network: TrainedNetwork, member: int) -> nn.Sequential:
    """An ``nn.Sequential`` of ``fc1``, ReLU, ``fc2``, ... with one member's weights."""
    values = {name: value.detach()[member].clone() for name, value in network.online.parameters.items()}
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for spec in network.online.specs:
        if layers:
            layers[f"before_{spec.name}"] = nn.ReLU()
        layers[spec.name] = nn.Linear(spec.weight_shape[1], spec.weight_shape[0])
    module = nn.Sequential(layers)
    module.load_state_dict(values)
    return module


def plain_training(
    module: nn.Module,
    seed: int,
    updates: int = 20,
    *,
    penalty: Callable[[], Tensor] = lambda: torch.zeros(()),
    after: Callable[[int], None] = lambda step: None,
) -> None:
    """Updates on the toy task of a member with this seed; ``after`` is called with the number of updates made."""
    optimizer = torch.optim.Adam(module.parameters(), lr=BASE.learning_rate, eps=BASE.eps)
    for step in range(1, updates + 1):
        inputs, targets = batch([seed], step)
        optimizer.zero_grad()
        ((module(inputs[0]) - targets[0]).square().mean() + penalty()).backward()
        optimizer.step()
        with torch.no_grad():
            after(step)


def assert_agrees(network: TrainedNetwork, member: int, module: nn.Module) -> None:
    """Every parameter of the member equals the plain module's to 1e-5."""
    for name, value in module.named_parameters():
        ours = network.online.parameters[name].detach()[member]
        torch.testing.assert_close(ours, value.detach(), rtol=1e-5, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")
