"""Continual backprop: utilities and counts by hand, what replacing preserves, and agreement with a plain loop."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from contract import restore, save
from plain_training import assert_agrees, plain_copy
from torch import Tensor, nn
from treated import BASE, batch, conv_specs, part, specs, train, trained, update

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import State
from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.networks import simba
from plasticbench.learning.trained import TrainedNetwork
from plasticbench.learning.treatments.continual_backprop import PRESETS, Config, ContinualBackprop
from plasticbench.learning.views import activations_of
from plasticbench.seeding import Streams


class Seen:
    """What the treatment looks at: activations ``[m, N, ...]``, and a generator for each member."""

    def __init__(self, activations: Mapping[str, Tensor], members: int = 1) -> None:
        self.activations = activations
        self._generators = [np.random.default_rng(member) for member in range(members)]

    def rng(self, member: int) -> np.random.Generator:
        return self._generators[member]


def untreated(layers: Sequence[LayerSpec], weights: Mapping[str, list]) -> TrainedNetwork:
    """One member with these weights."""
    network = trained([[]], layers=layers)
    for name, numbers in weights.items():
        network.online.parameters[name].data.copy_(torch.tensor(numbers))
    return network


def by_hand(**settings) -> tuple[ContinualBackprop, NetworkState, State, Seen]:
    """2 -> 2 -> 1, whose units pass on 1 and 0 of the first row, 3 and 2 of the second: 2 and 1 in the mean."""
    weights = {"fc1.weight": [[1.0, 3.0], [1.0, 1.0]], "fc2.weight": [[2.0, -3.0]], "fc2.bias": [5.0]}
    network = untreated(specs((2,), inputs=2, outputs=1), weights)
    net = network.state_of(slice(0, 1, 1))
    treatment = Config(**settings).build()
    return treatment, net, treatment.init(net), Seen({"fc1": torch.tensor([[[1.0, 0.0], [3.0, 2.0]]])})


# -- by hand ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("utility", "expected"),
    [
        ("contribution", [2 * 2, 3 * 1]),
        ("weight", [2, 3]),
        ("adaptation", [1 / 4, 1 / 2]),
        ("zero_contribution", [2 * 1, 3 * 1]),  # both are 1 away from their means on either row
        ("adaptable_contribution", [2 / 4, 3 / 2]),
        ("feature_by_input", [1 / 4, 1 / 2]),
    ],
)
def test_the_running_utility_of_a_first_batch_is_a_hundredth_of_its_factors_product(utility, expected):
    treatment, net, state, seen = by_hand(utility=utility)
    treatment.on_update(net, state, seen)
    assert state["fc1.utility"][0].tolist() == pytest.approx([0.01 * value for value in expected], rel=1e-5)
    assert state["fc1.mean"].flatten().tolist() == pytest.approx([0.02, 0.01])
    treatment.on_update(net, state, seen)
    assert state["fc1.utility"][0].tolist() == pytest.approx([0.0199 * value for value in expected], rel=1e-5)
    assert state["fc1.age"].tolist() == [[2, 2]]


def test_the_least_useful_unit_leaves_its_mean_to_the_readers_bias_and_starts_anew():
    treatment, net, state, seen = by_hand(replacement_rate=0.5, maturity_updates=0)
    treatment.on_update(net, state, seen)
    fc1, fc2 = net.layers
    assert fc2.weight.value.tolist() == [[[2.0, 0.0]]]
    assert fc2.bias is not None
    assert fc2.bias.value.tolist() == [[pytest.approx(5.0 - 3.0 * 1.0, rel=1e-5)]]
    drawn = np.random.default_rng(0).uniform(-(2**-0.5), 2**-0.5, (2, 2)).astype(np.float32)
    assert fc1.weight.value[0].tolist() == [[1.0, 3.0], drawn[1].tolist()]
    assert {name: state[f"fc1.{name}"].flatten().tolist() for name in ("age", "owed", "replaced")} == {
        "age": [1, 0],
        "owed": [0.0],
        "replaced": [1],
    }
    assert state["fc1.utility"][0, 1] == state["fc1.mean"][0, 0, 1] == 0


def test_without_compensation_biases_of_readers_stay():
    treatment, net, state, seen = by_hand(replacement_rate=0.5, maturity_updates=0, compensation="none")
    treatment.on_update(net, state, seen)
    assert net.layers[1].weight.value.tolist() == [[[2.0, 0.0]]]
    assert net.layers[1].bias.value.tolist() == [[5.0]]


def test_fractions_of_units_add_up():
    treatment, net, state, seen = by_hand(replacement_rate=0.125, maturity_updates=0)
    replaced = []
    for _ in range(9):  # two units owe a quarter of one per update
        treatment.on_update(net, state, seen)
        replaced.append(int(state["fc1.replaced"]))
    assert replaced == [0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert state["fc1.owed"].tolist() == [0.25]


def test_units_are_safe_until_they_are_older_than_the_maturity():
    treatment, net, state, seen = by_hand(replacement_rate=1.0, maturity_updates=3)
    for _ in range(3):
        treatment.on_update(net, state, seen)
    assert state["fc1.replaced"].tolist() == [0]
    assert state["fc1.owed"].tolist() == [0.0]
    treatment.on_update(net, state, seen)
    assert state["fc1.replaced"].tolist() == [2]


def test_a_share_below_one_unit_can_be_a_probability_and_a_larger_one_is_rounded_down():
    treatment, net, state, seen = by_hand(replacement_rate=0.15, maturity_updates=0, accumulate=False)
    twin, expected = np.random.default_rng(0), 0
    for _ in range(40):
        treatment.on_update(net, state, seen)
        if twin.random(1)[0] < 0.15 * 2:
            expected += 1
            twin.uniform(size=4 + 2)  # the new unit's weights and bias
        assert int(state["fc1.replaced"]) == expected
    assert 6 <= expected <= 20
    treatment, net, state, seen = by_hand(replacement_rate=0.9, maturity_updates=0, accumulate=False)
    treatment.on_update(net, state, seen)
    assert state["fc1.replaced"].tolist() == [1]


def test_a_decay_of_zero_judges_by_the_latest_batch_alone():
    treatment, net, state, seen = by_hand(decay=0.0)
    treatment.on_update(net, state, seen)
    seen.activations["fc1"].mul_(2.0)
    treatment.on_update(net, state, seen)
    assert state["fc1.utility"].tolist() == [[8.0, 6.0]]


def test_what_counts_of_a_unit_that_passes_on_either_sign_is_the_magnitude():
    layers = [
        LayerSpec("fc1", "encoder", (2, 2), 1, "torch_default", activation="tanh"),
        LayerSpec("fc2", "head", (1, 2), 1, "torch_default"),
    ]
    net = untreated(layers, {"fc2.weight": [[1.0, 1.0]]}).state_of(slice(0, 1, 1))
    treatment = Config(decay=0.0).build()
    state = treatment.init(net)
    treatment.on_update(net, state, Seen({"fc1": torch.tensor([[[1.0, -0.5], [-1.0, 0.0]]])}))
    assert state["fc1.utility"].tolist() == [[1.0, 0.25]]
    assert state["fc1.mean"].tolist() == [[[0.0, -0.25]]]


def test_a_unit_without_incoming_weights_has_a_finite_utility():
    treatment, net, state, seen = by_hand(utility="adaptation")
    net.layers[0].weight.value[0, 0] = 0.0
    treatment.on_update(net, state, seen)
    assert state["fc1.utility"].isfinite().all()
    assert state["fc1.utility"][0, 0] > state["fc1.utility"][0, 1]


# -- what stays -------------------------------------------------------------------------------------------------------


def crelu_specs() -> list[LayerSpec]:
    return [
        LayerSpec("fc1", "encoder", (6, 4), 1, "torch_default", activation="crelu"),
        LayerSpec("fc2", "head", (3, 12), 1, "torch_default"),
    ]


def two_heads() -> list[LayerSpec]:
    return [
        *specs((8, 6), outputs=2)[:2],
        LayerSpec("mean", "head", (2, 6), 1, "torch_default"),
        LayerSpec("log_std", "head", (1, 6), 1, "torch_default", wiring="sibling"),
    ]


@pytest.mark.parametrize(
    ("layers", "shape", "constant"),
    [
        (specs((8, 6)), (4,), "fc2"),
        (conv_specs(), (3, 6, 6), "conv1"),
        (conv_specs(), (3, 6, 6), "conv2"),
        (crelu_specs(), (4,), "fc1"),
        (two_heads(), (4,), "fc2"),
        (simba.Config(num_blocks=1, width=4).layers((4,), 3), (4,), "block1_fc1"),
    ],
    ids=["mlp", "convolution", "last convolution", "crelu", "two heads", "simba"],
)
def test_replacing_units_that_never_vary_leaves_the_outputs(layers, shape, constant):
    """One such unit passes on 0.7 (crelu: of the negative half) whatever comes in, so its bias can take its place."""
    network = trained([[]], layers=layers)
    net = network.state_of(slice(0, 1, 1))
    layer = next(layer for layer in net.layers if layer.name == constant)
    assert layer.bias is not None
    layer.weight.value[0, 2] = 0.0
    layer.bias.value[0, 2] = -0.7 if layer.activation == "crelu" else 0.7
    inputs, _ = batch([0], 1, shape)
    with torch.no_grad():
        before = network.online.forward(inputs)
    treatment = Config(replacement_rate=1.0, maturity_updates=0, utility="zero_contribution").build()
    state = treatment.init(net)
    for name in state:  # everybody else is too young
        if name.endswith(".age"):
            state[name].fill_(-100)
    state[f"{constant}.age"][0, 2] = 0
    activations = passed_on(network, inputs)
    treatment.on_update(net, state, Seen(activations))
    assert {name: int(state[f"{name}.replaced"]) for name in activations if state[f"{name}.replaced"]} == {constant: 1}
    assert (layer.weight.value[0, 2] != 0).any()
    assert all((reader.columns(reader.layer.weight.value)[0, 2] == 0).all() for reader in layer.readers)
    with torch.no_grad():
        torch.testing.assert_close(network.online.forward(inputs), before, rtol=1e-5, atol=1e-5)


def passed_on(network: TrainedNetwork, inputs: Tensor) -> Mapping[str, Tensor]:
    hidden: list[Tensor] = []
    with torch.no_grad():
        network.online.forward(inputs, hidden)
    return activations_of(network.online, hidden)


@pytest.mark.parametrize("accumulate", [True, False])
def test_at_rate_zero_training_is_that_of_none_bit_for_bit(accumulate):
    idle = part("continual_backprop", replacement_rate=0.0, maturity_updates=0, accumulate=accumulate)
    ours, none = trained([[idle]] * 2), trained([[part("none")]] * 2)
    for network in (ours, none):
        train(network, 20)
    theirs = none.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.state_dict().items() if name in theirs)


def test_members_choose_for_themselves_alone():
    rates, seeds = (0.05, 0.2, 0.0), [3, 4, 5]
    methods = [[part("continual_backprop", replacement_rate=rate, maturity_updates=2)] for rate in rates]
    together = trained(methods, seeds=seeds)
    assert len(together.parts.applications) == 1
    train(together, 20)
    for member, seed in enumerate(seeds):
        alone = trained([methods[member]], seeds=[seed])
        train(alone, 20)
        ours, theirs = together.state_dict(), alone.state_dict()
        for name in theirs:
            torch.testing.assert_close(ours[name][member], theirs[name][0], rtol=1e-5, atol=1e-5)
    replaced = together.state_dict()["q/treatment/0/fc1.replaced"].tolist()
    assert 0 == replaced[2] < replaced[0] < replaced[1]


def test_a_network_of_outputs_alone_is_refused_at_the_first_update():
    network = trained([[part("continual_backprop")]], layers=[LayerSpec("out", "head", (3, 4))])
    with pytest.raises(ValueError, match="kind: 'continual_backprop' exchanges hidden units one by one"):
        update(network, 1)


def test_presets_of_the_public_code_do_what_it_does_and_ours_what_it_means():
    assert PRESETS["clean"].compensation == "mean"
    public = [preset for name, preset in PRESETS.items() if name != "clean"]
    assert {(preset.compensation, preset.moments) for preset in public} == {("none", "keep")}
    assert not PRESETS["loss_of_plasticity"].accumulate


# -- against a plain loop ---------------------------------------------------------------------------------------------


class PlainContinualBackprop:
    """One MLP as plain PyTorch, trained with its own Adam and tested unit by unit after each update."""

    def __init__(self, module: nn.Sequential, seed: int, config: Config) -> None:
        self.module, self.seed, self.config = module, seed, config
        self.layers = [layer for layer in module if isinstance(layer, nn.Linear)]
        self.adam = torch.optim.Adam(module.parameters(), lr=BASE.learning_rate, eps=BASE.eps)
        self.rng = Streams(seed)["treatment/q/continual_backprop"]
        widths = [layer.out_features for layer in self.layers[:-1]]
        self.age, self.utility, self.mean = ([np.zeros(width) for width in widths] for _ in range(3))
        self.owed, self.replaced = [0.0] * len(widths), [0] * len(widths)

    def update(self, step: int) -> None:
        inputs, targets = (tensor[0] for tensor in batch([self.seed], step))
        hidden = []
        x = inputs
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
            hidden.append(x.detach().double().numpy())
        self.adam.zero_grad()
        (self.layers[-1](x) - targets).square().mean().backward()
        self.adam.step()
        with torch.no_grad():
            self._replace([self._choose(i, h) for i, h in enumerate(hidden)])

    def _choose(self, i: int, h: np.ndarray) -> list[int]:
        decay = self.config.decay
        outgoing = self.layers[i + 1].weight.detach().double().abs().sum(dim=0).numpy()
        self.age[i] += 1
        self.mean[i] = decay * self.mean[i] + (1 - decay) * h.mean(axis=0)
        self.utility[i] = decay * self.utility[i] + (1 - decay) * outgoing * np.abs(h).mean(axis=0)
        grown = [unit for unit in range(len(outgoing)) if self.age[i][unit] > self.config.maturity_updates]
        self.owed[i] += self.config.replacement_rate * len(grown)
        count = int(self.owed[i])
        self.owed[i] -= count
        self.replaced[i] += count
        corrected = self.utility[i] / (1 - decay ** self.age[i])
        return sorted(grown, key=lambda unit: corrected[unit])[:count]

    def _replace(self, chosen: list[list[int]]) -> None:
        written = {parameter: torch.zeros_like(parameter, dtype=torch.bool) for parameter in self.module.parameters()}
        for i, units in enumerate(chosen):
            layer, reader = self.layers[i], self.layers[i + 1]
            if not units:
                continue
            bound = layer.in_features**-0.5
            weight = self.rng.uniform(-bound, bound, tuple(layer.weight.shape)).astype(np.float32)
            self.rng.uniform(-bound, bound, layer.out_features)
            for unit in units:
                if self.config.compensation == "mean":
                    mean = self.mean[i][unit] / (1 - self.config.decay ** self.age[i][unit])
                    reader.bias += reader.weight[:, unit] * mean
                layer.weight[unit] = torch.from_numpy(weight[unit])
                layer.bias[unit] = 0.0
                reader.weight[:, unit] = 0.0
                written[layer.weight][unit] = written[layer.bias][unit] = written[reader.weight][:, unit] = True
                self.age[i][unit] = self.utility[i][unit] = self.mean[i][unit] = 0.0
        for parameter, elements in written.items():
            held = self.adam.state[parameter]
            if elements.any() and self.config.moments != "keep":
                held["exp_avg"][elements] = 0.0
                mean = held["exp_avg_sq"][~elements].mean()
                held["exp_avg_sq"][elements] = 0.0 if self.config.moments == "zero" else mean


@pytest.mark.parametrize(
    "settings",
    [{}, {"moments": "zero"}, {"moments": "keep", "compensation": "none"}],
    ids=["clean", "moments from zero", "moments kept, without compensation"],
)
def test_agrees_with_a_plain_loop_over_twenty_updates(settings):
    seeds, own = [3, 4, 5], part("continual_backprop", replacement_rate=0.125, maturity_updates=2, **settings)
    network = trained([[own]] * 3, seeds=seeds)
    plain = [PlainContinualBackprop(plain_copy(network, i), seed, own.config) for i, seed in enumerate(seeds)]
    for step in range(1, 21):
        update(network, step)
        for one in plain:
            one.update(step)
    state = network.state_dict()
    for member, one in enumerate(plain):
        assert_agrees(network, member, one.module)
        for i, name in enumerate(("fc1", "fc2")):
            assert state[f"q/treatment/0/{name}.replaced"][member] == one.replaced[i] >= 5
            assert state[f"q/treatment/0/{name}.age"][member].tolist() == one.age[i].tolist()


def test_a_resumed_population_goes_on_replacing_as_if_nothing_had_been():
    methods = [[part("continual_backprop", replacement_rate=rate, maturity_updates=2)] for rate in (0.1, 0.05)]
    uninterrupted = trained(methods)
    train(uninterrupted, 10)
    resumed = restore(methods, save(uninterrupted), range(2), specs())
    for network in (uninterrupted, resumed):
        train(network, 10, first=11)
    ours, theirs = resumed.state_dict(), uninterrupted.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert (ours["q/treatment/0/fc1.replaced"] > 0).all()
