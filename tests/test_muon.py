"""Muon: orthogonalised momentum for matrices and Adam for the rest, against numbers, plain loops and PyTorch's Muon."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from treated import BASE, batch, conv_specs, part, specs, trained, update

from plasticbench import plugins
from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.network import PopulationNetwork
from plasticbench.learning.optimizers import muon
from plasticbench.learning.optimizers.muon import orthogonalized


def built(given: list[LayerSpec], num_members: int = 1, **settings: Any) -> muon.Muon:
    network = PopulationNetwork(given, num_members, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    network.load({name: torch.randn(value.shape, generator=generator) for name, value in network.parameters.items()})
    return muon.Config(**settings).build(network, BASE)


def quintic(s: float, iterations: int) -> float:
    for _ in range(iterations):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return s


# -- the iteration -----------------------------------------------------------------------------------------------------


def test_singular_values_follow_the_quintic_from_a_frobenius_norm_of_one() -> None:
    # diag(3, 4) / 5 = diag(0.6, 0.8); 3.4445 * 0.6 - 4.775 * 0.216 + 2.0315 * 0.07776 = 1.193269...
    (once,) = orthogonalized([torch.diag(torch.tensor([3.0, 4.0]))[None]], 1)
    torch.testing.assert_close(once[0].diagonal(), torch.tensor([1.1932694, 0.9764819]))
    (often,) = orthogonalized([torch.diag(torch.tensor([3.0, 4.0]))[None]], 5)
    torch.testing.assert_close(often[0].diagonal(), torch.tensor([quintic(0.6, 5), quintic(0.8, 5)]))


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_directions_are_kept_and_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    (result,) = orthogonalized([matrix], 5)
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    norms = torch.linalg.matrix_norm(matrix)
    expected = torch.tensor(
        [[quintic(float(one / norm), 5) for one in row] for row, norm in zip(s, norms, strict=True)]
    )
    torch.testing.assert_close(result, u @ torch.diag_embed(expected) @ vh, rtol=1e-4, atol=1e-4)
    assert ((expected > 0.6) & (expected < 1.3)).all()


def test_matrices_of_equal_sides_are_solved_together_as_each_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    matrices = [torch.randn(2, *shape, generator=generator) for shape in ((4, 6), (6, 4), (3, 3), (4, 6))]
    for one, together in zip(matrices, orthogonalized(matrices, 5), strict=True):
        assert together.shape == one.shape
        torch.testing.assert_close(together, orthogonalized([one], 5)[0])


def test_zeros_stay_zeros() -> None:
    assert not orthogonalized([torch.zeros(1, 3, 4)], 5)[0].any()


# -- the step ----------------------------------------------------------------------------------------------------------

WIDE, TALL = LayerSpec("fc1", "encoder", (2, 8)), LayerSpec("fc1", "encoder", (8, 2))


@pytest.mark.parametrize(
    ("spec", "scale", "size"),
    [
        (WIDE, "original", 1.0),
        (TALL, "original", 2.0),  # (8 / 2)^0.5
        (WIDE, "moonlight", 0.2 * math.sqrt(8)),
        (TALL, "moonlight", 0.2 * math.sqrt(8)),
    ],
)
def test_the_size_of_a_first_step_is_worked_out_by_hand(spec: LayerSpec, scale: str, size: float) -> None:
    optimizer = built([spec, LayerSpec("out", "head", (1, spec.weight_shape[0]))], scale=scale, learning_rate=0.5)
    network = optimizer.network
    gradient = network.views(network.flat_grad)["fc1.weight"]
    gradient[0].fill_diagonal_(1.0)
    before = network.parameters["fc1.weight"].detach().clone()
    optimizer.step()
    # Two singular values of 1 / sqrt(2) each, whatever the momentum multiplied the first gradient with.
    expected = before - 0.5 * size * quintic(2**-0.5, 5) * gradient
    torch.testing.assert_close(network.parameters["fc1.weight"].detach(), expected)


@pytest.mark.parametrize(
    ("settings", "rate"),
    [({}, 0.1), ({"scale": "moonlight"}, 0.01), ({"adam_learning_rate": 1e-3}, 0.01), ({"learning_rate": 0.3}, 0.3)],
)
def test_matrices_move_at_ten_times_adams_rate_unless_told_otherwise(settings: dict[str, Any], rate: float) -> None:
    optimizer = built(list(specs()), **settings)
    network = optimizer.network
    network.flat_grad.normal_(generator=torch.Generator().manual_seed(1))
    explicit = built(list(specs()), **{**settings, "learning_rate": rate})
    explicit.network.flat_grad.copy_(network.flat_grad)
    optimizer.step()
    explicit.step()
    torch.testing.assert_close(network.flat, explicit.network.flat)


def test_momentum_is_what_matrices_keep_and_adam_keeps_the_rest() -> None:
    optimizer = built(list(specs()))
    network = optimizer.network
    network.flat_grad.fill_(2.0)
    optimizer.step()
    means, squares = (network.views(optimizer.moments[name]) for name in ("exp_avg", "exp_avg_sq"))
    for name in network.parameters:
        is_matrix = name in ("fc1.weight", "fc2.weight")
        torch.testing.assert_close(means[name], torch.full_like(means[name], 2 * (0.05 if is_matrix else 0.1)))
        assert bool(squares[name].any()) is not is_matrix


def test_layers_all_counts_the_outputs_as_matrices_too() -> None:
    optimizer = built(list(specs()), layers="all")
    optimizer.network.flat_grad.fill_(2.0)
    optimizer.step()
    assert not optimizer.network.views(optimizer.moments["exp_avg_sq"])["fc3.weight"].any()


# -- beside other implementations --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["original", "moonlight"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_single_steps_agree_with_torchs_muon_up_to_its_half_precision(scale: str, nesterov: bool) -> None:
    optimizer = built(list(specs()), 2, scale=scale, nesterov=nesterov, learning_rate=0.1, weight_decay=0.5)
    network = optimizer.network
    names = ("fc1.weight", "fc2.weight")
    twins = [{name: torch.nn.Parameter(network.parameters[name].detach()[m].clone()) for name in names} for m in (0, 1)]
    theirs = "original" if scale == "original" else "match_rms_adamw"
    references = [
        torch.optim.Muon(twin.values(), lr=0.1, weight_decay=0.5, nesterov=nesterov, adjust_lr_fn=theirs)
        for twin in twins
    ]
    for seed in range(4):
        network.flat_grad.normal_(generator=torch.Generator().manual_seed(seed))
        for member, twin in enumerate(twins):
            for name in names:
                twin[name].grad = network.views(network.flat_grad)[name][member].clone()
        optimizer.step()
        for reference in references:
            reference.step()
    for member, twin in enumerate(twins):
        for name in names:
            # Four steps of a matrix with entries of at most about 1; bfloat16 has three digits.
            torch.testing.assert_close(
                network.parameters[name].detach()[member], twin[name].detach(), rtol=0, atol=0.02
            )


class PlainMuon:
    """One member, matrix by matrix, with the momentum as a sum, as Jordan writes it."""

    def __init__(self, weights: dict[str, Tensor], matrices: list[str], nesterov: bool) -> None:
        self.weights = {name: value.clone().requires_grad_() for name, value in weights.items()}
        self.matrices, self.nesterov = matrices, nesterov
        self.momentum = {name: torch.zeros_like(weights[name]) for name in matrices}
        self.adam = torch.optim.Adam([self.weights[name] for name in weights if name not in matrices], lr=1e-2)

    def forward(self, x: Tensor, is_conv: bool) -> Tensor:
        w = self.weights
        if is_conv:
            for name in ("conv1", "conv2"):
                x = torch.nn.functional.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"]).relu()
            return (x.flatten(1) @ w["fc1.weight"].T + w["fc1.bias"]).relu() @ w["fc2.weight"].T + w["fc2.bias"]
        for name in ("fc1", "fc2"):
            x = (x @ w[f"{name}.weight"].T + w[f"{name}.bias"]).relu()
        return x @ w["fc3.weight"].T + w["fc3.bias"]

    def update(self, inputs: Tensor, targets: Tensor, is_conv: bool) -> None:
        loss = (self.forward(inputs, is_conv) - targets).square().mean()
        gradients = dict(zip(self.weights, torch.autograd.grad(loss, list(self.weights.values())), strict=True))
        for name, weight in self.weights.items():
            weight.grad = gradients[name]
        self.adam.step()
        with torch.no_grad():
            for name in self.matrices:
                self.momentum[name] = 0.95 * self.momentum[name] + gradients[name]
                mixed = gradients[name] + 0.95 * self.momentum[name] if self.nesterov else self.momentum[name]
                matrix = mixed.flatten(1)
                x = matrix / matrix.norm()
                for _ in range(5):
                    a = x @ x.T
                    x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
                size = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
                self.weights[name] -= 0.1 * size * x.view(mixed.shape)


@pytest.mark.parametrize("is_conv", [False, True])
@pytest.mark.parametrize("nesterov", [True, False])
def test_twenty_updates_agree_with_a_plain_loop(is_conv: bool, nesterov: bool) -> None:
    layers, shape = (conv_specs(), (3, 6, 6)) if is_conv else (specs(), (4,))
    network = trained([[part("muon", nesterov=nesterov)]] * 2, layers=layers)
    matrices = [f"{spec.name}.weight" for spec in list(layers)[:-1]]
    weights = network.online.parameters
    loops = [PlainMuon({n: v.detach()[m] for n, v in weights.items()}, matrices, nesterov) for m in range(2)]
    for step in range(1, 21):
        update(network, step, shape)
        inputs, targets = batch([0, 1], step, shape)
        for member, loop in enumerate(loops):
            loop.update(inputs[member], targets[member], is_conv)
    for name, value in weights.items():
        for member, loop in enumerate(loops):
            torch.testing.assert_close(value[member], loop.weights[name], rtol=1e-5, atol=1e-5)


def test_settings_without_effect_and_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="nesterov: this setting has no effect: there is no momentum"):
        plugins.config_from("optimizers", "muon", {"momentum": 0.0, "nesterov": True})
    with pytest.raises(ValueError, match="momentum: must lie in"):
        muon.Config(momentum=1.0)
    with pytest.raises(ValueError, match="scale: must be one of original, moonlight"):
        muon.Config(scale="adam")  # type: ignore[arg-type]
