"""Probes: hand-worked numbers, agreement with references, and what every probe must keep to."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from plasticbench import plugins
from plasticbench.analysis.probes.effective_rank import effective_rank
from plasticbench.analysis.probes.srank import srank
from plasticbench.analysis.probes.stable_rank import stable_rank
from plasticbench.contracts.network import LayerView, NetworkView

KINDS = [kind for kind in plugins.names("probes") if plugins.load("probes", kind).Config.needs is None]
"""Those that look at layers and features alone; ``test_tried_probes.py`` has the others."""
EVERY_SETTING = [(kind, {}) for kind in KINDS] + [
    ("dormant_ratio", {"tau": 0.1}),
    ("dormant_ratio", {"tau": 0.0}),
    ("dfi", {"scale": "muon"}),
    ("dfi", {"reduction": "mean"}),
    ("weight_distance", {"scale": "relative"}),
]


def measure(kind: str, view: NetworkView, **settings: object) -> dict[str, list[float]]:
    probe = plugins.config_from("probes", kind, settings).build()
    return {name: value.tolist() for name, value in probe.measure(view).items()}


def layer(name: str, weight: object = ((1.0,),), **tensors: object) -> LayerView:
    """One layer of one member from nested lists without the member dimension."""
    given = {key: torch.tensor(value, dtype=torch.float32)[None] for key, value in tensors.items()}
    return LayerView(name=name, weight=torch.tensor(weight, dtype=torch.float32)[None], **given)


def of_layers(*layers: LayerView) -> NetworkView:
    return NetworkView(name="online", layers=layers)


def of_features(features: Tensor) -> NetworkView:
    return NetworkView(name="online", layers=(), features=features)


def random_network(members: int, rows: int = 12, seed: int = 0) -> NetworkView:
    """A convolution with 4 channels, a hidden layer of 6 units and an output layer, with every field filled in."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn((members, *shape), generator=generator)

    def random_layer(name: str, shape: tuple[int, ...], activation: Tensor | None) -> LayerView:
        of_weights = ["weight", "initial_weight", "previous_weight", "weight_gradient", "weight_update"]
        of_biases = ["bias", "initial_bias", "bias_gradient", "bias_update"]
        tensors = {key: draw(*shape) for key in of_weights} | {key: draw(shape[0]) for key in of_biases}
        return LayerView(name=name, activation=activation, **tensors)

    features = draw(rows, 6).relu()
    layers = (
        random_layer("conv", (4, 3, 2, 2), draw(rows, 4, 5, 5).relu()),
        dataclasses.replace(random_layer("hidden", (6, 100), features), nonlinearity="tanh"),
        random_layer("output", (2, 6), None),
    )
    return NetworkView(name="online", layers=layers, features=features)


def tensors_of(view: NetworkView) -> list[Tensor]:
    parts = [view, *view.layers]
    values = [getattr(part, field.name) for part in parts for field in dataclasses.fields(part)]
    return [value for value in values if isinstance(value, Tensor)]


def member(view: NetworkView, index: int) -> NetworkView:
    """The view of one member alone."""

    def alone(part: LayerView | NetworkView) -> dict[str, Tensor]:
        values = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
        return {name: value[index : index + 1] for name, value in values.items() if isinstance(value, Tensor)}

    layers = tuple(dataclasses.replace(each, **alone(each)) for each in view.layers)
    return dataclasses.replace(view, layers=layers, **alone(view))


# Activity


def test_a_unit_is_dormant_when_its_score_is_at_most_tau_times_its_layers_mean() -> None:
    view = of_layers(layer("fc", activation=[[0.0, 1.0, 1.0, 2.0]]))
    assert measure("dormant_ratio", view) == {"": [0.25], "fc": [0.25]}
    # Magnitudes 0, 0.05, 0.95, 3 have mean 1, so that they are the scores themselves.
    view = of_layers(layer("fc", activation=[[0.0, 0.05, -0.95, 3.0], [0.0, -0.05, 0.95, -3.0]]))
    assert measure("dormant_ratio", view)["fc"] == [0.25]
    assert measure("dormant_ratio", view, tau=0.1)["fc"] == [0.5]
    assert measure("dormant_ratio", view, tau=0.96)["fc"] == [0.75]


