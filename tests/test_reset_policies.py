import math

import pytest
import torch
from reset_networks import apply, layer_of, network, streams_of, values

from plasticbench import plugins
from plasticbench.contracts.network import NetworkState

# -- hand-worked numbers ----------------------------------------------------------------------------------------------


def test_fire_moves_a_diagonal_weight_to_the_identity_and_measures_the_worked_example() -> None:
    net = NetworkState(layers=[layer_of([[3.0, 0.0], [0.0, 0.5]])])
    report = apply(net, "fire", members=1, layers="all")
    torch.testing.assert_close(net.layers[0].weight.value, torch.eye(2)[None])
    assert torch.equal(net.parameters["fc.bias"].value, torch.ones(1, 2))
    assert report.touched == {"fc.weight"}
    measured = {name: value.item() for name, value in report.measurements.items()}
    assert measured == pytest.approx({"sfe": 4.25, "dfi_before": 64.5625, "dfi_after": 0.0}, abs=1e-5)


def test_shrink_perturb_blends_weights_and_biases_by_keep_and_noise() -> None:
    net = NetworkState(layers=[layer_of([[1.0, 2.0], [3.0, 4.0]])])
    report = apply(net, "shrink_perturb", members=1, layers="all", keep=0.5, noise=0.1)
    torch.testing.assert_close(net.layers[0].weight.value, torch.tensor([[[1.5, 2.0], [2.5, 3.0]]]))
    torch.testing.assert_close(net.parameters["fc.bias"].value, torch.full((1, 2), 1.5))
    assert report.touched == {"fc.weight", "fc.bias"}


def test_shrink_perturb_with_originals_blends_towards_the_first_initialisation() -> None:
    net = NetworkState(layers=[layer_of([[1.0, 2.0], [3.0, 4.0]])])
    apply(net, "shrink_perturb", members=1, layers="all", keep=0.2, noise=0.8, init_source="original")
    torch.testing.assert_close(net.layers[0].weight.value, torch.tensor([[[16.2, 16.4], [16.6, 16.8]]]))


@pytest.mark.parametrize("source", ["fresh", "original"])
def test_full_reset_copies_the_chosen_initial_values_of_every_parameter(source) -> None:
    net = network(streams_of(2))
    report = apply(net, "full_reset", init_source=source)
    assert report.touched == set(net.parameters)
    for parameter in net.parameters.values():
        assert torch.equal(parameter.value, getattr(parameter, source))


def test_last_layers_resets_the_head_alone() -> None:
    net = network(streams_of(2))
    before = values(net)
    report = apply(net, "last_layers")
    assert report.touched == {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}
    for name, parameter in net.parameters.items():
        assert torch.equal(parameter.value, parameter.fresh if name in report.touched else before[name])


# -- FIRE -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["svd", "newton_schulz"])
def test_fire_gives_each_kernel_position_equal_singular_values_of_the_muon_scale(solver) -> None:
    net = network(streams_of(2))
    settings = {"iterations": 60} if solver == "newton_schulz" else {}
    apply(net, "fire", layers="conv*", solver=solver, **settings)
    for name in ("conv1", "conv2"):
        weight = net.parameters[f"{name}.weight"].value
        sigma = torch.linalg.svdvals(weight.permute(0, 3, 4, 1, 2))
        scale = math.sqrt(weight.shape[1] / weight.shape[2]) / 4
        torch.testing.assert_close(sigma, torch.full_like(sigma, scale), rtol=1e-4, atol=0)


def test_fire_scales_differ_as_named() -> None:
    for scale, expected in {"muon": math.sqrt(8 / 24), "none": 1.0}.items():
        net = network(streams_of(2))
        apply(net, "fire", layers="fc1", scale=scale)
        sigma = torch.linalg.svdvals(net.parameters["fc1.weight"].value)
        torch.testing.assert_close(sigma, torch.full_like(sigma, expected), rtol=1e-5, atol=0)


