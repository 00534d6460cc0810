"""ReDo: which units are dormant, what recycling them changes, and agreement with a plain loop in PyTorch."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from treated import BASE, batch, conv_specs, event, part, sample, specs, train, trained, update, weights

import plasticbench
from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.networks import simba
from plasticbench.learning.trained import TrainedNetwork
from plasticbench.learning.treatments import redo
from plasticbench.seeding import Streams

STEP = 10


def treated(layers: Sequence[LayerSpec] | None = None, members: int = 1, **settings) -> TrainedNetwork:
    return trained([[part("redo", **settings)]] * members, layers=layers)


def every_byte(network: TrainedNetwork) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def silence(network: TrainedNetwork, units: dict[str, list[int]]) -> None:
    """A bias so low that these units are exactly zero on every input."""
    for layer, chosen in units.items():
        network.online.parameters[f"{layer}.bias"].data[:, chosen] = -1000.0


def outputs(network: TrainedNetwork, shape: tuple[int, ...] = (4,)) -> Tensor:
    inputs, _ = batch([streams.seed for streams in network.streams], STEP, shape)
    with torch.no_grad():
        return network.online.forward(inputs)


# -- which units ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tau", "dormant"), [(0.0, [0]), (0.5, [0]), (1.0, [0, 1, 2]), (2.0, [0, 1, 2, 3])])
def test_units_at_or_below_tau_times_their_layers_mean_are_recycled(tau, dormant):
    """Mean magnitudes 0, 1, 1 and 2 have the mean 1, so they are the scores."""
    layers = [
        LayerSpec("fc1", "encoder", (4, 4), 1, "torch_default", activation="leaky_relu"),
        LayerSpec("fc2", "head", (3, 4), 1, "torch_default"),
    ]
    network = treated(layers, tau=tau)
    network.online.parameters["fc1.weight"].data.zero_()
    network.online.parameters["fc1.bias"].data.copy_(torch.tensor([0.0, 1.0, -100.0, 2.0]))  # leaks -1
    report = event(network, [0], STEP)
    assert report.measurements["recycled"].tolist() == [len(dormant)]
    assert (network.online.parameters["fc1.weight"][0] != 0).any(dim=1).nonzero().flatten().tolist() == dormant
    assert (network.online.parameters["fc2.weight"][0] == 0).all(dim=0).nonzero().flatten().tolist() == dormant


def test_members_may_differ_in_tau_and_agree_with_themselves_alone():
    taus, seeds = (0.3, 0.0, 0.8), [5, 6, 7]
    together = trained([[part("redo", tau=tau)] for tau in taus], seeds=seeds)
    assert len(together.parts.applications) == 1
    train(together, STEP)
    recycled = event(together, [0, 1, 2], STEP).measurements["recycled"].tolist()
    for member, (tau, seed) in enumerate(zip(taus, seeds, strict=True)):
        alone = trained([[part("redo", tau=tau)]], seeds=[seed])
        train(alone, STEP)
        assert event(alone, [0], STEP).measurements["recycled"].tolist() == [recycled[member]]
        for name, value in weights(alone, 0).items():
            torch.testing.assert_close(weights(together, member)[name], value, rtol=1e-5, atol=1e-6)
    assert recycled[1] < recycled[0] < recycled[2]


def test_both_layers_are_judged_before_either_is_rewritten():
    """Silencing the first layer's unit would silence the second's, which listens to it alone."""
    network = treated(specs((2, 2)), tau=0.5)
    p = {name: value.data for name, value in network.online.parameters.items()}
    p["fc1.weight"].zero_()
    p["fc1.bias"].copy_(torch.tensor([0.1, 10.0]))
    p["fc2.weight"].copy_(torch.tensor([[100.0, 0.0], [0.0, 1.0]]))
    p["fc2.bias"].zero_()
    assert event(network, [0], STEP).measurements["recycled"].tolist() == [1]
    assert p["fc2.weight"][0].tolist() == [[0.0, 0.0], [0.0, 1.0]]


# -- what stays -----------------------------------------------------------------------------------------------------


def crelu_specs() -> list[LayerSpec]:
    return [
        LayerSpec("fc1", "encoder", (6, 4), 1, "torch_default", activation="crelu"),
        LayerSpec("fc2", "encoder", (5, 12), 1, "torch_default", activation="crelu"),
        LayerSpec("fc3", "head", (3, 10), 1, "torch_default"),
    ]


def two_heads() -> list[LayerSpec]:
    return [
        *specs((8, 6), outputs=2)[:2],
        LayerSpec("mean", "head", (2, 6), 1, "torch_default"),
        LayerSpec("log_std", "head", (1, 6), 1, "torch_default", wiring="sibling"),
    ]


@pytest.mark.parametrize("between", ["zero", "fresh"])
@pytest.mark.parametrize(
    ("layers", "shape", "silent"),
    [
        (specs((8, 6)), (4,), {"fc1": [0, 3], "fc2": [1, 2]}),
        (conv_specs(), (3, 6, 6), {"conv1": [2], "conv2": [0, 4], "fc1": [1]}),
        (two_heads(), (4,), {"fc1": [7], "fc2": [0, 5]}),
        (simba.Config(num_blocks=2, width=4).layers((4,), 3), (4,), {"block1_fc1": [3, 9], "block2_fc1": [0]}),
    ],
    ids=["mlp", "convolutions", "two heads", "simba"],
)
def test_recycling_units_that_are_silent_on_the_batch_leaves_the_outputs(layers, shape, silent, between):
    network = treated(layers, members=2, tau=0.0, between=between)
    silence(network, silent)
    before, old = outputs(network, shape), weights(network, 0)
    report = event(network, [0, 1], STEP, shape=shape)
    assert report.measurements["recycled"].min() >= sum(map(len, silent.values()))
    assert torch.equal(outputs(network, shape), before)
    for layer, units in silent.items():
        assert (weights(network, 0)[f"{layer}.weight"][units] != old[f"{layer}.weight"][units]).any(), layer


def test_a_crelu_unit_is_dormant_when_both_halves_are():
    network = treated(crelu_specs(), tau=0.0)
    for name in ("fc1.weight", "fc1.bias"):
        network.online.parameters[name].data[:, 2] = 0.0
    before = outputs(network)
    assert event(network, [0], STEP).measurements["recycled"].tolist() == [1]
    torch.testing.assert_close(outputs(network), before, rtol=0, atol=1e-7)
    assert (network.online.parameters["fc2.weight"][0][:, [2, 8]] == 0).all()
    assert (network.online.parameters["fc1.weight"][0][2] != 0).all()


def test_behind_a_normalisation_a_unit_is_judged_by_what_is_read():
    layers = [
        LayerSpec("fc1", "encoder", (6, 4), 1, "torch_default", activation="identity"),
        LayerSpec("norm", "encoder", (6,)),
        LayerSpec("fc2", "head", (3, 6), 1, "torch_default"),
    ]
    network = treated(layers, tau=0.0)
    network.online.parameters["norm.bias"].data[:, 4] = -1000.0
    report = event(network, [0], STEP)
    assert report.measurements["recycled"].tolist() == [1]
    assert report.touched == {"fc1.weight", "fc1.bias", "norm.weight", "norm.bias", "fc2.weight"}
    assert network.online.parameters["norm.bias"][0].tolist() == [0.0] * 6
    assert event(network, [0], STEP).measurements["recycled"].tolist() == [0]  # alive again


def test_without_dormant_units_every_bit_stays():
    network = treated(members=2, tau=0.0)
    for name in ("fc1.bias", "fc2.bias"):
        network.online.parameters[name].data.fill_(10.0)
    train(network, 3)
    before = every_byte(network)
    report = event(network, [0, 1], STEP)
    assert report.measurements["recycled"].tolist() == [0, 0]
    assert all(torch.equal(value, before[name]) for name, value in every_byte(network).items())


def test_touched_are_hidden_layers_and_the_weights_that_read_them_and_the_target_waits_for_its_sync():
    network = treated(tau=0.3)
    train(network, STEP)
    before = every_byte(network)
    assert event(network, [0], STEP).touched == {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias", "fc3.weight"}
    after = every_byte(network)
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert "q/online/fc1.weight" in changed
    assert not any("/target/" in name or "steps" in name for name in changed)


def test_the_same_operation_recycles_the_targets_units_too_with_the_same_draw():
    network = treated(tau=0.0, target="same_operation")
    silence(network, {"fc1": [2]})
    event(network, [0], STEP)
    assert network.target is not None
    assert (network.target.parameters["fc2.weight"][0][:, 2] == 0).all()
    target, online = (net.parameters["fc1.weight"][0][2] for net in (network.target, network.online))
    assert torch.equal(target, online)


def test_a_network_of_outputs_alone_is_refused():
    network = treated([LayerSpec("out", "head", (3, 4))])
    with pytest.raises(ValueError, match="kind: 'redo' exchanges hidden units one by one"):
        event(network, [0], STEP)


def test_a_plain_module_is_refused_before_anything_is_written():
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(ValueError, match="kind: 'redo' looks at activations, which are unknown outside a benchmark"):
        plasticbench.reset(module, "redo")


# -- against a plain loop ---------------------------------------------------------------------------------------------


class PlainRedo:
    """One network, PyTorch's own layers and Adam."""

    def __init__(self, start: dict[str, Tensor], seed: int, config: redo.Config) -> None:
        self.layers = [nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 3)]
        for i, layer in enumerate(self.layers, start=1):
            layer.load_state_dict({kind: start[f"fc{i}.{kind}"] for kind in ("weight", "bias")})
        parameters = [parameter for layer in self.layers for parameter in layer.parameters()]
        self.adam = torch.optim.Adam(parameters, lr=BASE.learning_rate, eps=BASE.eps)
        self.seed, self.config, self.rng = seed, config, Streams(seed)["treatment/q/redo"]

    def hidden(self, x: Tensor) -> list[Tensor]:
        first = torch.relu(self.layers[0](x))
        return [first, torch.relu(self.layers[1](first))]

    def update(self, step: int) -> None:
        inputs, targets = (tensor[0] for tensor in batch([self.seed], step))
        self.adam.zero_grad()
        (self.layers[2](self.hidden(inputs)[1]) - targets).square().mean().backward()
        self.adam.step()

    @torch.no_grad()
    def recycle(self, step: int) -> int:
        masks = []
        for h in self.hidden(batch([self.seed], step)[0][0]):
            score = h.abs().mean(dim=0)
            masks.append(score / (score.mean() + 1e-9) <= self.config.tau)
        self._clear_moments(masks)
        draws = [self._draw(layer) for layer in self.layers[:2]]
        if self.config.between == "zero":
            self._incoming(masks, draws)
            self._outgoing(masks)
        else:
            self._outgoing(masks)
            self._incoming(masks, draws)
        return sum(int(mask.sum()) for mask in masks)

    def _draw(self, layer: nn.Linear) -> tuple[Tensor, Tensor]:
        bound = layer.in_features**-0.5
        shapes = (tuple(layer.weight.shape), tuple(layer.bias.shape))
        weight, bias = (self.rng.uniform(-bound, bound, shape).astype(np.float32) for shape in shapes)
        return torch.from_numpy(weight), torch.from_numpy(bias)

    def _incoming(self, masks: list[Tensor], draws: list[tuple[Tensor, Tensor]]) -> None:
        for layer, mask, (weight, bias) in zip(self.layers, masks, draws, strict=False):
            layer.weight[mask] = weight[mask]
            layer.bias[mask] = bias[mask] if self.config.bias == "fresh" else 0.0

    def _outgoing(self, masks: list[Tensor]) -> None:
        for layer, mask in zip(self.layers[1:], masks, strict=True):
            layer.weight[:, mask] = 0.0

    def _clear_moments(self, masks: list[Tensor]) -> None:
        rewritten = []
        for i, layer in enumerate(self.layers):
            chosen = torch.zeros_like(layer.weight, dtype=torch.bool)
            if i < 2:
                chosen[masks[i]] = True
                rewritten.append((layer.bias, masks[i], self.config.bias_moments))
            if i > 0:
                chosen[:, masks[i - 1]] = True
            rewritten.append((layer.weight, chosen, self.config.moments))
        for parameter, chosen, rule in rewritten:
            held = self.adam.state[parameter]
            if rule != "keep":
                held["exp_avg"][chosen] = 0.0
                held["exp_avg_sq"][chosen] = 0.0 if rule == "zero" else held["exp_avg_sq"][~chosen].mean()
            if self.config.optimizer == "reset_touched_steps":
                held["step"].zero_()


