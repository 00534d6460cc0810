"""Recycling single units: hand-worked networks, the optimizer's moments, and what must not change."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from treated import BASE, batch, conv_specs, specs, train, trained

from plasticbench.contracts.network import NetworkState
from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.networks import simba
from plasticbench.learning.trained import TrainedNetwork
from plasticbench.learning.units import Recycling, recycle, require_unit_layers, written_by_recycling

KEEP_MOMENTS = Recycling(moments="keep", bias_moments="keep")


def untreated(layers: Sequence[LayerSpec], members: int = 1) -> TrainedNetwork:
    return trained([[]] * members, layers=layers)


def state(network: TrainedNetwork, members: slice | None = None) -> NetworkState:
    return network.state_of(members or slice(0, network.online.num_members, 1))


def write(network: TrainedNetwork, values: dict[str, list]) -> None:
    """Numbers for every member, by parameter."""
    for name, numbers in values.items():
        network.online.parameters[name].data.copy_(torch.tensor(numbers))


def parameter(network: TrainedNetwork, name: str, member: int = 0) -> Tensor:
    return network.online.parameters[name].detach()[member]


def generators(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(100 + member) for member in range(count)]


def recycled(network: TrainedNetwork, units: dict[str, list], rules: Recycling = KEEP_MOMENTS) -> None:
    """Recycles units given as 0 and 1; member i draws from ``default_rng(100 + i)``."""
    masks = {name: torch.tensor(mask, dtype=torch.bool) for name, mask in units.items()}
    recycle(state(network), masks, generators(network.online.num_members).__getitem__, rules)


def drawn(spec: LayerSpec, member: int = 0) -> tuple[Tensor, Tensor]:
    """The first draw of a layer under ``default_rng(100 + member)``, by the formula of PyTorch's default."""
    rng, bound = np.random.default_rng(100 + member), np.prod(spec.weight_shape[1:]) ** -0.5
    weight = rng.uniform(-bound, bound, spec.weight_shape).astype(np.float32)
    return torch.from_numpy(weight), torch.from_numpy(rng.uniform(-bound, bound, len(weight)).astype(np.float32))


def every_byte(network: TrainedNetwork) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


# -- which weights --------------------------------------------------------------------------------------------------


def test_a_new_unit_has_new_incoming_weights_bias_zero_and_outgoing_weights_zero():
    layers = specs((3,), inputs=2, outputs=2)
    network = untreated(layers)
    write(
        network,
        {
            "fc1.weight": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
            "fc1.bias": [7.0, 8.0, 9.0],
            "fc2.weight": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]],
            "fc2.bias": [1.0, 2.0],
        },
    )
    recycled(network, {"fc1": [[0, 1, 0]]})
    weight = torch.tensor([[1.0, 2.0], [0.0, 0.0], [5.0, 6.0]])
    weight[1] = drawn(layers[0])[0][1]
    assert torch.equal(parameter(network, "fc1.weight"), weight)
    assert parameter(network, "fc1.bias").tolist() == [7.0, 0.0, 9.0]
    assert parameter(network, "fc2.weight").tolist() == [[1.0, 0.0, 3.0], [4.0, 0.0, 6.0]]
    assert parameter(network, "fc2.bias").tolist() == [1.0, 2.0]


def test_bias_and_outgoing_weights_can_be_drawn_as_well():
    layers = specs((3,), inputs=2, outputs=2)
    network = untreated(layers)
    before = parameter(network, "fc2.weight").clone()
    recycled(network, {"fc1": [[0, 1, 0]]}, Recycling(bias="fresh", outgoing="fresh"))
    weight, bias = drawn(layers[0])
    assert torch.equal(parameter(network, "fc1.weight")[1], weight[1])
    assert parameter(network, "fc1.bias")[1] == bias[1]
    after = parameter(network, "fc2.weight")
    assert (after[:, 1] != before[:, 1]).all()
    assert (after[:, 1] != 0).all()
    assert torch.equal(after[:, [0, 2]], before[:, [0, 2]])