@pytest.mark.parametrize("layers", ["conv2", "fc1"])
def test_norm_preserving_fire_keeps_each_members_norm(layers) -> None:
    net = network(streams_of(3))
    before = values(net)[f"{layers}.weight"]
    report = apply(net, "fire", members=3, layers=layers, scale="norm_preserving")
    after = net.parameters[f"{layers}.weight"].value
    torch.testing.assert_close(after.flatten(1).norm(dim=1), before.flatten(1).norm(dim=1))
    assert (report.measurements["dfi_after"] < 1e-6).all()
    assert (report.measurements["dfi_before"] > 0.1).all()


def test_fire_twice_is_fire_once() -> None:
    net = network(streams_of(2))
    apply(net, "fire")
    once = values(net)
    report = apply(net, "fire")
    torch.testing.assert_close(values(net), once, rtol=0, atol=1e-6)
    assert (report.measurements["sfe"] < 1e-9).all()


def test_fire_by_default_projects_hidden_layers_and_leaves_biases_and_output_alone() -> None:
    net = network(streams_of(2))
    before = values(net)
    report = apply(net, "fire")
    assert report.touched == {"conv1.weight", "conv2.weight", "fc1.weight"}
    for name in before.keys() - report.touched:
        assert torch.equal(net.parameters[name].value, before[name])


def test_fire_paper_preset_rewinds_the_head_and_keeps_convolution_biases() -> None:
    net = network(streams_of(2))
    before = values(net)
    report = apply(net, "fire", "fire_paper_dqn")
    assert report.touched == set(before) - {"conv1.bias", "conv2.bias", "norm.weight", "norm.bias"}
    for name in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"):
        assert torch.equal(net.parameters[name].value, net.parameters[name].original)


def test_fire_measures_the_change_of_the_whole_network_per_member() -> None:
    net = network(streams_of(2))
    before = values(net)
    report = apply(net, "fire", "fire_paper_dqn")
    weights = {name: parameter for name, parameter in net.parameters.items() if name.endswith("weight")}
    expected = sum((p.value - before[name]).flatten(1).square().sum(1) for name, p in weights.items())
    torch.testing.assert_close(report.measurements["sfe"], expected)
    assert (report.measurements["dfi_after"] < report.measurements["dfi_before"]).all()


def test_zero_weights_stay_finite_under_every_solver_and_scale() -> None:
    for solver in ("svd", "newton_schulz"):
        for scale in ("muon", "norm_preserving", "none"):
            net = network(streams_of(2))
            net.parameters["conv1.weight"].value[0, :, :, 0, 0] = 0.0
            net.parameters["fc1.weight"].value[1] = 0.0
            report = apply(net, "fire", solver=solver, scale=scale)
            assert all(value.isfinite().all() for value in values(net).values())
            assert all(value.isfinite().all() for value in report.measurements.values())


def test_half_precision_weights_keep_their_type_and_are_projected_in_single_precision() -> None:
    net, single = network(streams_of(2)), network(streams_of(2))
    for name, parameter in net.parameters.items():
        parameter.value = parameter.value.bfloat16()
        single.parameters[name].value = parameter.value.float()
    apply(net, "fire")
    apply(single, "fire")
    for name, value in values(single).items():
        assert torch.equal(net.parameters[name].value, value.bfloat16())


# -- identities -------------------------------------------------------------------------------------------------------


def test_shrink_perturb_with_all_kept_and_no_noise_is_the_identity() -> None:
    net = network(streams_of(2))
    before = values(net)
    apply(net, "shrink_perturb", keep=1.0, noise=0.0, rest="keep")
    assert all(torch.equal(value, before[name]) for name, value in values(net).items())


@pytest.mark.parametrize("source", ["fresh", "original"])
def test_shrink_perturb_with_nothing_kept_and_full_noise_is_a_full_reset(source) -> None:
    net, reset = network(streams_of(2)), network(streams_of(2))
    apply(net, "shrink_perturb", keep=0.0, noise=1.0, layers="all", norms="blend", init_source=source)
    apply(reset, "full_reset", init_source=source)
    assert all(torch.equal(value, values(reset)[name]) for name, value in values(net).items())


