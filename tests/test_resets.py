"""Reset events on populations: only the members concerned change, and optimizer and target follow the rules."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from reset_networks import REWRITING
from treated import event, part, specs, trained

from plasticbench import plugins
from plasticbench.contracts.treatment import Part, Report, hooks_of
from plasticbench.learning.invariants import check_finite
from plasticbench.learning.trained import TrainedNetwork
from plasticbench.seeding import Streams

KINDS = [kind for kind in plugins.names("treatments") if "event" in hooks_of(part(kind).config.build())]


def _trained(treatment: Part, count: int) -> TrainedNetwork:
    """Networks with moved weights, full moments, and a target that lags behind."""
    layers = specs((6, 5))
    if treatment.kind == "plasticity_injection":
        layers = part("injection_heads").config.layers(layers)  # which it needs
    network = trained([[treatment]] * count, layers=layers)
    for seed in range(3):
        network.online.flat_grad.normal_(generator=torch.Generator().manual_seed(seed))
        network.optimizer.step()
        if seed == 1:
            network.sync_target()
    return network


def _snapshot(network: TrainedNetwork) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def _event(network, members):
    before = _snapshot(network)
    report = event(network, members, step=4)
    return before, _snapshot(network), report


def _reset(kind, members, settings=None, preset=None, count=3):
    network = _trained(part(kind, preset=preset, **(settings or {})), count)
    return network, *_event(network, members)


PRESETS = [(kind, preset) for kind in KINDS for preset in plugins.load("treatments", kind).PRESETS]


@pytest.mark.parametrize("members", [[0, 2], [0, 1, 3], [1, 2, 4]])
@pytest.mark.parametrize("kind, preset", PRESETS)
def test_members_that_are_not_concerned_keep_every_bit(kind, preset, members):
    _, before, after, _ = _reset(kind, members, preset=preset, count=5)
    others = [member for member in range(5) if member not in members]
    for name in before:
        assert torch.equal(before[name][others], after[name][others]), name


@pytest.mark.parametrize("kind", REWRITING)
def test_only_reported_parameters_change_and_training_goes_on_for_all(kind):
    network, before, after, report = _reset(kind, [0])
    changed = {n.removeprefix("q/online/") for n in before if "/online/" in n and not torch.equal(before[n], after[n])}
    assert changed
    assert changed <= report.touched
    network.online.flat_grad.fill_(1.0)
    network.optimizer.step()
    for name, tensor in _snapshot(network).items():
        if "/online/" in name:
            assert (tensor != after[name]).all(), name


def test_none_keeps_every_bit():
    _, before, after, report = _reset("none", [0, 1, 2])
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not report.touched


def test_full_reset_to_the_original_reproduces_the_first_initialisation():
    _, before, after, _ = _reset("full_reset", [1], {"init_source": "original"})
    for name in before:
        if "/online/" in name:
            assert torch.equal(after[name][1], before[name.replace("/online/", "/original/")][1])


def test_fresh_draws_differ_between_events_and_repeat_for_the_same_stream():
    first, _, once, _ = _reset("full_reset", [0, 1], count=2)
    _, twice, _ = _event(first, [0, 1])
    _, _, again, _ = _reset("full_reset", [0, 1], count=2)
    assert not torch.equal(once["q/online/fc1.weight"], twice["q/online/fc1.weight"])
    assert torch.equal(once["q/online/fc1.weight"], again["q/online/fc1.weight"])


@pytest.mark.parametrize("rule", ["keep", "reset", "reset_touched", "reset_touched_steps"])
def test_optimizer_rules_clear_moments_and_steps_of_the_right_parameters(rule):
    _, before, after, report = _reset("last_layers", [0], {"optimizer": rule})
    for name in before:
        if "/exp_avg" in name:
            parameter = name.rpartition("/")[2]
            cleared = rule == "reset" or (rule == "reset_touched" and parameter in report.touched)
            expected = torch.zeros_like(after[name][0]) if cleared else before[name][0]
            assert torch.equal(after[name][0], expected), name
    steps = after["q/adam_steps"][0].tolist()
    slots = ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias", "fc3.weight", "fc3.bias"]
    for slot, count in zip(slots, steps, strict=True):
        touched = rule in ("reset_touched", "reset_touched_steps") and slot in report.touched
        assert count == (0 if rule == "reset" or touched else 3)


@pytest.mark.parametrize("rule", ["sync", "sync_touched", "keep"])
def test_target_rules_copy_what_they_say(rule):
    _, before, after, report = _reset("last_layers", [0], {"target": rule})
    for name in before:
        if "/target/" in name:
            parameter = name.rpartition("/")[2]
            copied = rule == "sync" or (rule == "sync_touched" and parameter in report.touched)
            source = after[name.replace("/target/", "/online/")] if copied else before[name]
            assert torch.equal(after[name][0], source[0]), name


def test_same_operation_acts_on_the_targets_own_weights():
    settings = {"keep": 0.5, "noise": 0.5, "init_source": "original", "layers": "all", "target": "same_operation"}
    _, before, after, _ = _reset("shrink_perturb", [0, 1], settings)
    for name in before:
        if "/target/" in name:
            original = before[name.replace("/target/", "/original/")]
            torch.testing.assert_close(after[name][:2], (0.5 * before[name] + 0.5 * original)[:2])


@pytest.mark.parametrize("kind", ["full_reset", "last_layers"])
def test_same_operation_draws_fresh_weights_once_for_network_and_target(kind):
    network, _, after, report = _reset(kind, [0, 2], {"init_source": "fresh", "target": "same_operation"})
    for name in report.touched:
        online, target = after[f"q/online/{name}"], after[f"q/target/{name}"]
        assert torch.equal(online[[0, 2]], target[[0, 2]]), name
    alone = Streams(network.streams[0].seed)
    expected = network.online.draw([alone["init/q"]]), network.online.draw([alone["init/q"]])
    assert torch.equal(after["q/online/fc3.weight"][0], expected[1]["fc3.weight"][0])
    streams = network.streams[0]["init/q"].bit_generator.state
    assert streams == alone["init/q"].bit_generator.state, "two networks were drawn: the first, and one at the event"


def test_same_operation_repeats_the_chance_of_members_and_leaves_their_streams_as_without_a_target():
    class Noise:
        def on_event(self, net, state, look):
            for m in range(len(net.layers[0].weight.value)):
                net.layers[0].weight.value[m] = look.rng(m).random()
            return Report(touched={"fc1.weight"})

    @dataclass(frozen=True)
    class NoiseConfig:
        target: str
        optimizer: str = "keep"

        def build(self):
            return Noise()

    networks = {}
    for rule in ("keep", "same_operation"):
        part = Part(family="treatments", kind="noise", config=NoiseConfig(rule), id=rule)
        networks[rule] = _trained(part, 2)
        networks[rule].parts.event(0, [0, 1], 10, None)
    twin = networks["same_operation"]
    assert torch.equal(twin.target.parameters["fc1.weight"], twin.online.parameters["fc1.weight"])
    assert torch.equal(twin.online.flat, networks["keep"].online.flat)
    for mine, other in zip(twin.streams, networks["keep"].streams, strict=True):
        assert mine.state_dict() == other.state_dict()


def test_a_policy_that_breaks_a_network_is_caught():
    class Broken:
        def on_event(self, net, state, look):
            net.layers[0].weight.value.fill_(float("nan"))
            return Report(touched={"fc1.weight"})

    @dataclass(frozen=True)
    class BrokenConfig:
        optimizer: str = "keep"
        target: str = "keep"

        def build(self):
            return Broken()

    network = _trained(Part(family="treatments", kind="broken", config=BrokenConfig(), id="broken"), 2)
    event(network, [1], step=4)
    with pytest.raises(RuntimeError, match=r"fc1\.weight"):
        check_finite(network.online.parameters)
    assert all(torch.isfinite(value[0]).all() for value in network.online.parameters.values())


def test_every_policy_leaves_storage_where_it_was():
    for kind in KINDS:
        network = _trained(part(kind), 2)
        parameters = (*network.online.parameters.values(), *network.target.parameters.values())
        addresses = [p.data_ptr() for p in parameters]
        event(network, [0], step=4)
        now = (*network.online.parameters.values(), *network.target.parameters.values())
        assert addresses == [p.data_ptr() for p in now]


@pytest.mark.parametrize("members", [[0, 1, 2, 3], [0, 1, 3]])
def test_members_reset_together_and_one_by_one_agree(members):
    for kind in KINDS:
        _, _, together, report = _reset(kind, members, count=4)
        one_by_one = _trained(part(kind), 4)
        for row, member in enumerate(members):
            _, alone, own = _event(one_by_one, [member])
            for name, values in own.measurements.items():
                torch.testing.assert_close(report.measurements[name][row], values[0], rtol=1e-4, atol=1e-5)
        for name in together:
            np.testing.assert_allclose(alone[name].numpy(), together[name].numpy(), rtol=1e-5, atol=1e-6)


def test_presets_can_be_changed_one_setting_at_a_time():
    paper = plugins.config_from("treatments", "fire", {}, "fire_paper_dqn")
    changed = plugins.config_from("treatments", "fire", {"iterations": 5}, "fire_paper_dqn")
    assert changed == replace(paper, iterations=5)