def test_at_tau_zero_only_units_that_never_fire_are_dormant() -> None:
    view = of_layers(layer("fc", activation=[[0.0, 0.001, 0.0], [0.0, 0.0, 3.0]]))
    assert measure("dormant_ratio", view, tau=0.0)["fc"] == pytest.approx([1 / 3])
    # A score of rounding size is zero, as with numpy.isclose; a small one is not.
    view = of_layers(layer("fc", activation=[[1e-9, 1e-6, 1.0, 3.0]]))
    assert measure("dormant_ratio", view, tau=0.0)["fc"] == [0.25]


def test_a_layer_of_silent_units_is_all_dormant() -> None:
    view = of_layers(layer("fc", activation=[[0.0, 0.0], [0.0, 0.0]]))
    assert measure("dormant_ratio", view)["fc"] == [1.0]
    assert measure("dormant_ratio", view, tau=0.0)["fc"] == [1.0]


def test_the_total_dormant_ratio_pools_units_rather_than_averaging_layers() -> None:
    view = of_layers(
        layer("wide", activation=[[0.0, 1.0, 1.0, 2.0]]), layer("narrow", activation=[[0.0, 1.0]]), layer("output")
    )
    assert measure("dormant_ratio", view) == {"": pytest.approx([2 / 6]), "wide": [0.25], "narrow": [0.5]}


def test_a_convolutions_unit_is_a_channel_over_rows_and_positions() -> None:
    silent, one_pixel = [[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 4.0]]
    view = of_layers(layer("conv", activation=[[silent, one_pixel, silent], [silent, silent, one_pixel]]))
    assert measure("dormant_ratio", view)["conv"] == pytest.approx([1 / 3])
    assert measure("fraction_active", view)["conv"] == pytest.approx([2 / 24])
    assert measure("zero_activation", view)["conv"] == pytest.approx([22 / 24])


def test_active_and_zero_shares_pool_entries_and_count_negative_ones_as_neither() -> None:
    view = of_layers(layer("a", activation=[[1.0, 0.0, -1.0, 2.0]]), layer("b", activation=[[0.0, 0.0]]), layer("c"))
    assert measure("fraction_active", view) == {"": pytest.approx([2 / 6]), "a": [0.5], "b": [0.0]}
    assert measure("zero_activation", view) == {"": pytest.approx([3 / 6]), "a": [0.25], "b": [1.0]}


def test_dead_units_follow_the_rule_of_their_nonlinearity() -> None:
    rows = [[0.0, 1.0, 0.5, 0.0], [0.0, 0.0, 0.5, 2.0]]
    assert measure("dead_units", of_layers(layer("fc", activation=rows)))["fc"] == [0.25]
    still = dataclasses.replace(layer("fc", activation=rows), nonlinearity="tanh")  # 0 and 0.5 do not move
    assert measure("dead_units", of_layers(still))["fc"] == [0.5]
    assert measure("dead_units", of_layers(layer("a", activation=rows), layer("b", activation=[[0.0], [1.0]]))) == {
        "": pytest.approx([1 / 5]),
        "a": [0.25],
        "b": [0.0],
    }


def test_a_unit_that_is_on_for_half_of_the_rows_tells_one_bit() -> None:
    rows = [[0.0, 1.0, 5.0, 1.0], [0.0, 2.0, 0.0, 1.0], [0.0, 3.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]]
    # Shares 0, 1, 1/2 and 3/4; the last one tells 0.8113 bits.
    assert measure("unit_entropy", of_layers(layer("fc", activation=rows)))["fc"] == pytest.approx(
        [(0 + 0 + 1 + 0.811278) / 4]
    )


def test_saturation_is_of_bounded_nonlinearities_alone() -> None:
    bounded = dataclasses.replace(layer("a", activation=[[0.995, -0.999, 0.5, 0.98]]), nonlinearity="tanh")
    view = of_layers(bounded, layer("b", activation=[[7.0, 9.0]]))
    assert measure("saturation", view) == {"": [0.5], "a": [0.5]}
    assert measure("saturation", view, threshold=0.9)["a"] == [0.75]
    assert measure("saturation", of_layers(layer("b", activation=[[7.0, 9.0]]))) == {}


# Ranks


