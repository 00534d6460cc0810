"""Reset events on populations: only the members concerned change, and optimizer and target follow the rules."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from plasticbench import plugins
from plasticbench.contracts.treatment import ProbeBatch, Report
from plasticbench.learning import event
from plasticbench.learning.networks import mlp
from plasticbench.learning.optimizers.adam import AdamConfig
from plasticbench.learning.trained import TrainedNetwork
from plasticbench.seeding import Streams

CPU = torch.device("cpu")


def _trained(members: int) -> tuple[TrainedNetwork, list[Streams]]:
    """Networks with moved weights, full moments, and a target that lags behind."""
    streams = [Streams(seed) for seed in range(members)]
    layers = mlp.Config(hidden=(6, 5)).layers((4,), 3)
    trained = TrainedNetwork.build("q", layers, AdamConfig(learning_rate=0.01), streams, CPU)
    for seed in range(3):
        trained.online.flat_grad.normal_(generator=torch.Generator().manual_seed(seed))
        trained.optimizer.step()
        if seed == 1:
            trained.sync_target()
    return trained, streams


def _snapshot(trained: TrainedNetwork) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trained.state_dict().items()}


def _reset(kind, members, settings=None, preset=None, count=3, trained=None):
    if trained is None:
        trained, streams = _trained(count)
    else:
        trained, streams = trained
    config = plugins.config_from("treatments", kind, settings or {}, preset)
    before = _snapshot(trained)
    data = ProbeBatch(obs=torch.rand(len(members), 8, 4))
    report = event.apply_reset(trained, members, config, [streams[m] for m in members], data)
    return trained, before, _snapshot(trained), report


PRESETS = [
    (kind, preset) for kind in plugins.names("treatments") for preset in plugins.load("treatments", kind).PRESETS
]


@pytest.mark.parametrize("kind, preset", PRESETS)
def test_members_that_are_not_concerned_keep_every_bit(kind, preset):
    _, before, after, _ = _reset(kind, [0, 2], preset=preset)
    for name in before:
        assert torch.equal(before[name][1], after[name][1]), name


@pytest.mark.parametrize("kind", [kind for kind in plugins.names("treatments") if kind != "none"])
def test_only_reported_parameters_change_and_training_goes_on_for_all(kind):
    trained, before, after, report = _reset(kind, [0])
    changed = {n.removeprefix("q/online/") for n in before if "/online/" in n and not torch.equal(before[n], after[n])}
    assert changed
    assert changed <= report.touched
    trained.online.flat_grad.fill_(1.0)
    trained.optimizer.step()
    for name, tensor in _snapshot(trained).items():
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
    first = _trained(2)
    _, _, once, _ = _reset("full_reset", [0, 1], trained=first)
    _, _, twice, _ = _reset("full_reset", [0, 1], trained=first)
    _, _, again, _ = _reset("full_reset", [0, 1], count=2)
    assert not torch.equal(once["q/online/fc1.weight"], twice["q/online/fc1.weight"])
    assert torch.equal(once["q/online/fc1.weight"], again["q/online/fc1.weight"])


@pytest.mark.parametrize("rule", ["keep", "reset", "reset_touched"])
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
        assert count == (0 if rule == "reset" or (rule == "reset_touched" and slot in report.touched) else 3)


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


def test_a_policy_that_breaks_a_network_is_caught():
    class Broken:
        def apply(self, net, streams, data):
            net.layers[0].weight.value.fill_(float("nan"))
            return Report(touched={"fc1.weight"})

    class BrokenConfig:
        optimizer, target = "keep", "keep"

        def build(self):
            return Broken()

    trained, streams = _trained(2)
    with pytest.raises(RuntimeError, match=r"fc1\.weight"):
        event.apply_reset(trained, [1], BrokenConfig(), streams[1:])


def test_every_policy_leaves_storage_where_it_was():
    for kind in plugins.names("treatments"):
        trained, streams = _trained(2)
        addresses = [p.data_ptr() for p in (*trained.online.parameters.values(), *trained.target.parameters.values())]
        config = plugins.config_from("treatments", kind, {})
        event.apply_reset(trained, [0], config, streams[:1], None)
        now = [p.data_ptr() for p in (*trained.online.parameters.values(), *trained.target.parameters.values())]
        assert addresses == now


def test_members_reset_together_and_one_by_one_agree():
    for kind in plugins.names("treatments"):
        _, _, together, _ = _reset(kind, [0, 1, 2])
        one_by_one = _trained(3)
        for member in range(3):
            _, _, alone, _ = _reset(kind, [member], trained=one_by_one)
        for name in together:
            np.testing.assert_allclose(alone[name].numpy(), together[name].numpy(), rtol=1e-5, atol=1e-6)


def test_presets_can_be_changed_one_setting_at_a_time():
    paper = plugins.config_from("treatments", "fire", {}, "fire_paper_dqn")
    changed = plugins.config_from("treatments", "fire", {"iterations": 5}, "fire_paper_dqn")
    assert changed == replace(paper, iterations=5)
