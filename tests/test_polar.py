import math

import pytest
import torch
from torch import Tensor

from plasticbench.learning.treatments._polar import deviation, newton_schulz, project, slices

ONE = torch.ones(1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def reference_newton_schulz(matrix: Tensor, iterations: int) -> Tensor:
    """The scalar iteration on the singular values of one matrix, in double precision."""
    u, sigma, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    sigma = sigma / sigma.square().sum().sqrt()
    for _ in range(iterations):
        sigma = 1.5 * sigma - 0.5 * sigma**3
    return u @ torch.diag(sigma) @ vh


@pytest.mark.parametrize("solver", ["svd", "newton_schulz"])
def test_polar_factor_of_a_positive_diagonal_matrix_is_the_identity(solver) -> None:
    (factor,) = project([torch.diag(torch.tensor([3.0, 0.5]))], solver=solver, iterations=10)
    torch.testing.assert_close(factor, torch.eye(2), rtol=0, atol=1e-3 if solver == "newton_schulz" else 1e-7)


def test_one_newton_schulz_step_has_the_value_worked_by_hand() -> None:
    stepped = newton_schulz(torch.diag(torch.tensor([3.0, 0.5]))[None], 1)[0]
    norm = math.sqrt(9.25)
    expected = [1.5 * s - 0.5 * s**3 for s in (3 / norm, 0.5 / norm)]
    torch.testing.assert_close(stepped, torch.diag(torch.tensor(expected)))
    torch.testing.assert_close(stepped.diagonal(), torch.tensor([0.99973, 0.24437]), rtol=0, atol=2e-4)


def test_polar_factor_of_a_scaled_rotation_is_the_rotation() -> None:
    angle = torch.tensor(0.3)
    rotation = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    for solver in ("svd", "newton_schulz"):
        (factor,) = project([7.0 * rotation], solver=solver, iterations=10)
        torch.testing.assert_close(factor, rotation, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(64, 4), (4, 64), (33, 32), (64, 64), (1, 9), (9, 1), (1, 1)])
@pytest.mark.parametrize("iterations", [1, 5, 10])
def test_newton_schulz_follows_the_scalar_iteration_of_each_singular_value(shape, iterations) -> None:
    weights = torch.randn((3, *shape), generator=generator())
    (factors,) = project([weights], solver="newton_schulz", iterations=iterations)
    for weight, factor in zip(weights, factors, strict=True):
        torch.testing.assert_close(factor.double(), reference_newton_schulz(weight, iterations), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (16, 16)])
def test_both_solvers_agree_once_newton_schulz_has_converged(shape) -> None:
    weights = torch.randn((2, *shape), generator=generator(), dtype=torch.float64)
    (exact,) = project([weights], solver="svd")
    (iterated,) = project([weights], solver="newton_schulz", iterations=60)
    torch.testing.assert_close(iterated, exact, rtol=0, atol=1e-10)


def test_exact_projection_is_the_nearest_isometry() -> None:
    weight = torch.randn((6, 4), generator=generator(), dtype=torch.float64)
    (factor,) = project([weight], solver="svd")
    least = (weight - factor).square().sum()
    torch.testing.assert_close(least, (torch.linalg.svdvals(weight) - 1).square().sum())
    for seed in range(1, 20):
        other, _ = torch.linalg.qr(torch.randn((6, 4), generator=generator(seed), dtype=torch.float64))
        assert (weight - other).square().sum() > least


def test_projecting_twice_is_projecting_once() -> None:
    weights = [torch.randn((2, 12, 20), generator=generator())]
    once = project(weights, solver="svd")
    torch.testing.assert_close(project(once, solver="svd"), once, rtol=0, atol=1e-6)


