"""Sigma-reparameterisation: its largest singular value, training against plain PyTorch, and where it stands."""

import pytest
import torch
from plain_training import plain_copy, plain_training
from torch import nn
from treated import batch, conv_specs, part, specs, train, trained, weights

from plasticbench.learning.network import largest_singular_value, population_gamma
from plasticbench.learning.networks import simba
from plasticbench.learning.structures import crelu, spectral_reparameterisation, width


def test_the_largest_singular_value_by_hand_and_of_chance() -> None:
    diagonal = torch.tensor([[[3.0, 0.0], [0.0, 0.5]], [[0.0, 0.0], [0.0, 2.0]]])
    torch.testing.assert_close(largest_singular_value(diagonal), torch.tensor([3.0, 2.0]))
    x = torch.randn(5, 20, 30, generator=torch.Generator().manual_seed(0))
    exact = torch.linalg.svdvals(x)[:, 0]
    found = largest_singular_value(x)
    assert (found <= exact * (1 + 1e-5)).all()
    assert (found >= 0.95 * exact).all()


def test_a_row_by_hand() -> None:
    weight, bias = torch.tensor([[[4.0]]]), torch.tensor([[1.0]])
    made = torch.tensor([[[4.0 * 0.5 + 1.0]]])
    assert population_gamma(made, weight, bias, torch.tensor([[3.0]])).item() == pytest.approx(3.0 * 0.5 + 1.0)


@pytest.mark.parametrize(
    ("layers", "shape"),
    [(specs(), (4,)), (conv_specs(), (3, 6, 6)), (simba.Config(num_blocks=1, width=6).layers((4,), 3), (4,))],
)
def test_the_size_of_hidden_weights_changes_no_output(layers, shape) -> None:
    network = trained([[part("spectral_reparameterisation")]] * 2, layers=layers)
    x = batch([0, 1], 1, shape)[0]
    before = network.online.forward(x)
    with torch.no_grad():
        for spec in network.online.hidden:
            if not spec.is_norm:
                network.online.parameters[f"{spec.name}.weight"].mul_(7.0)
    torch.testing.assert_close(network.online.forward(x), before, rtol=1e-4, atol=1e-5)


class Reparameterised(nn.Module):
    """``fc1, ReLU, fc2, ReLU, fc3`` with the published weights of the hidden layers."""

    def __init__(self, plain: nn.Sequential) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = plain.fc1, plain.fc2, plain.fc3
        self.gammas = nn.ParameterList([nn.Parameter(torch.ones(())) for _ in range(2)])

    @staticmethod
    def sigma(weight: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            v = torch.cos(torch.arange(1.0, weight.shape[1] + 1))
            for _ in range(10):
                u = weight @ (v / v.norm())
                v = weight.T @ (u / u.norm())
        return (u / u.norm()) @ weight @ (v / v.norm())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for gamma, layer in zip(self.gammas, (self.fc1, self.fc2), strict=True):
            x = nn.functional.linear(x, gamma / self.sigma(layer.weight) * layer.weight, layer.bias).relu()
        return self.fc3(x)


def test_training_agrees_with_plain_pytorch_for_every_member() -> None:
    network = trained([[part("spectral_reparameterisation")]] * 2)
    plain = [Reparameterised(plain_copy(trained([[]] * 2), member)) for member in range(2)]
    train(network, 20)
    for seed, module in enumerate(plain):
        plain_training(module, seed)
        own = weights(network, seed)
        for number, gamma in enumerate(module.gammas, start=1):
            assert gamma.item() != 1.0
            torch.testing.assert_close(own[f"fc{number}_gamma.weight"], gamma.detach().view(1), rtol=1e-4, atol=1e-5)
        for name in ("fc1", "fc2", "fc3"):
            layer = getattr(module, name)
            torch.testing.assert_close(own[f"{name}.weight"], layer.weight.detach(), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(own[f"{name}.bias"], layer.bias.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("other", [width.Config(factor=0.5), crelu.Config(width="halve"), crelu.Config()])
def test_structures_that_change_widths_leave_its_one_number_alone(other) -> None:
    layers = other.layers(spectral_reparameterisation.Config().layers(specs()))
    assert {spec.name: spec.weight_shape for spec in layers if spec.is_norm} == {"fc1_gamma": (1,), "fc2_gamma": (1,)}
    assert trained([[]], layers=layers).online.forward(batch([0], 1)[0]).shape == (1, 16, 3)


def test_outputs_alone_are_refused() -> None:
    with pytest.raises(ValueError, match="needs a hidden layer"):
        spectral_reparameterisation.Config().layers(specs()[-1:])
