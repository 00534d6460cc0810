"""Capture: what probes see of an ordinary torch module, and that it stays as it was."""

import copy
import math
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from plasticbench import plugins
from plasticbench.analysis.capture import probe_module
from plasticbench.learning.module_views import view_of


class Critic(nn.Module):
    """A convolution with a functional nonlinearity, pooling, flattening and a second input that joins late."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.fc1 = nn.Linear(16, 8)
        self.fc2 = nn.Linear(8 + 2, 5)
        self.out = nn.Linear(5, 1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        pooled = functional.max_pool2d(functional.relu(self.norm(self.conv(obs))), 2)
        hidden = torch.tanh(self.fc1(self.dropout(pooled).flatten(1)))
        out: Tensor = self.out(functional.relu_(self.fc2(torch.cat([hidden, action], 1))))
        return out


class Dueling(nn.Module):
    """Two branches of equal width over one trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.value1, self.advantage1 = (nn.Linear(4, 4) for _ in range(3))
        self.value2, self.advantage2 = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, obs: Tensor) -> Tensor:
        trunk = self.trunk(obs).relu()
        value = self.value2(self.value1(trunk).relu())
        return value + self.advantage2(self.advantage1(trunk).relu())  # type: ignore[no-any-return]


class Noisy(nn.Linear):
    """Draws noise, counts in a buffer and replaces another one in every pass, in evaluation mode as well."""

    def __init__(self) -> None:
        super().__init__(4, 2)
        self.register_buffer("count", torch.zeros(1))
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, input: Tensor) -> Tensor:
        self.count += 1
        self.mean = self.mean + input.mean(0)
        return super().forward(input + torch.randn_like(input))


def two_layers() -> nn.Sequential:
    """y = relu(x W1) W2 with W1 = ((1, 0), (0, -1), (0, 0)) as rows of units."""
    module = nn.Sequential()
    module.add_module("fc1", nn.Linear(2, 3))
    module.add_module("relu", nn.ReLU(inplace=True))
    module.add_module("out", nn.Linear(3, 1))
    with torch.no_grad():
        module.fc1.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.0, 0.0]]))
        module.fc1.bias.zero_()
    return module


def state_of(module: nn.Module) -> dict[str, object]:
    """Everything that a probe must leave alone."""
    hooks = [(len(part._forward_hooks), len(part._forward_pre_hooks)) for part in module.modules()]
    tensors = {name: (id(value), value._version, value.tolist()) for name, value in module.named_buffers()}
    for name, value in module.named_parameters():
        gradient = None if value.grad is None else value.grad.tolist()
        tensors[name] = (id(value), value._version, value.tolist(), gradient)
    modes = [part.training for part in module.modules()]
    return {"hooks": hooks, "tensors": tensors, "modes": modes, "rng": torch.get_rng_state().tolist()}


BATCH = torch.tensor([[1.0, 2.0], [2.0, 3.0], [3.0, 1.0], [2.0, 2.0]])


def test_totals_and_layers_of_a_hand_worked_network() -> None:
    measured = probe_module(two_layers(), BATCH, ["dormant_ratio", "fraction_active", "feature_norm"])
    assert measured == {
        "dormant_ratio": pytest.approx(2 / 3),
        "dormant_ratio/fc1": pytest.approx(2 / 3),
        "fraction_active": pytest.approx(1 / 3),
        "fraction_active/fc1": pytest.approx(1 / 3),
        "feature_norm": 2.0,
    }


def test_without_kinds_every_probe_that_applies_is_measured() -> None:
    module = two_layers()
    kinds = {name.partition("/")[0] for name in probe_module(module, BATCH)}
    alone = {kind for kind in plugins.names("probes") if plugins.load("probes", kind).Config.needs is None}
    alone -= {"saturation"}  # which ReLUs do not know
    assert kinds == alone - {"gradient_norm", "update_ratio", "weight_distance", "sfe"}
    module(BATCH).sum().backward()
    kinds = {name.partition("/")[0] for name in probe_module(module, BATCH, initial=copy.deepcopy(module))}
    assert kinds == alone - {"update_ratio", "sfe"}


def test_what_only_agents_show_is_refused_by_name() -> None:
    with pytest.raises(
        ValueError, match="kinds: 'hessian_top' looks at losses, which only agents of benchmark files show"
    ):
        probe_module(two_layers(), BATCH, ["weight_norm", "hessian_top"])


def test_activations_are_what_the_next_layer_receives() -> None:
    module, obs, action = Critic().eval(), torch.randn(6, 3, 6, 6), torch.randn(6, 2)
    view = view_of(module, (obs, action))
    assert [layer.name for layer in view.layers] == ["conv", "fc1", "fc2", "out"]
    conv, fc1, fc2, out = (layer.activation for layer in view.layers)
    with torch.no_grad():
        pooled = functional.max_pool2d(module.norm(module.conv(obs)).relu(), 2)
        joined = torch.cat([torch.tanh(module.fc1(pooled.flatten(1))), action], 1)
        features = module.fc2(joined).relu()
    assert conv is not None
    assert fc2 is not None
    assert view.features is not None
    torch.testing.assert_close(conv, pooled.reshape(1, 6, 4, 4, 1))
    torch.testing.assert_close(fc2[0], features)
    torch.testing.assert_close(view.features[0], features)
    # The layer after fc1 receives the action as well; the output layer has no successor.
    assert (fc1, out) == (None, None)


