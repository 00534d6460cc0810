"""AdamO: the penalty's gradient, the separate isometry step and its guard, against numbers and plain loops."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from treated import BASE, batch, conv_specs, part, specs, train, trained, update

from plasticbench import plugins
from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.network import PopulationNetwork
from plasticbench.learning.optimizers import adamo
from plasticbench.learning.treatments._isometry import isometry_gradient


def penalty(weight: Tensor, scale: float) -> Tensor:
    """``||G - scale I||_F^2`` of one matrix, as the paper writes it."""
    matrix = weight.flatten(1)
    rows, columns = matrix.shape
    gram = matrix.T @ matrix if rows >= columns else matrix @ matrix.T
    return (gram - scale * torch.eye(min(rows, columns))).square().sum()


def one_layer(weight: list[list[float]], **settings: Any) -> adamo.AdamO:
    """AdamO on a hidden layer with this weight and one output, without any gradient from a task."""
    value = torch.tensor(weight)
    layers = [LayerSpec("fc1", "encoder", tuple(value.shape)), LayerSpec("out", "head", (1, value.shape[0]))]
    network = PopulationNetwork(layers, 1, torch.device("cpu"))
    network.parameters["fc1.weight"].data[0] = value
    return adamo.Config(**settings).build(network, BASE)


def moved(optimizer: adamo.AdamO) -> Tensor:
    optimizer.step()
    return optimizer.network.views(optimizer.network.flat)["fc1.weight"][0]


# -- the gradient ------------------------------------------------------------------------------------------------------


def test_the_gradient_of_small_matrices_is_worked_out_by_hand() -> None:
    # G - I = diag(8, -0.75), so 4 (G - I) W = 4 diag(24, -0.375).
    square = isometry_gradient(torch.tensor([[3.0, 0.0], [0.0, 0.5]]), 1.0)
    torch.testing.assert_close(square, torch.tensor([[96.0, 0.0], [0.0, -1.5]]))
    # The smaller Gram matrix of a column is the number 4: 4 * 2 * (4 - 1).
    tall = isometry_gradient(torch.tensor([[2.0], [0.0]]), 1.0)
    torch.testing.assert_close(tall, torch.tensor([[24.0], [0.0]]))
    assert not isometry_gradient(torch.tensor([[1.0, 1.0]]), 2.0).any()


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (2, 3, 2, 2), (6, 1, 2, 2)])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_the_gradient_agrees_with_autograd_for_every_member(shape: tuple[int, ...], scale: float) -> None:
    weight = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0), requires_grad=True)
    expected = torch.autograd.grad(sum(penalty(one, scale) for one in weight), weight)[0]
    got = isometry_gradient(weight.detach(), scale)
    assert got.shape == weight.shape
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_weights_with_any_number_of_leading_dimensions_are_matrices() -> None:
    weight = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(isometry_gradient(weight, 1.0)[1, 2], isometry_gradient(weight[1, 2], 1.0))


# -- the step ----------------------------------------------------------------------------------------------------------


def test_a_step_without_a_task_is_worked_out_by_hand() -> None:
    # 0.01 * 0.1 * (96, -1.5); Adam makes nothing of a gradient of zeros.
    weight = moved(one_layer([[3.0, 0.0], [0.0, 0.5]], strength=0.1))
    torch.testing.assert_close(weight, torch.tensor([[2.904, 0.0], [0.0, 0.5015]]))


def test_the_isometry_step_has_a_rate_and_a_scale_of_its_own() -> None:
    faster = moved(one_layer([[3.0, 0.0], [0.0, 0.5]], strength=0.1, isometry_learning_rate=0.02))
    torch.testing.assert_close(faster, torch.tensor([[2.808, 0.0], [0.0, 0.503]]))
    # G - 2 I = diag(7, -1.75): 4 * 3 * 7 = 84 and 4 * 0.5 * -1.75 = -3.5.
    wider = moved(one_layer([[3.0, 0.0], [0.0, 0.5]], strength=0.1, scale=2.0))
    torch.testing.assert_close(wider, torch.tensor([[2.916, 0.0], [0.0, 0.5035]]))


def test_outputs_biases_and_normalisations_are_pulled_only_where_asked() -> None:
    layers = [*specs()[:1], LayerSpec("norm", "encoder", (8,)), *specs()[1:]]
    by_choice = {}
    for choice in ("hidden", "all"):
        network = trained([[part("adamo", strength=0.1, layers=choice)]], layers=layers)
        before = {name: value.detach().clone() for name, value in network.online.parameters.items()}
        network.optimizer.step()  # there is no gradient yet
        after = network.online.parameters
        by_choice[choice] = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert by_choice == {"hidden": {"fc1.weight", "fc2.weight"}, "all": {"fc1.weight", "fc2.weight", "fc3.weight"}}


def test_a_network_of_outputs_alone_has_nothing_to_pull() -> None:
    with pytest.raises(ValueError, match="layers: 'hidden' needs a layer before the outputs, but this network has out"):
        trained([[part("adamo")]], layers=[LayerSpec("out", "head", (3, 4))])


# -- the guard ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [[[1000.0, 0.0], [0.0, 1000.0]], [[1000.0, 0.0], [0.0, 0.001]], [[1000.0, 1000.0]]])
def test_a_step_never_takes_more_than_half_of_the_largest_singular_value(weight: list[list[float]]) -> None:
    before = torch.linalg.svdvals(torch.tensor(weight))
    # Unguarded, c = 4 * 0.01 * 10 = 0.4 would multiply 1000 by 1 - 0.4 * 999999.
    after = moved(one_layer(weight, strength=10.0))
    singular = torch.linalg.svdvals(after)
    assert singular[0] >= 0.499 * before[0]
    assert singular[0] < before[0]
    assert (after.diagonal() > 0).all()


def test_what_the_guard_leaves_of_large_weights_is_worked_out_by_hand() -> None:
    # A row's bound is exact, so half is taken. Of two equal singular values sqrt(2) is what the bound is too wide by.
    row = moved(one_layer([[1000.0, 1000.0]], strength=10.0))
    torch.testing.assert_close(row, torch.tensor([[500.0, 500.0]]))
    square = moved(one_layer([[1000.0, 0.0], [0.0, 1000.0]], strength=10.0))
    torch.testing.assert_close(square, 1000 * (1 - 0.5 / 2**0.5) * torch.eye(2))


@pytest.mark.parametrize("strength", [0.5, 50.0, 1e6])
def test_weights_of_any_size_become_isometries_at_any_strength(strength: float) -> None:
    generator = torch.Generator().manual_seed(0)
    optimizer = one_layer((100 * torch.randn(4, 6, generator=generator)).tolist(), strength=strength)
    for _ in range(2000):
        weight = moved(optimizer)
    torch.testing.assert_close(torch.linalg.svdvals(weight), torch.ones(4), rtol=0, atol=1e-3)


def test_a_weight_of_zeros_stays_zeros() -> None:
    assert not moved(one_layer([[0.0, 0.0], [0.0, 0.0]], strength=0.1)).any()


# -- beside a plain loop -----------------------------------------------------------------------------------------------


class PlainAdamO:
    """One member in plain PyTorch: autograd for the penalty, ``torch.optim.Adam`` for the task."""

    def __init__(self, module: nn.Module, names: list[str], coefficient: float, scale: float, half: bool) -> None:
        self.module, self.names, self.scale = module, names, scale
        self.coefficient = coefficient * (0.5 if half else 1.0)
        self.adam = torch.optim.Adam(module.parameters(), lr=1e-2)

    def update(self, inputs: Tensor, targets: Tensor) -> None:
        matrices = [self.module.get_parameter(name) for name in self.names]
        total = self.coefficient * sum(penalty(matrix, self.scale) for matrix in matrices)
        pulls = torch.autograd.grad(total, matrices)
        self.adam.zero_grad()
        (self.module(inputs) - targets).square().mean().backward()
        self.adam.step()
        with torch.no_grad():
            for matrix, pull in zip(matrices, pulls, strict=True):
                matrix.sub_(pull, alpha=1e-2)


def plain(network: Any, member: int, layers: list[LayerSpec]) -> nn.Sequential:
    """The member's network, with the platform's parameter names."""
    module = nn.Sequential()
    for index, spec in enumerate(layers):
        is_conv = len(spec.weight_shape) == 4
        if not is_conv and index and len(layers[index - 1].weight_shape) == 4:
            module.append(nn.Flatten())
        layer = nn.Conv2d(*spec.weight_shape[1::-1], 3) if is_conv else nn.Linear(*spec.weight_shape[::-1])
        module.add_module(spec.name, layer)
        if index < len(layers) - 1:
            module.append(nn.ReLU())
    module.load_state_dict({name: value.detach()[member] for name, value in network.online.parameters.items()})
    return module


@pytest.mark.parametrize("is_conv", [False, True])
@pytest.mark.parametrize(
    ("preset", "half", "coefficient", "scale"), [(None, False, 0.3, 2.0), ("rosseau_rl_code", True, 0.1, 1.0)]
)
def test_twenty_updates_agree_with_a_plain_loop(
    is_conv: bool, preset: str | None, half: bool, coefficient: float, scale: float
) -> None:
    layers, shape = (list(conv_specs()), (3, 6, 6)) if is_conv else (list(specs()), (4,))
    # The author's coefficient 0.1 on half of the penalty is the preset's strength 0.05.
    settings = {"preset": preset} if preset else {"strength": coefficient, "scale": scale}
    network = trained([[part("adamo", **settings)]] * 2, layers=layers)
    hidden = [f"{spec.name}.weight" for spec in layers[:-1]]
    loops = [PlainAdamO(plain(network, m, layers), hidden, coefficient, scale, half) for m in range(2)]
    for step in range(1, 21):
        update(network, step, shape)
        inputs, targets = batch([0, 1], step, shape)
        for member, loop in enumerate(loops):
            loop.update(inputs[member], targets[member])
    for name, value in network.online.parameters.items():
        for member, loop in enumerate(loops):
            torch.testing.assert_close(value[member], loop.module.get_parameter(name), rtol=1e-5, atol=1e-5)


# -- members and settings ----------------------------------------------------------------------------------------------


def test_strength_zero_is_plain_adam_bit_for_bit() -> None:
    treated, control = trained([[part("adamo", strength=0.0)]] * 2), trained([[part("none")]] * 2)
    train(treated, 20)
    train(control, 20)
    assert torch.equal(treated.online.flat, control.online.flat)


def test_members_of_other_strengths_share_a_population() -> None:
    strengths = (0.0, 0.05, 2.0)
    together = trained([[part("adamo", strength=strength)] for strength in strengths])
    train(together, 20)
    for member, strength in enumerate(strengths):
        alone = trained([[part("adamo", strength=strength)]], seeds=[member])
        train(alone, 20)
        for name, value in alone.online.parameters.items():
            torch.testing.assert_close(value[0], together.online.parameters[name][member], rtol=1e-5, atol=1e-5)


def test_one_member_that_is_not_finite_leaves_the_others_bit_equal() -> None:
    networks = [trained([[part("adamo", strength=0.1)]] * 3) for _ in range(2)]
    networks[1].online.parameters["fc1.weight"].data[1] = torch.nan
    for network in networks:
        train(network, 5)
    for name, value in networks[0].online.parameters.items():
        assert torch.equal(value[[0, 2]], networks[1].online.parameters[name][[0, 2]])


def test_settings_of_the_pull_are_refused_where_there_is_none() -> None:
    with pytest.raises(ValueError, match="scale: this setting has no effect: strength 0"):
        plugins.config_from("optimizers", "adamo", {"strength": 0.0, "scale": 2.0})
    with pytest.raises(ValueError, match="strength: must be at least 0, got -1"):
        adamo.Config(strength=-1.0)
