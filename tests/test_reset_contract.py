"""What holds for every treatment on disk that acts at events and knows the weights alone: reset policies."""

import dataclasses
import math

import pytest
import torch
from reset_networks import POLICIES, REWRITING, act, apply, network, streams_of, values
from torch import Tensor

from plasticbench import plugins
from plasticbench.seeding import Streams

PRESETS = [(kind, preset) for kind in POLICIES for preset in plugins.load("treatments", kind).PRESETS]


def test_the_reset_policies_of_version_01_are_among_them() -> None:
    assert {"none", "full_reset", "shrink_perturb", "fire", "last_layers"} <= set(POLICIES)


@pytest.mark.parametrize("kind", POLICIES)
def test_presets_exist_and_clean_is_the_default(kind) -> None:
    module = plugins.load("treatments", kind)
    assert module.PRESETS["clean"] == module.Config()
    if kind in ("none", "full_reset", "shrink_perturb", "fire", "last_layers"):
        assert module.PRESETS.keys() >= {"fire_paper_dqn", "fire_paper_sac"}
    assert plugins.summary("treatments", kind).endswith(".")


@pytest.mark.parametrize("kind, preset", PRESETS)
def test_configs_are_frozen_state_their_rules_and_list_only_their_own_settings_as_inert(kind, preset) -> None:
    config = plugins.config_from("treatments", kind, {}, preset)
    assert config.optimizer in ("keep", "reset", "reset_touched", "reset_touched_steps")
    assert config.target in ("sync", "sync_touched", "keep", "same_operation")
    assert getattr(config, "temperature", "keep") in ("keep", "reset")
    assert getattr(config, "inert", dict)().keys() <= {field.name for field in dataclasses.fields(config)}
    assert config.__dataclass_params__.frozen


@pytest.mark.parametrize("kind, preset", PRESETS)
def test_report_names_exactly_the_parameters_that_changed_and_storage_stays(kind, preset) -> None:
    net = network(streams_of(2))
    before, addresses = values(net), {name: p.value.data_ptr() for name, p in net.parameters.items()}
    report = apply(net, kind, preset)
    after = net.parameters
    assert report.touched == {name for name in after if not torch.equal(after[name].value, before[name])}
    assert {name: p.value.data_ptr() for name, p in after.items()} == addresses
    assert all(value.shape == (2,) for value in report.measurements.values())


@pytest.mark.parametrize("preset", ["clean", "fire_paper_dqn"])
def test_none_leaves_every_byte(preset) -> None:
    net = network(streams_of(2))
    before = values(net)
    assert apply(net, "none", preset).touched == set()
    for name, value in values(net).items():
        assert value.numpy().tobytes() == before[name].numpy().tobytes()


@pytest.mark.parametrize("kind, preset", PRESETS)
def test_members_are_independent(kind, preset) -> None:
    together = network(streams_of(3))
    report = apply(together, kind, preset, members=3)
    config = plugins.config_from("treatments", kind, {}, preset)
    for member in range(3):
        alone = network([Streams(member)])
        own_report = act(alone, config, [Streams(member)])
        for name, value in values(alone).items():
            torch.testing.assert_close(values(together)[name][member], value[0], rtol=1e-5, atol=1e-6)
        for name, value in own_report.measurements.items():
            torch.testing.assert_close(report.measurements[name][member], value[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in REWRITING if kind != "fire"])
def test_two_fresh_resets_differ_and_replay_from_restored_streams(kind) -> None:
    streams = streams_of(2)
    network(streams)
    saved = [stream.state_dict() for stream in streams]
    config = plugins.config_from("treatments", kind, {})

    def applied() -> dict[str, Tensor]:
        net = network(streams)
        act(net, config, streams)
        return values(net)

    first, second = applied(), applied()
    for stream, state in zip(streams, saved, strict=True):
        stream.load_state_dict(state)
    replayed = applied()
    assert all(torch.equal(replayed[name], value) for name, value in first.items())
    assert not torch.equal(first["fc2.weight"], second["fc2.weight"])


@pytest.mark.parametrize(
    ("kind", "preset", "moves"),
    [
        ("none", "fire_paper_sac", False),
        ("fire", "clean", False),
        ("fire", "fire_paper_sac", False),
        ("last_layers", "fire_paper_sac", False),
        ("shrink_perturb", "clean", False),
        ("shrink_perturb", "fire_paper_sac", True),
        ("full_reset", "clean", True),
        ("full_reset", "fire_paper_sac", True),
    ],
)
def test_each_policy_treats_normalisations_as_documented(kind, preset, moves) -> None:
    net = network(streams_of(2))
    before = values(net)
    report = apply(net, kind, preset)
    for name in ("norm.weight", "norm.bias"):
        assert (name in report.touched) is moves
        assert torch.equal(net.parameters[name].value, before[name]) is not moves


def test_fire_paper_sac_gives_every_linear_layer_heads_included_the_scale_of_its_shape() -> None:
    net = network(streams_of(2))
    net.layers = [layer for layer in net.layers if layer.name.startswith("fc")]
    apply(net, "fire", "fire_paper_sac")
    for name, scale in (("fc1", math.sqrt(8 / 24)), ("fc2", math.sqrt(3 / 8))):
        sigma = torch.linalg.svdvals(net.parameters[f"{name}.weight"].value)
        torch.testing.assert_close(sigma, torch.full_like(sigma, scale), rtol=1e-2, atol=0)


def test_shrink_perturb_of_fire_paper_sac_keeps_a_fifth_of_everything() -> None:
    net = network(streams_of(2))
    before = values(net)
    apply(net, "shrink_perturb", "fire_paper_sac")
    for name, parameter in net.parameters.items():
        torch.testing.assert_close(parameter.value, 0.2 * before[name] + 0.8 * parameter.original)