def test_what_a_layer_received_is_kept_as_it_was_then() -> None:
    class ChangesItsFeatures(nn.Sequential):
        def forward(self, obs: Tensor) -> Tensor:
            hidden = self[0](obs).relu()
            out: Tensor = self[1](hidden)
            hidden.zero_()
            return out

    module = ChangesItsFeatures(nn.Linear(2, 3), nn.Linear(3, 1))
    view = view_of(module, BATCH)
    expected = module[0](BATCH).relu()
    assert view.features is not None
    assert view.layers[0].activation is not None
    torch.testing.assert_close(view.features[0], expected)
    torch.testing.assert_close(view.layers[0].activation[0], expected)


def test_a_flattened_convolution_regains_its_positions() -> None:
    module, batch = (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)),
        torch.randn(5, 3, 6, 6),
    )
    activation = view_of(module, batch).layers[0].activation
    assert activation is not None
    torch.testing.assert_close(activation[0], module[0](batch).relu())


def test_branches_are_not_taken_for_each_others_activations() -> None:
    module, obs = Dueling(), torch.randn(7, 4)
    view = view_of(module, obs)
    activations = {layer.name: layer.activation for layer in view.layers}
    assert list(activations) == ["trunk", "value1", "value2", "advantage1", "advantage2"]
    assert {name for name, value in activations.items() if value is None} == {"value2", "advantage2"}
    trunk = activations["trunk"]
    assert trunk is not None
    torch.testing.assert_close(trunk[0], module.trunk(obs).relu())


def test_a_sequence_dimension_counts_as_rows() -> None:
    view = view_of(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(5, 6, 3))
    activation = view.layers[0].activation
    assert activation is not None
    assert activation.shape == (1, 30, 4)


def test_a_batch_may_be_a_mapping() -> None:
    class OfMapping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
            return self.layer(batch["obs"])  # type: ignore[no-any-return]

    assert probe_module(OfMapping(), {"obs": BATCH}, ["feature_norm"]).keys() == {"feature_norm"}


def test_initial_weights_come_from_a_module_or_a_state_dict() -> None:
    module = two_layers()
    initial = copy.deepcopy(module)
    with torch.no_grad():
        module.fc1.weight[2, 0] += 3.0
        module.out.bias += 4.0
    for start in (initial, initial.state_dict()):
        measured = probe_module(module, BATCH, ["weight_distance"], initial=start)
        expected = {"weight_distance": 5.0, "weight_distance/fc1": 3.0, "weight_distance/out": 4.0}
        assert measured == pytest.approx(expected)


def test_gradients_are_those_that_the_parameters_hold() -> None:
    module = two_layers()
    module.fc1.weight.grad = torch.full((3, 2), 2.0)
    measured = probe_module(module, BATCH, ["gradient_norm"])
    assert measured == pytest.approx({"gradient_norm": math.sqrt(24), "gradient_norm/fc1": math.sqrt(24)})


def test_a_layer_alone_is_a_network() -> None:
    assert set(probe_module(nn.Linear(2, 2), BATCH, ["weight_norm"])) == {"weight_norm", "weight_norm/linear"}


@pytest.mark.parametrize("build", [Critic, two_layers, Noisy])
def test_probing_leaves_a_module_bit_identical(build: Callable[[], nn.Module]) -> None:
    module = build().train()
    list(module.modules())[-1].eval()  # a mixed mode must come back as it was
    batches = {Critic: (torch.randn(6, 3, 6, 6), torch.randn(6, 2)), Noisy: torch.randn(3, 4)}
    batch = batches.get(build, BATCH)
    for parameter in module.parameters():
        parameter.grad = torch.randn_like(parameter)
    before = state_of(module)
    probe_module(module, batch, initial=module.state_dict())
    assert state_of(module) == before


def test_probing_between_loss_and_backward_does_not_break_the_graph() -> None:
    module, batch = Critic(), (torch.randn(6, 3, 6, 6), torch.randn(6, 2))
    loss = module(*batch).sum()
    probe_module(module, batch)
    loss.backward()


def test_an_error_in_the_module_leaves_it_bit_identical() -> None:
    module, batch = Critic().train(), (torch.randn(6, 3, 6, 6), torch.randn(6, 3))
    before = state_of(module)
    with pytest.raises(RuntimeError):
        probe_module(module, batch)
    assert state_of(module) == before


def test_half_precision_weights_do_not_overflow() -> None:
    module = nn.Linear(300, 300, bias=False).to(torch.bfloat16)
    nn.init.ones_(module.weight)
    measured = probe_module(module, torch.ones(300, 300, dtype=torch.bfloat16), ["weight_norm", "stable_rank"])
    assert measured["weight_norm"] == pytest.approx(300.0)
    assert measured["stable_rank"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    "module, batch, kinds, initial, message",
    [
        (two_layers(), BATCH, ["dormant"], None, "no probes plug-in is called 'dormant'"),
        (two_layers(), BATCH, ["srnk"], None, "Did you mean 'srank'"),
        (two_layers(), BATCH, ["sfe"], None, "kinds: 'sfe' has nothing to measure here"),
        (two_layers(), BATCH, None, {"fc1.wieght": BATCH}, "initial: has no 'fc1.weight'. Did you mean 'fc1.wieght'"),
        (two_layers(), BATCH, None, {"fc1.weight": BATCH}, r"must have the module's shape \[3, 2\], got \[4, 2\]"),
        (nn.ReLU(), BATCH, None, None, "module: must run at least one layer with weights, got ReLU"),
        (two_layers(), BATCH[0], None, None, r"batch: needs a first dimension of rows, but a layer received \[2\]"),
    ],
)
def test_bad_input_is_refused_with_the_rule_and_the_value(
    module: nn.Module, batch: Tensor, kinds: list[str] | None, initial: dict[str, Tensor] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        probe_module(module, batch, kinds, initial=initial)