@pytest.mark.parametrize(
    "settings",
    [
        {"tau": 0.4},
        {"tau": 0.4, "moments": "keep", "bias_moments": "keep", "between": "fresh"},
        {"tau": 0.4, "preset": "paper"},
        {"tau": 0.4, "preset": "timoklein"},
    ],
    ids=["clean", "moments kept", "paper", "timoklein"],
)
def test_agrees_with_a_plain_loop_over_twenty_updates_and_an_event(settings):
    seeds = [3, 4, 5]
    network = trained([[part("redo", **settings)]] * 3, seeds=seeds)
    config = network.parts.applications[0].parts[0].config
    plain = [PlainRedo(weights(network, member), seed, config) for member, seed in enumerate(seeds)]
    counts: list[int] = []
    for step in range(1, 21):
        update(network, step)
        for one in plain:
            one.update(step)
        if step == 10:
            recycled = event(network, [0, 1, 2], step).measurements["recycled"]
            counts = [one.recycle(step) for one in plain]
            assert recycled.tolist() == counts
    assert min(counts) >= 2
    for member, one in enumerate(plain):
        ours = weights(network, member)
        for i, layer in enumerate(one.layers, start=1):
            torch.testing.assert_close(ours[f"fc{i}.weight"], layer.weight.detach(), rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(ours[f"fc{i}.bias"], layer.bias.detach(), rtol=1e-5, atol=1e-5)


def test_timoklein_counts_updates_of_rewritten_parameters_anew_and_keeps_the_moments_of_other_units():
    network = treated(preset="timoklein", tau=0.4)
    train(network, STEP)
    before = network.online.views(network.optimizer.moments["exp_avg_sq"])["fc2.weight"].clone()
    event(network, [0], STEP)
    assert network.optimizer.steps[:, 0].tolist() == [0, 0, 0, 0, 0, STEP]
    after = network.online.views(network.optimizer.moments["exp_avg_sq"])["fc2.weight"]
    kept = after != 0
    assert 0 < kept.sum() < after.numel()
    assert torch.equal(after[kept], before[kept])


def test_presets_differ_from_each_other_where_their_sources_do():
    assert redo.PRESETS["paper"].tau == 0.1
    assert redo.PRESETS["dopamine"].tau == 0.0
    assert redo.PRESETS["timoklein"].tau == 0.025
    assert redo.PRESETS["fire_vision"].tau == 0.5
    assert {preset.moments for name, preset in redo.PRESETS.items() if name != "clean"} == {"zero"}
    assert {name for name, preset in redo.PRESETS.items() if preset.bias == "fresh"} == {"timoklein", "fire_vision"}


def test_the_events_sample_is_what_is_judged():
    network = treated(tau=0.4)
    train(network, STEP)
    hidden = sample(network, STEP).activations.values()
    scores = [h[0].mean(dim=0) / h[0].mean() for h in hidden]
    expected = sum(int((score <= 0.4).sum()) for score in scores)
    assert event(network, [0], STEP).measurements["recycled"].tolist() == [expected]
