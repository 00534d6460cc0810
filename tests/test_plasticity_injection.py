"""Plasticity injection: outputs at the event, what trains and what stands still, and three plain heads beside it."""

import copy

import pytest
import torch
from torch import nn
from treated import BASE, batch, conv_specs, event, part, specs, train, trained, weights

from plasticbench.learning.layers import LayerSpec, weight_bound
from plasticbench.learning.networks import simba
from plasticbench.learning.structures import injection_heads, layer_norm, width
from plasticbench.learning.treatments import plasticity_injection
from plasticbench.seeding import Streams

METHOD = [part("injection_heads"), part("plasticity_injection")]


def injected(members: int = 1, updates: int = 20, layers=None, shape=(4,)):
    network = trained([METHOD] * members, layers=layers)
    train(network, updates, shape=shape)
    event(network, range(members), updates, index=1, shape=shape)
    return network


def test_first_weights_are_those_of_the_network_without_spare_heads_and_train_like_them() -> None:
    network, plain = trained([METHOD] * 2), trained([[], []])
    for one in (network, plain):
        train(one, 20)
    for name, value in plain.online.parameters.items():
        ours = network.online.parameters[name]
        units, inputs = {"fc2.weight": (6, 8), "fc3.weight": (3, 6)}.get(name, (value.shape[1], None))
        core, spare = ours[:, :units, :inputs] if inputs else ours[:, :units], ours.clone()
        torch.testing.assert_close(core, value, rtol=1e-5, atol=1e-5)
        (spare[:, :units, :inputs] if inputs else spare[:, :units]).zero_()
        assert not spare.any()


def test_spare_units_count_in_no_initialiser() -> None:
    spec = LayerSpec("fc", "head", (12, 5), spare_units=8)
    assert weight_bound(spec) == weight_bound(LayerSpec("fc", "head", (4, 5)))


@pytest.mark.parametrize(("layers", "shape"), [(specs(), (4,)), (conv_specs(), (3, 6, 6))])
def test_outputs_of_network_and_target_are_the_same_before_and_after(layers, shape) -> None:
    network = trained([METHOD] * 3, layers=layers)
    train(network, 10, shape=shape)
    inputs = batch([0, 1, 2], 50, shape)[0]
    with torch.no_grad():
        before, target = network.online.forward(inputs), network.forward_target(inputs)
        report = event(network, [0, 2], 10, index=1, shape=shape)
        torch.testing.assert_close(network.online.forward(inputs), before, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(network.forward_target(inputs), target, rtol=1e-6, atol=1e-6)
    assert report.measurements["injected"].tolist() == [1, 1]


def test_the_target_keeps_its_own_head_and_gets_the_same_new_ones() -> None:
    network = injected()
    online, target = network.online.parameters, network.target.parameters
    for name, dim in (("fc2.weight", 1), ("fc2.bias", 1), ("fc3.weight", 2)):
        ours, theirs = online[name].chunk(3, dim), target[name].chunk(3, dim)
        assert not torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])
        assert torch.equal(ours[2], theirs[2])
    assert not torch.equal(online["fc2.weight"][:, 6:12], online["fc2.weight"][:, :6])


def test_draws_come_from_a_stream_of_its_own() -> None:
    network = injected()
    fc2, fc3 = trained([METHOD]).online.specs[-2:]
    from plasticbench.learning.layers import draw_bias, draw_weight

    rng = Streams(0)["treatment/q/plasticity_injection"]
    weight, _, output = draw_weight(fc2, rng)[:6], draw_bias(fc2, rng), draw_weight(fc3, rng)[:, :6]
    assert torch.equal(weights(network, 0)["fc2.weight"][6:12], torch.from_numpy(weight))
    assert torch.equal(weights(network, 0)["fc3.weight"][:, 6:12], torch.from_numpy(output))


@pytest.mark.parametrize("kind", ["adamw", "sgd", "muon"])
def test_frozen_heads_stand_still_under_any_optimizer(kind) -> None:
    network = trained([[*METHOD, part(kind)]])
    train(network, 5)
    event(network, [0], 5, index=1)
    before = weights(network, 0)
    train(network, 20, first=6)
    for name, dim in (("fc2.weight", 0), ("fc2.bias", 0), ("fc3.weight", 1)):
        old, new = before[name].chunk(3, dim), weights(network, 0)[name].chunk(3, dim)
        assert torch.equal(old[0], new[0])
        assert torch.equal(old[2], new[2])
        assert not torch.equal(old[1], new[1])


class ThreeHeads(nn.Module):
    """The published sum of one member right after its injection: encoder, frozen head, new one, its frozen copy."""

    def __init__(self, own):
        super().__init__()
        self.encoder = self._linear(own["fc1.weight"], own["fc1.bias"])
        pieces = [own[name].chunk(3, dim) for name, dim in (("fc2.weight", 0), ("fc2.bias", 0), ("fc3.weight", 1))]
        zero, bias = torch.zeros(3), own["fc3.bias"]
        heads = []
        for number, (weight, shift, output) in enumerate(zip(*pieces, strict=True)):
            output = -output if number == 2 else output
            last = self._linear(output, bias if number == 1 else zero)
            heads.append(nn.Sequential(self._linear(weight, shift), nn.ReLU(), last))
        self.old, self.new, self.copy = heads

    @staticmethod
    def _linear(weight, bias):
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": weight, "bias": bias})
        return layer

    def forward(self, x):
        features = self.encoder(x).relu()
        return self.old(features) + self.new(features) - self.copy(features)


def test_training_after_the_event_agrees_with_three_plain_heads_for_every_member() -> None:
    network = injected(members=2, updates=10)
    plain = [ThreeHeads(copy.deepcopy(weights(network, member))) for member in range(2)]
    network.clear_moments(slice(0, 2, 1), None)
    train(network, 20, first=11)
    for seed, module in enumerate(plain):
        trainable = [*module.encoder.parameters(), *module.new.parameters()]
        optimizer = torch.optim.Adam(trainable, lr=BASE.learning_rate, eps=BASE.eps)
        for step in range(11, 31):
            inputs, targets = batch([seed], step)
            optimizer.zero_grad()
            (module(inputs[0]) - targets[0]).square().mean().backward()
            optimizer.step()
        own = weights(network, seed)
        torch.testing.assert_close(own["fc1.weight"], module.encoder.weight.detach(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(own["fc2.weight"][6:12], module.new[0].weight.detach(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(own["fc3.weight"][:, 6:12], module.new[2].weight.detach(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(own["fc3.bias"], module.new[2].bias.detach(), rtol=1e-4, atol=1e-5)


def test_a_second_event_changes_nothing() -> None:
    network = injected()
    before = weights(network, 0)
    report = event(network, [0], 21, index=1)
    assert report.measurements["injected"].tolist() == [0]
    assert all(torch.equal(value, before[name]) for name, value in weights(network, 0).items())


@pytest.mark.parametrize(
    "layers", [simba.Config(num_blocks=1, width=6).layers((4,), 3), layer_norm.Config().layers(specs()), specs()[-1:]]
)
def test_a_network_without_a_plain_hidden_layer_before_the_outputs_is_refused(layers) -> None:
    with pytest.raises(ValueError, match="injection_heads needs a linear layer"):
        injection_heads.Config().layers(layers)


def test_without_heads_or_with_widened_ones_it_is_refused() -> None:
    for layers in (specs(), width.Config().layers(injection_heads.Config().layers(specs()))):
        with pytest.raises(ValueError, match="needs heads to inject into"):
            plasticity_injection.Config().fits(layers)