def test_a_channel_goes_out_through_every_position_of_its_map():
    layers = [
        LayerSpec("conv", "encoder", (2, 1, 1, 1), 1, "torch_default"),
        LayerSpec("out", "head", (1, 6), 1, "torch_default"),  # maps of 1 x 3
    ]
    network = untreated(layers)
    write(network, {"conv.weight": [[[[2.0]]], [[[3.0]]]], "out.weight": [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]})
    recycled(network, {"conv": [[0, 1]]})
    assert parameter(network, "out.weight").tolist() == [[1.0, 2.0, 3.0, 0.0, 0.0, 0.0]]
    assert parameter(network, "conv.weight")[0].item() == 2.0
    assert torch.equal(parameter(network, "conv.weight")[1], drawn(layers[0])[0][1])


def test_between_convolutions_a_channel_goes_out_through_every_kernel_position():
    network = untreated(conv_specs())
    recycled(network, {"conv1": [[1, 0, 0, 1]]})
    kernel = parameter(network, "conv2.weight")
    assert (kernel[:, [0, 3]] == 0).all()
    assert (kernel[:, [1, 2]] != 0).all()


def test_a_crelu_unit_goes_out_through_both_of_its_halves():
    layers = [
        LayerSpec("fc1", "encoder", (3, 2), 1, "torch_default", activation="crelu"),
        LayerSpec("fc2", "head", (1, 6), 1, "torch_default"),
    ]
    network = untreated(layers)
    write(network, {"fc2.weight": [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]})
    recycled(network, {"fc1": [[0, 1, 0]]})
    assert parameter(network, "fc2.weight").tolist() == [[1.0, 0.0, 3.0, 4.0, 0.0, 6.0]]


def test_all_heads_stop_listening():
    layers = [
        LayerSpec("fc", "encoder", (3, 2), 1, "torch_default"),
        LayerSpec("mean", "head", (1, 3), 1, "torch_default"),
        LayerSpec("log_std", "head", (1, 3), 1, "torch_default", wiring="sibling"),
    ]
    network = untreated(layers)
    write(network, {"mean.weight": [[1.0, 2.0, 3.0]], "log_std.weight": [[4.0, 5.0, 6.0]]})
    recycled(network, {"fc": [[1, 0, 0]]})
    assert parameter(network, "mean.weight").tolist() == [[0.0, 2.0, 3.0]]
    assert parameter(network, "log_std.weight").tolist() == [[0.0, 5.0, 6.0]]


@pytest.mark.parametrize("between", ["zero", "fresh"])
def test_a_weight_from_one_new_unit_to_another_follows_its_own_rule(between):
    layers = specs((3, 2), inputs=2, outputs=2)
    network = untreated(layers)
    before = parameter(network, "fc2.weight").clone()
    recycled(network, {"fc1": [[0, 1, 1]], "fc2": [[1, 0]]}, Recycling(between=between))
    rng = np.random.default_rng(100)
    rng.uniform(size=3 * 2 + 3)  # the first layer's draw, which comes before
    incoming = torch.from_numpy(rng.uniform(-(3**-0.5), 3**-0.5, (2, 3)).astype(np.float32))[0]
    if between == "zero":
        incoming[1:] = 0.0
    expected = torch.stack([incoming, before[1].where(torch.tensor([True, False, False]), torch.tensor(0.0))])
    assert torch.equal(parameter(network, "fc2.weight"), expected)
    assert (parameter(network, "fc3.weight")[:, 0] == 0).all()
    assert (parameter(network, "fc3.weight")[:, 1] != 0).all()


def normalised() -> list[LayerSpec]:
    return [
        LayerSpec("fc1", "encoder", (3, 2), 1, "torch_default", activation="identity"),
        LayerSpec("norm", "encoder", (3,)),
        LayerSpec("fc2", "head", (1, 3), 1, "torch_default"),
    ]


def test_a_normalisation_in_between_gives_a_new_unit_its_initial_scale_and_shift():
    network = untreated(normalised())
    write(network, {"norm.weight": [2.0, 3.0, 4.0], "norm.bias": [5.0, 6.0, 7.0]})
    layer = state(network).unit_layers[0]
    assert [norm.name for norm in layer.norms] == ["norm"]
    recycled(network, {"fc1": [[0, 0, 1]]})
    assert parameter(network, "norm.weight").tolist() == [2.0, 3.0, 1.0]
    assert parameter(network, "norm.bias").tolist() == [5.0, 6.0, 0.0]
    assert parameter(network, "fc2.weight")[0, 2] == 0
    assert written_by_recycling([layer]) == {
        "fc1.weight",
        "fc1.bias",
        "norm.weight",
        "norm.bias",
        "fc2.weight",
    }