def test_ranks_of_four_equal_singular_values_are_four() -> None:
    sigma = torch.ones(1, 4, dtype=torch.float64)
    assert srank(sigma, 0.01).item() == 4
    assert effective_rank(sigma).item() == pytest.approx(4.0)
    assert stable_rank(sigma).item() == pytest.approx(4.0)
    orthogonal = of_features(torch.eye(4)[None])
    for kind in ("srank", "effective_rank", "stable_rank"):
        assert measure(kind, orthogonal)[""] == pytest.approx([4.0])


def test_ranks_of_singular_values_ten_and_one() -> None:
    view = of_features(torch.tensor([[[0.0, 10.0], [1.0, 0.0], [0.0, 0.0]]]))
    assert measure("srank", view) == {"": [2.0]}
    assert measure("srank", view, delta=0.1) == {"": [1.0]}  # 10/11 = 0.909
    assert measure("effective_rank", view)[""] == pytest.approx([math.exp(0.30464)], rel=1e-4)
    assert measure("stable_rank", view)[""] == pytest.approx([1.01])


def test_pca_rank_counts_squares_and_feature_rank_sizes() -> None:
    view = of_features(torch.tensor([[[0.0, 10.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]]))
    assert measure("pca_rank", view) == {"": [1.0]}  # 100/101 = 0.9901
    assert measure("pca_rank", view, delta=0.005) == {"": [2.0]}
    # Over the root of four rows the values are 5 and 0.5.
    assert measure("feature_rank", view) == {"": [2.0]}
    assert measure("feature_rank", view, threshold=0.5) == {"": [1.0]}


def test_rank_of_all_zero_features_is_zero() -> None:
    view = of_features(torch.zeros(2, 5, 3))
    assert [measure(kind, view)[""] for kind in ("srank", "effective_rank", "stable_rank")] == [[0.0, 0.0]] * 3


def test_rank_is_not_defined_with_fewer_rows_than_features() -> None:
    view = of_features(torch.ones(2, 3, 4))
    for kind in ("srank", "effective_rank", "stable_rank"):
        assert measure(kind, view)[""] == pytest.approx([math.nan, math.nan], nan_ok=True)


def test_a_diverged_member_measures_nan_and_leaves_the_others_alone() -> None:
    healthy = random_network(members=2)
    assert healthy.features is not None
    features = healthy.features.clone()
    features[1, 0, 0] = torch.nan
    broken = [dataclasses.replace(each, activation=features) for each in healthy.layers if each.name == "hidden"]
    view = NetworkView(name="online", layers=tuple(broken), features=features)
    for kind in ("srank", "effective_rank", "stable_rank", "feature_norm", "dormant_ratio"):
        whole = NetworkView(name="online", layers=(healthy.layers[1],), features=healthy.features)
        (kept, lost), (expected, _) = measure(kind, view)[""], measure(kind, whole)[""]
        assert (kept, math.isnan(lost)) == (expected, True), kind


def test_ranks_agree_with_a_singular_value_decomposition() -> None:
    generator = np.random.default_rng(0)
    features = generator.standard_normal((3, 40, 10)) @ np.diag(np.logspace(0, -3, 10))
    view = of_features(torch.tensor(features, dtype=torch.float32))
    for index in range(3):
        sigma = scipy.linalg.svdvals(features[index])
        share = sigma / sigma.sum()
        assert measure("srank", view)[""][index] == np.argmax(np.cumsum(share) >= 0.99) + 1
        assert measure("effective_rank", view)[""][index] == pytest.approx(np.exp(-(share * np.log(share)).sum()))
        frobenius, spectral = np.linalg.norm(features[index]), np.linalg.norm(features[index], 2)
        assert measure("stable_rank", view)[""][index] == pytest.approx(frobenius**2 / spectral**2, rel=1e-5)


# Norms


def test_feature_norm_is_the_mean_over_rows() -> None:
    assert measure("feature_norm", of_features(torch.tensor([[[3.0, 4.0], [0.0, 1.0]]]))) == {"": [3.0]}


def test_norms_join_weight_and_bias_and_the_total_is_over_all_parameters() -> None:
    first = layer("a", [[3.0, 0.0]], bias=[4.0], weight_gradient=[[1.0, 2.0]], bias_gradient=[2.0])
    second = layer("b", [[12.0]], weight_gradient=[[4.0]])
    assert measure("weight_norm", of_layers(first, second)) == {"": [13.0], "a": [5.0], "b": [12.0]}
    assert measure("gradient_norm", of_layers(first, second)) == {"": [5.0], "a": [3.0], "b": [4.0]}


def test_weight_distance_is_from_the_initial_parameters_absolute_or_relative() -> None:
    first = layer("a", [[5.0, 0.0]], bias=[4.0], initial_weight=[[2.0, 0.0]], initial_bias=[0.0])
    second = layer("b", [[12.0]], initial_weight=[[0.0]])
    unknown = layer("c", [[7.0]])
    view = of_layers(first, second, unknown)
    assert measure("weight_distance", view) == {"": [13.0], "a": [5.0], "b": [12.0]}
    assert measure("weight_distance", view, scale="relative") == {"": [6.5], "a": [2.5], "b": [math.inf]}


def test_update_ratio_is_the_size_of_the_step_over_the_size_of_the_parameters() -> None:
    moving = layer("a", [[3.0, 4.0]], bias=[0.0], weight_update=[[0.3, 0.0]], bias_update=[0.4])
    view = of_layers(moving, layer("frozen", [[100.0]]))
    assert measure("update_ratio", view) == {"": pytest.approx([0.1]), "a": pytest.approx([0.1])}


def test_singular_value_spread_is_their_deviation_over_their_mean() -> None:
    first, second = layer("a", [[3.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), layer("b", [[0.0, 2.0], [-2.0, 0.0], [0.0, 0.0]])
    spreads = measure("singular_value_spread", of_layers(first, second))
    assert spreads["a"] == pytest.approx([0.5])  # 3 and 1: mean 2, deviation 1
    assert spreads["b"] == pytest.approx([0.0], abs=1e-7)
    assert spreads[""] == pytest.approx([0.25])
    sigma = scipy.linalg.svdvals(np.random.default_rng(3).standard_normal((4, 3 * 5 * 5)))
    weight = np.random.default_rng(3).standard_normal((4, 3, 5, 5))
    assert measure("singular_value_spread", of_layers(layer("c", weight.tolist())))["c"] == pytest.approx(
        [sigma.std() / sigma.mean()], rel=1e-5
    )


# Isometry


def test_dfi_and_sfe_of_a_diagonal_matrix() -> None:
    view = of_layers(layer("a", [[1.0, 0.0], [0.0, 1.0]], previous_weight=[[3.0, 0.0], [0.0, 0.5]]))
    assert measure("sfe", view) == {"": [4.25], "a": [4.25]}
    assert measure("dfi", view) == {"": [0.0], "a": [0.0]}
    view = of_layers(layer("a", [[3.0, 0.0], [0.0, 0.5]]), layer("b", [[2.0]]))
    total, first, second = measure("dfi", view).values()
    assert total + first + second == pytest.approx([73.5625, 64.5625, 9.0])
    total, first, second = measure("dfi", view, reduction="mean").values()
    assert total + first + second == pytest.approx([73.5625 / 3, 64.5625 / 2, 9.0])


def test_dfi_of_wide_and_tall_isometries_is_zero() -> None:
    wide = [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    tall = [list(column) for column in zip(*wide, strict=True)]
    assert measure("dfi", of_layers(layer("wide", wide), layer("tall", tall)))[""] == [0.0]


def test_muon_scale_makes_projected_layers_measure_zero() -> None:
    generator = torch.Generator().manual_seed(0)
    linear = torch.linalg.qr(torch.randn(8, 2, generator=generator))[0] * math.sqrt(8 / 2)
    slices = torch.linalg.qr(torch.randn(3, 5, 6, 4, generator=generator))[0] * math.sqrt(6 / 4) / (3 * 5)
    view = of_layers(layer("linear", linear.tolist()), layer("conv", slices.permute(2, 3, 0, 1).tolist()))
    assert measure("dfi", view, scale="muon")[""] == pytest.approx([0.0], abs=1e-8)
    assert measure("dfi", view)[""][0] > 1.0


def test_dfi_of_a_convolution_is_the_mean_over_kernel_positions() -> None:
    # Positions hold diag(1, 1), diag(3, 0.5), diag(0, 0) and diag(2, 1).
    kernel = [[[[1.0, 3.0], [0.0, 2.0]], [[0.0] * 2] * 2], [[[0.0] * 2] * 2, [[1.0, 0.5], [0.0, 1.0]]]]
    assert measure("dfi", of_layers(layer("conv", kernel)))["conv"] == pytest.approx([(0 + 64.5625 + 2 + 9) / 4])


def test_dfi_agrees_with_singular_values() -> None:
    weight = np.random.default_rng(1).standard_normal((5, 9))
    sigma = scipy.linalg.svdvals(weight)
    assert measure("dfi", of_layers(layer("a", weight.tolist())))["a"] == pytest.approx([((sigma**2 - 1) ** 2).sum()])


# Settings and contract


def test_labels_name_the_settings_that_differ_from_the_defaults() -> None:
    labels = [plugins.config_from("probes", kind, settings).label for kind, settings in EVERY_SETTING]
    assert labels[: len(KINDS)] == KINDS
    special = ["dormant_ratio_0.1", "dormant_ratio_0", "dfi_muon", "dfi_mean", "weight_distance_relative"]
    assert labels[len(KINDS) :] == special
    assert plugins.config_from("probes", "dormant_ratio", {"tau": 0}).label == "dormant_ratio_0"


@pytest.mark.parametrize(
    "kind, settings, message",
    [
        ("dormant_ratio", {"tau": -0.1}, r"tau: must lie in \[0, 1\), got -0.1"),
        ("srank", {"delta": 1.0}, "delta: must lie strictly between 0 and 1, got 1.0"),
        ("dfi", {"scale": "moun"}, "scale: must be one of none, muon, got 'moun'"),
        ("dfi", {"reduction": "max"}, "reduction: must be one of sum, mean, got 'max'"),
        ("weight_distance", {"scale": "none"}, "scale: must be one of absolute, relative, got 'none'"),
    ],
)
def test_impossible_settings_are_refused(kind: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plugins.config_from("probes", kind, settings)


@pytest.mark.parametrize("kind, settings", EVERY_SETTING)
@pytest.mark.parametrize("members", [1, 3])
def test_every_probe_gives_one_finite_number_per_member(kind: str, settings: dict[str, object], members: int) -> None:
    view = random_network(members)
    values = plugins.config_from("probes", kind, settings).build().measure(view)
    assert "" in values
    assert set(values) - {""} <= {each.name for each in view.layers}
    for value in values.values():
        assert value.shape == (members,)
        assert value.is_floating_point()
        assert value.isfinite().all()


@pytest.mark.parametrize("kind, settings", EVERY_SETTING)
def test_every_probe_measures_a_member_the_same_alone_and_among_others(kind: str, settings: dict[str, object]) -> None:
    view = random_network(members=3)
    together = measure(kind, view, **settings)
    for index in range(3):
        for name, value in measure(kind, member(view, index), **settings).items():
            assert value[0] == pytest.approx(together[name][index], rel=1e-5)


@pytest.mark.parametrize("kind, settings", EVERY_SETTING)
def test_every_probe_leaves_view_gradients_and_random_state_alone(kind: str, settings: dict[str, object]) -> None:
    view = random_network(members=2)
    for tensor in tensors_of(view):
        tensor.requires_grad_()
    before = [tensor.detach().clone() for tensor in tensors_of(view)]
    state = torch.get_rng_state()
    values = plugins.config_from("probes", kind, settings).build().measure(view)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(value.requires_grad for value in values.values())
    for tensor, content in zip(tensors_of(view), before, strict=True):
        assert torch.equal(tensor, content)
        assert (tensor.grad, tensor._version) == (None, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_probe_is_empty_or_about_weights_when_only_weights_are_known(kind: str) -> None:
    known = measure(kind, of_layers(layer("a", [[1.0, 2.0]])))
    assert bool(known) == (kind in {"weight_norm", "dfi", "singular_value_spread"})


@pytest.mark.parametrize("kind", ["dormant_ratio", "fraction_active", "zero_activation", "dead_units", "unit_entropy"])
def test_activity_probes_leave_out_the_output_layer(kind: str) -> None:
    assert set(measure(kind, random_network(members=1))) == {"", "conv", "hidden"}