def test_batching_changes_no_result_whatever_shapes_share_a_call() -> None:
    shapes = [(3, 8, 5), (3, 5, 8), (2, 4, 5, 8), (3, 8, 8), (5, 8)]
    weights = [torch.randn(shape, generator=generator(i)) for i, shape in enumerate(shapes)]
    for solver in ("svd", "newton_schulz"):
        together = project(weights, solver=solver, iterations=7)
        for weight, factors in zip(weights, together, strict=True):
            assert factors.shape == weight.shape
            matrices, solved = (stack.reshape(-1, *stack.shape[-2:]) for stack in (weight, factors))
            for matrix, factor in zip(matrices, solved, strict=True):
                (alone,) = project([matrix], solver=solver, iterations=7)
                torch.testing.assert_close(factor, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("solver", ["svd", "newton_schulz"])
def test_zero_tiny_and_huge_matrices_stay_finite_beside_others(solver) -> None:
    ordinary = torch.randn((4, 6), generator=generator())
    stack = torch.stack([torch.zeros(4, 6), ordinary, 1e-30 * ordinary, 1e15 * ordinary])
    (factors,) = project([stack], solver=solver, iterations=10)
    assert factors.isfinite().all()
    torch.testing.assert_close(factors[3], factors[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(factors[1], project([ordinary], solver=solver, iterations=10)[0], rtol=0, atol=1e-6)


def test_svd_completes_missing_directions_and_newton_schulz_leaves_them_missing() -> None:
    weight = torch.diag(torch.tensor([2.0, 1.0, 0.0]))
    (exact,) = project([weight], solver="svd")
    (iterated,) = project([weight], solver="newton_schulz", iterations=20)
    torch.testing.assert_close(exact @ exact.mT, torch.eye(3))
    torch.testing.assert_close(iterated, torch.diag(torch.tensor([1.0, 1.0, 0.0])), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("solver", ["svd", "newton_schulz"])
def test_half_precision_is_computed_in_single_precision(dtype, solver) -> None:
    weight = torch.randn((2, 5, 7), generator=generator()).to(dtype)
    (factor,) = project([weight], solver=solver, iterations=10)
    assert factor.dtype == torch.float32
    torch.testing.assert_close(factor, project([weight.float()], solver=solver, iterations=10)[0])


def test_inputs_are_left_as_they_are() -> None:
    weight = torch.randn((2, 5, 5), generator=generator())
    kept = weight.clone()
    for solver in ("svd", "newton_schulz"):
        project([weight], solver=solver)
    assert torch.equal(weight, kept)


def test_ten_steps_reach_isometry_for_wide_layers_but_not_for_square_ones() -> None:
    wide, square = (torch.randn((1, 64, width), generator=generator()) for width in (512, 64))
    factors = project([wide, square], solver="newton_schulz", iterations=10)
    wide_deviation, square_deviation = (float(deviation(factor, ONE)) for factor in factors)
    assert wide_deviation < 1e-3
    assert 1.0 < square_deviation < 10.0


def test_deviation_of_a_diagonal_matrix_has_the_value_worked_by_hand() -> None:
    weight = torch.diag(torch.tensor([3.0, 0.5]))[None]
    assert deviation(weight, ONE).item() == pytest.approx((9 - 1) ** 2 + (0.25 - 1) ** 2)
    assert deviation(2.0 * weight, 2.0 * ONE).item() == pytest.approx(64.5625)


def test_deviation_uses_the_smaller_gram_matrix_and_averages_kernel_positions() -> None:
    row = torch.tensor([[[2.0, 0.0, 0.0]]])
    assert deviation(row, ONE).item() == deviation(row.mT, ONE).item() == pytest.approx(9.0)
    kernel = torch.tensor([1.0, 2.0]).reshape(1, 1, 1, 1, 2)
    assert deviation(kernel, ONE).item() == pytest.approx((0.0 + 9.0) / 2)


def test_slices_are_the_kernel_positions_in_order() -> None:
    kernel = torch.arange(2.0 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6)
    matrices = slices(kernel)
    assert matrices.shape == (2, 30, 3, 4)
    assert torch.equal(matrices[1, 2 * 6 + 3], kernel[1, :, :, 2, 3])
    assert torch.equal(slices(kernel[..., 0, 0])[:, 0], kernel[..., 0, 0])