def test_a_residual_streams_units_and_normalisations_are_never_exchanged():
    network = untreated(simba.Config(num_blocks=2, width=3).layers((4,), 2))
    net = state(network)
    assert [layer.name for layer in net.unit_layers] == ["block1_fc1", "block2_fc1"]
    assert all(layer.norms == () for layer in net.layers)
    before = every_byte(network)
    recycled(network, {layer.name: [[1] * 12] for layer in net.unit_layers})
    changed = {name for name, value in every_byte(network).items() if not torch.equal(value, before[name])}
    assert changed == {
        f"q/online/block{block}_{layer}"
        for block in (1, 2)
        for layer in ("fc1.weight", "fc2.weight")  # their biases started at zero
    }


# -- whom it leaves alone --------------------------------------------------------------------------------------------


def test_other_members_units_and_moments_keep_every_bit():
    network = untreated(specs((4, 3)), members=3)
    train(network, 3)
    network.online.parameters["fc2.bias"].data[:, 2] = -0.0
    before = every_byte(network)
    recycled(network, {"fc1": [[0] * 4, [1, 0, 0, 0], [0] * 4], "fc2": [[0] * 3] * 3}, Recycling())
    for name, value in every_byte(network).items():
        kept = torch.ones_like(value, dtype=torch.bool)
        if name.endswith(("fc1.weight", "fc1.bias")) and "original" not in name and "target" not in name:
            kept[1, 0] = False
        if name.endswith("fc2.weight") and "original" not in name and "target" not in name:
            kept[1, :, 0] = False
        assert value[kept].numpy().tobytes() == before[name][kept].numpy().tobytes(), name
        assert not torch.equal(value, before[name]) or kept.all(), name


def test_only_a_member_with_new_units_draws_and_each_from_its_own_stream():
    layers = specs((4,))
    network = untreated(layers, members=3)
    streams = generators(3)
    units = {"fc1": torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=torch.bool)}
    recycle(state(network), units, streams.__getitem__, Recycling())
    assert streams[0].bit_generator.state == generators(3)[0].bit_generator.state
    assert torch.equal(parameter(network, "fc1.weight", 1)[1], drawn(layers[0], 1)[0][1])
    assert torch.equal(parameter(network, "fc1.weight", 2)[3], drawn(layers[0], 2)[0][3])


def test_members_that_are_every_second_one_of_a_population_are_written_in_place():
    network = untreated(specs((4,)), members=4)
    before = every_byte(network)
    net = state(network, slice(1, 4, 2))
    recycle(net, {"fc1": torch.ones(2, 4, dtype=torch.bool)}, generators(2).__getitem__, KEEP_MOMENTS)
    after = every_byte(network)["q/online/fc2.weight"]
    assert (after[1::2] == 0).all()
    assert torch.equal(after[::2], before["q/online/fc2.weight"][::2])


def test_a_network_without_hidden_units_is_refused_by_name():
    net = state(untreated([LayerSpec("out", "head", (2, 4))]))
    with pytest.raises(ValueError, match=r"'redo' exchanges hidden units .* none of out .* Leave 'redo' out"):
        require_unit_layers(net, "redo")


# -- what the optimizer remembers ------------------------------------------------------------------------------------


def with_moments(rules: Recycling) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Adam's moments of 2 -> 2 -> 1 after unit 0 was recycled, in which all stood at 1, 2, 3, ... before."""
    network = untreated(specs((2,), inputs=2, outputs=1))
    for moment in network.optimizer.moments.values():
        for view in network.online.views(moment).values():
            view.copy_(torch.arange(1.0, 1 + view.numel()).view(view.shape))
    recycled(network, {"fc1": [[1, 0]]}, rules)
    first, second = (network.online.views(network.optimizer.moments[name]) for name in ("exp_avg", "exp_avg_sq"))
    assert second["fc2.bias"].tolist() == [[1.0]]
    return first["fc1.weight"][0], second["fc1.weight"][0], second["fc1.bias"][0], second["fc2.weight"][0]


