"""Parseval regularisation, and the gradient of the distance from an isometry."""

import math
from types import SimpleNamespace

import pytest
import torch
from plain_training import assert_agrees, plain_copy, plain_training
from treated import conv_specs, part, train, trained, weights

from plasticbench.learning.treatments._isometry import isometry_gradient


def test_gradients_worked_by_hand() -> None:
    """4 (W W^T - s I) W: singular values 1, 2, 0 have the gradients 4 (1 - s), 8 (4 - s), 0; isometries none."""
    diagonal = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    assert isometry_gradient(diagonal, 2.0).tolist() == [[-4.0, 0.0, 0.0], [0.0, 16.0, 0.0]]
    assert isometry_gradient(diagonal.mT, 2.0).tolist() == [[-4.0, 0.0], [0.0, 16.0], [0.0, 0.0]]
    row = torch.tensor([[1.0, 2.0]])  # W W^T = 5
    assert isometry_gradient(row).tolist() == [[16.0, 32.0]]
    assert isometry_gradient(torch.zeros(3, 4, 2)).tolist() == torch.zeros(3, 4, 2).tolist()


@pytest.mark.parametrize(
    "shape", [(5, 3, 7), (5, 7, 3), (5, 4, 4), (5, 6, 2, 3, 3), (5, 40, 2, 3, 3), (3, 4), (2, 5, 3, 4)]
)
def test_gradient_is_autograds_of_both_penalties(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    matrix = weight.flatten(2) if len(shape) == 5 else weight
    scale = torch.rand(matrix.shape[:-2], generator=generator, dtype=torch.float64) + 0.5
    for gram in (matrix @ matrix.mT, matrix.mT @ matrix):
        eye = torch.eye(gram.shape[-1], dtype=torch.float64)
        penalty = (gram - scale[..., None, None] * eye).square().sum()
        (expected,) = torch.autograd.grad(penalty, weight, retain_graph=True)
        torch.testing.assert_close(isometry_gradient(weight.detach(), scale), expected)


def test_a_number_as_scale_is_that_of_every_matrix() -> None:
    weight = torch.randn((3, 4, 5), generator=torch.Generator().manual_seed(0))
    assert torch.equal(isometry_gradient(weight, 1.5), isometry_gradient(weight, torch.full((3,), 1.5)))


def test_members_of_two_strengths_and_scales_agree_with_plain_training_under_the_penalty() -> None:
    settings = [(1e-2, 2.0), (1e-1, 0.5)]
    network = trained([[part("parseval", strength=s, scale=c, reference_width=6)] for s, c in settings])
    modules = [plain_copy(network, member) for member in range(2)]
    train(network, 20)
    for member, (module, (strength, scale)) in enumerate(zip(modules, settings, strict=True)):

        def penalty(module=module, strength=strength, scale=scale):
            terms = []
            for layer in (module.fc1, module.fc2):
                units = layer.weight.shape[0]
                distance = layer.weight @ layer.weight.T - scale * torch.eye(units)
                terms.append(strength * (6 / units) ** 2 * distance.square().sum())
            return sum(terms)

        plain_training(module, member, penalty=penalty)
        assert_agrees(network, member, module)


def test_hidden_kernels_are_treated_as_matrices_and_the_output_layer_is_left_alone() -> None:
    network = trained([[]], layers=conv_specs())
    state = network.state_of(slice(0, 1, 1))
    part("parseval", strength=0.5, scale=3.0).config.build().on_gradient(state, {}, SimpleNamespace())
    gradients = network.online.views(network.online.flat_grad)
    for name in ("conv1", "conv2", "fc1"):
        matrix = weights(network, 0)[f"{name}.weight"].flatten(1)
        expected = 4 * 0.5 * (matrix @ matrix.T - 3.0 * torch.eye(len(matrix))) @ matrix
        torch.testing.assert_close(gradients[f"{name}.weight"][0].flatten(1), expected)
        assert not gradients[f"{name}.bias"].any()
    assert not gradients["fc2.weight"].any()


def test_an_isometry_of_the_scale_feels_no_pull() -> None:
    rotation, _ = torch.linalg.qr(torch.randn((6, 6), generator=torch.Generator().manual_seed(0)))
    for isometry in (rotation, rotation[:4], rotation[:, :3]):
        pull = isometry_gradient(math.sqrt(2) * isometry, 2.0)
        torch.testing.assert_close(pull, torch.zeros_like(pull), rtol=0, atol=1e-5)


def test_a_strong_pull_brings_hidden_singular_values_to_the_root_of_the_scale() -> None:
    network = trained([[part("parseval", strength=10.0, scale=2.0)], [part("none")]], seeds=[0, 0])
    train(network, 300)

    def distance(member: int, name: str) -> float:
        sigma = torch.linalg.svdvals(weights(network, member)[f"{name}.weight"])
        return float((sigma - math.sqrt(2)).abs().max())

    for name in ("fc1", "fc2"):
        assert distance(0, name) < 0.05
        assert distance(1, name) > 0.3