def test_rewinding_the_head_alone_is_what_the_paper_preset_does_beside_projecting() -> None:
    net, control = network(streams_of(2)), network(streams_of(2))
    fire, rewind = apply(net, "fire", "fire_paper_dqn"), apply(control, "last_layers", "fire_paper_dqn")
    assert fire.touched - rewind.touched == {"conv1.weight", "conv2.weight"}
    assert all(torch.equal(values(net)[name], values(control)[name]) for name in rewind.touched)


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layers, chosen",
    [
        ("encoder", {"conv1", "conv2"}),
        ("head", {"fc1", "fc2"}),
        ("hidden", {"conv1", "conv2", "fc1"}),
        ("all", {"conv1", "conv2", "fc1", "fc2"}),
        ("*1", {"conv1", "fc1"}),
        ("fc2", {"fc2"}),
    ],
)
def test_selector_chooses_layers_by_role_place_and_pattern(layers, chosen) -> None:
    report = apply(network(streams_of(2)), "last_layers", layers=layers)
    assert {name.split(".")[0] for name in report.touched} == chosen


@pytest.mark.parametrize("kind", ["fire", "shrink_perturb", "last_layers"])
def test_selector_without_a_match_is_an_error_that_names_the_layers(kind) -> None:
    net = network(streams_of(2))
    before = values(net)
    with pytest.raises(ValueError, match=r"layers: .*conv1 \(encoder\).*got 'dense\*'"):
        apply(net, kind, layers="dense*")
    assert all(torch.equal(value, before[name]) for name, value in values(net).items())


@pytest.mark.parametrize("kind, settings", [("full_reset", {}), ("shrink_perturb", {}), ("fire", {"rest": "reset"})])
def test_missing_originals_are_an_error_before_anything_is_written(kind, settings) -> None:
    net = network(streams_of(2), with_originals=False)
    before = values(net)
    with pytest.raises(ValueError, match=r"init_source: 'original' needs .* pass it as initial="):
        apply(net, kind, init_source="original", **settings)
    assert all(torch.equal(value, before[name]) for name, value in values(net).items())


@pytest.mark.parametrize(
    "kind, settings, message",
    [
        ("fire", {"solver": "qr"}, "solver: must be one of newton_schulz, svd, got 'qr'"),
        ("fire", {"scale": "big"}, "scale: must be one of"),
        ("fire", {"iterations": 0, "solver": "newton_schulz"}, "iterations: must be at least 1, got 0"),
        ("fire", {"rest": "drop"}, "rest: must be one of keep, reset, got 'drop'"),
        ("shrink_perturb", {"keep": 1.5}, r"keep: must lie in \[0, 1\], got 1.5"),
        ("shrink_perturb", {"noise": math.nan}, r"noise: must lie in \[0, 1\], got nan"),
        ("full_reset", {"init_source": "new"}, "init_source: must be one of fresh, original, got 'new'"),
        (
            "full_reset",
            {"optimizer": "drop"},
            "optimizer: must be one of keep, reset, reset_touched, reset_touched_steps, got",
        ),
        ("last_layers", {"target": "copy"}, "target: must be one of sync, sync_touched, keep, same_operation"),
        ("none", {"keep": 0.5}, "keep: 'none' has no such setting"),
        ("fire", {"iteration": 3}, "Did you mean 'iterations'"),
    ],
)
def test_bad_settings_name_the_setting_the_rule_and_the_value(kind, settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        plugins.config_from("treatments", kind, settings)


@pytest.mark.parametrize(
    "kind, settings, name",
    [
        ("fire", {"iterations": 5}, "iterations"),
        ("fire", {"init_source": "original"}, "init_source"),
        ("fire", {"layers": "all", "rest": "reset"}, "rest"),
        ("fire", {"layers": "all", "rest": "reset", "init_source": "original"}, "rest"),
        ("shrink_perturb", {"layers": "all", "rest": "keep"}, "rest"),
        ("shrink_perturb", {"noise": 0.0, "rest": "keep", "init_source": "original"}, "init_source"),
    ],
)
def test_settings_without_effect_are_errors(kind, settings, name) -> None:
    with pytest.raises(ValueError, match=f"{name}: this setting has no effect"):
        plugins.config_from("treatments", kind, settings)