@pytest.mark.parametrize(
    ("rule", "bias_rule", "first", "second", "second_bias", "second_outgoing"),
    [
        ("zero", "zero", [[0, 0], [3, 4]], [[0, 0], [3, 4]], [0, 2], [[0, 2]]),
        ("zero", "keep", [[0, 0], [3, 4]], [[0, 0], [3, 4]], [1, 2], [[0, 2]]),
        ("keep", "zero", [[1, 2], [3, 4]], [[1, 2], [3, 4]], [0, 2], [[1, 2]]),
        ("layer_mean", "layer_mean", [[0, 0], [3, 4]], [[3.5, 3.5], [3, 4]], [2, 2], [[2, 2]]),
    ],
)
def test_moments_of_new_units_follow_their_rule(rule, bias_rule, first, second, second_bias, second_outgoing):
    moments = with_moments(Recycling(moments=rule, bias_moments=bias_rule))
    for found, expected in zip(moments, (first, second, second_bias, second_outgoing), strict=True):
        assert found.tolist() == expected


def test_where_every_unit_is_new_the_mean_is_that_of_the_old_ones():
    network = untreated(specs((2,), inputs=1, outputs=1))
    view = network.online.views(network.optimizer.moments["exp_avg_sq"])["fc1.weight"]
    view.copy_(torch.tensor([[[1.0], [3.0]]]))
    recycled(network, {"fc1": [[1, 1]]}, Recycling())
    assert view.flatten().tolist() == [2.0, 2.0]


def test_a_weight_between_new_units_counts_neither_as_other_nor_twice():
    network = untreated(specs((2, 2), inputs=2, outputs=1))
    view = network.online.views(network.optimizer.moments["exp_avg_sq"])["fc2.weight"]
    view.copy_(torch.tensor([[[1.0, 2.0], [4.0, 8.0]]]))
    recycled(network, {"fc1": [[1, 0]], "fc2": [[1, 0]]}, Recycling())
    assert view[0].tolist() == [[8.0, 8.0], [8.0, 8.0]]


def updates_of_a_new_unit(rules: Recycling) -> list[float]:
    """Of one incoming weight in units of the learning rate, under a constant gradient of 1 after a long training."""
    network = untreated(specs((2,), inputs=1, outputs=1))
    for moment in network.optimizer.moments.values():
        moment.fill_(1.0)
    network.optimizer.steps.fill_(100_000)
    network.optimizer.rebuild()
    recycled(network, {"fc1": [[1, 0]]}, rules)
    sizes = []
    for _ in range(200):
        before = parameter(network, "fc1.weight")[0].item()
        network.online.flat_grad.fill_(1.0)
        network.optimizer.step()
        sizes.append((before - parameter(network, "fc1.weight")[0].item()) / BASE.learning_rate)
    return sizes


def test_moments_from_zero_make_updates_up_to_six_times_too_large_and_the_layers_mean_does_not():
    sizes = updates_of_a_new_unit(Recycling(moments="zero"))
    assert [sizes[i] for i in (0, 9, 199)] == pytest.approx([3.16, 6.53, 2.35], rel=0.01)
    sizes = updates_of_a_new_unit(Recycling(moments="layer_mean"))
    assert sizes[0] == pytest.approx(0.1, rel=0.01)
    assert max(sizes) < 1.001


def test_outputs_stay_where_the_exchanged_units_were_silent():
    network = untreated(specs((8, 6)), members=2)
    inputs, _ = batch([0, 1], 1)
    for name in ("fc1.bias", "fc2.bias"):
        network.online.parameters[name].data[:, :3] = -100.0
    with torch.no_grad():
        before = network.online.forward(inputs)
        silent = {"fc1": [[1, 1, 1, 0, 0, 0, 0, 0]] * 2, "fc2": [[1, 1, 1, 0, 0, 0]] * 2}
        recycled(network, silent)
        assert torch.equal(network.online.forward(inputs), before)
