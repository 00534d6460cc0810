"""Every layer of torch.nn that has parameters: known, or refused by name."""

import copy
import inspect
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import plasticbench
from plasticbench.learning.module_state import module_state
from plasticbench.seeding import derive_seed

MADE: dict[str, Callable[[], nn.Module]] = {
    "AdaptiveLogSoftmaxWithLoss": lambda: nn.AdaptiveLogSoftmaxWithLoss(16, 20, [5, 10]),
    "BatchNorm1d": lambda: nn.BatchNorm1d(4),
    "BatchNorm2d": lambda: nn.BatchNorm2d(4, momentum=None),
    "BatchNorm3d": lambda: nn.BatchNorm3d(4),
    "Bilinear": lambda: nn.Bilinear(5, 3, 6),
    "Conv1d": lambda: nn.Conv1d(4, 6, 3),
    "Conv2d": lambda: nn.Conv2d(4, 6, 3, groups=2),
    "Conv3d": lambda: nn.Conv3d(4, 6, 3),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(4, 6, 3),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(4, 6, 3, groups=2),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(4, 6, 3, bias=False),
    "Embedding": lambda: nn.Embedding(7, 5, padding_idx=2),
    "EmbeddingBag": lambda: nn.EmbeddingBag(7, 5),
    "GRU": lambda: nn.GRU(8, 16, num_layers=2, bidirectional=True),
    "GRUCell": lambda: nn.GRUCell(8, 16),
    "GroupNorm": lambda: nn.GroupNorm(2, 4),
    "InstanceNorm1d": lambda: nn.InstanceNorm1d(4, affine=True, track_running_stats=True),
    "InstanceNorm2d": lambda: nn.InstanceNorm2d(4, affine=True),
    "InstanceNorm3d": lambda: nn.InstanceNorm3d(4, affine=True),
    "LSTM": lambda: nn.LSTM(8, 16, proj_size=4),
    "LSTMCell": lambda: nn.LSTMCell(8, 16, bias=False),
    "LayerNorm": lambda: nn.LayerNorm((4, 3)),
    "Linear": lambda: nn.Linear(5, 6),
    "MultiheadAttention": lambda: nn.MultiheadAttention(16, 4, add_bias_kv=True),
    "PReLU": lambda: nn.PReLU(4, init=0.3),
    "RMSNorm": lambda: nn.RMSNorm(4),
    "RNN": lambda: nn.RNN(8, 16),
    "RNNBase": lambda: nn.RNNBase("GRU", 8, 16),
    "RNNCell": lambda: nn.RNNCell(8, 16),
    "RNNCellBase": lambda: nn.RNNCellBase(8, 16, True, 4),
    "SyncBatchNorm": lambda: nn.SyncBatchNorm(4),
}
REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "ParameterList": (lambda: nn.ParameterList([torch.ones(2)]), "module: 0.0 of ParameterList: how such a parameter"),
    "ParameterDict": (lambda: nn.ParameterDict({"a": torch.ones(2)}), "module: 0.a of ParameterDict: how such"),
}
STACKED: dict[str, Callable[[], nn.Module]] = {
    "Transformer": lambda: nn.Transformer(16, 2, 1, 1, 32, batch_first=True),
    "TransformerDecoder": lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 2, 32), 2),
    "TransformerDecoderLayer": lambda: nn.TransformerDecoderLayer(16, 2, 32),
    "TransformerEncoder": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2),
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(16, 2, 32),
}


def classes() -> dict[str, type[nn.Module]]:
    found = {name: getattr(nn, name) for name in dir(nn)}
    return {name: kind for name, kind in found.items() if inspect.isclass(kind) and issubclass(kind, nn.Module)}


def makes_parameters(kind: type[nn.Module]) -> bool:
    sources = (inspect.getsource(base) for base in kind.__mro__ if base.__module__.startswith("torch.nn.modules."))
    return any("Parameter(" in source for source in sources if "class Module:" not in source)


def disturb(module: nn.Module) -> None:
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.add_(1)


def test_every_class_that_makes_parameters_is_in_the_tables_of_this_file() -> None:
    named = {name for name, kind in classes().items() if makes_parameters(kind) and not name.startswith("Lazy")}
    assert named == (MADE.keys() - {"AdaptiveLogSoftmaxWithLoss"}) | REFUSED.keys()  # that one is made of linear layers


@pytest.mark.parametrize("name", MADE)
def test_a_full_reset_starts_every_parameter_and_statistic_as_torch_starts_them(name) -> None:
    """Bit for bit: the constructor under the seed that the reset derives."""
    module = MADE[name]()
    disturb(module)
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(5, "reset", "online"))
        expected = MADE[name]().state_dict()
    for drawn_alone in (name, f"0.{name}"):
        holder = module if drawn_alone == name else nn.Sequential(copy.deepcopy(module))
        disturb(holder)
        report = plasticbench.reset(holder, "full_reset", seed=5)
        found = {key.removeprefix("0."): value for key, value in holder.state_dict().items()}
        torch.testing.assert_close(found, dict(expected), rtol=0, atol=0)
        assert report.touched == {key for key in holder.state_dict() if not key.endswith("num_batches_tracked")}


@pytest.mark.parametrize("name", [name for name in classes() if name.startswith("Lazy")])
def test_lazy_layers_are_refused_by_name_until_they_have_a_shape(name) -> None:
    sizes = {"Linear": (4,), "Conv": (4, 3), "Batch": (), "Instance": ()}
    arguments = next(value for key, value in sizes.items() if key in name)
    layer = getattr(nn, name)(*arguments, **({"affine": True} if "Instance" in name else {}))
    with pytest.raises(ValueError, match=r"module: 0\.weight has no shape yet; run the module once first"):
        plasticbench.reset(nn.Sequential(layer, nn.Linear(4, 2)), "full_reset")


@pytest.mark.parametrize("name", REFUSED)
def test_parameters_of_unknown_origin_are_refused_by_name_unless_ignored(name) -> None:
    make, message = REFUSED[name]
    module = nn.Sequential(make(), nn.Linear(3, 2))
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(ValueError, match=message):
        plasticbench.reset(module, "full_reset")
    with pytest.raises(ValueError, match=message):
        plasticbench.fire_(module)
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)
    assert plasticbench.reset(module, "full_reset", ignore=["0"]).touched == {"1.weight", "1.bias"}


@pytest.mark.parametrize("name", STACKED)
def test_transformers_are_reset_as_a_whole_and_keep_their_kind_of_start(name) -> None:
    module, like = STACKED[name](), STACKED[name]()
    disturb(module)
    assert plasticbench.reset(module, "full_reset").touched == module.state_dict().keys()
    for key, value in like.state_dict().items():
        found = module.state_dict()[key]
        if value.std() == 0:
            assert torch.equal(found, value), key
        else:
            assert float(found.abs().max()) == pytest.approx(float(value.abs().max()), rel=0.5), key
            assert float(found.mean()) == pytest.approx(0, abs=0.1), key


# -- matrices of their own -------------------------------------------------------------------------------------------


def assert_isometry(matrix: Tensor, scale: float) -> None:
    values = torch.linalg.svdvals(matrix.detach().double())
    torch.testing.assert_close(values, torch.full_like(values, scale), rtol=1e-5, atol=0)


def test_fire_projects_each_gate_of_a_recurrent_layer() -> None:
    module = nn.ModuleDict({"memory": nn.GRU(8, 16), "head": nn.Linear(16, 2)})
    report = plasticbench.fire_(module)
    assert report.touched == {"memory.weight_ih_l0", "memory.weight_hh_l0"}
    for gate in range(3):
        rows = slice(16 * gate, 16 * (gate + 1))
        assert_isometry(module["memory"].weight_ih_l0[rows], math.sqrt(2))
        assert_isometry(module["memory"].weight_hh_l0[rows], 1.0)
    names = [layer.name for layer in module_state(module, 0).layers]
    assert names == [f"memory.{read}_l0.{gate}" for read in ("ih", "hh") for gate in "rzn"] + ["head"]


def test_an_lstm_has_torchs_four_gates_and_its_projection() -> None:
    names = [layer.name for layer in module_state(nn.LSTM(8, 16, proj_size=4), 0).layers]
    assert names == [f"{read}_l0.{gate}" for read in ("ih", "hh") for gate in "ifgo"] + ["hr_l0"]


@pytest.mark.parametrize("widths", [{}, {"kdim": 8, "vdim": 4}])
def test_fire_projects_query_key_and_value_each_by_itself(widths) -> None:
    module = nn.ModuleDict({"attention": nn.MultiheadAttention(16, 4, **widths), "head": nn.Linear(16, 2)})
    plasticbench.fire_(module)
    attention = module["attention"]
    if widths:
        for matrix, read in ((attention.q_proj_weight, 16), (attention.k_proj_weight, 8), (attention.v_proj_weight, 4)):
            assert_isometry(matrix, math.sqrt(16 / read))
    else:
        for matrix in attention.in_proj_weight.chunk(3):
            assert_isometry(matrix, 1.0)
    assert_isometry(attention.out_proj.weight, 1.0)


def test_one_gate_can_be_chosen_and_its_parameters_moments_start_anew_as_a_whole() -> None:
    module = nn.ModuleDict({"memory": nn.GRU(3, 4), "head": nn.Linear(4, 2)})
    optimizer = torch.optim.Adam(module.parameters())
    module["head"](module["memory"](torch.randn(5, 3))[0]).sum().backward()
    optimizer.step()
    before = module["memory"].weight_hh_l0.detach().clone()
    report = plasticbench.fire_(module, layers="memory.hh_l0.z", optimizer=optimizer)
    now = module["memory"].weight_hh_l0.detach()
    assert [torch.equal(a, b) for a, b in zip(now.chunk(3), before.chunk(3), strict=True)] == [True, False, True]
    assert report.touched == {"memory.weight_hh_l0"}
    assert float(optimizer.state[module["memory"].weight_hh_l0]["step"]) == 0
    assert float(optimizer.state[module["memory"].weight_ih_l0]["step"]) == 1


def test_fire_projects_each_group_of_a_convolution_at_each_position() -> None:
    module = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.Flatten(), nn.Linear(8, 2))
    plasticbench.fire_(module, layers="encoder")
    for group in module[0].weight.chunk(2):
        for y, x in ((0, 0), (1, 2)):
            assert_isometry(group[:, :, y, x], math.sqrt(4 / 2) / 9)


def test_a_depthwise_convolution_is_a_sign_for_each_channel_and_position() -> None:
    module = nn.Sequential(nn.Conv1d(6, 6, 3, groups=6), nn.Flatten(), nn.Linear(6, 2))
    signs = module[0].weight.detach().sign()
    plasticbench.fire_(module, layers="0.*", scale="none")
    torch.testing.assert_close(module[0].weight.detach(), signs)


def test_fire_projects_a_transposed_convolution_as_the_map_that_it_is() -> None:
    """It keeps (in, out / groups, kh, kw); torch's own matrix for one position is its transpose."""
    module = nn.Sequential(nn.ConvTranspose2d(8, 6, 2, groups=2), nn.Conv2d(6, 2, 1))
    plasticbench.fire_(module)
    for group in module[0].weight.chunk(2):
        assert group.shape == (4, 3, 2, 2)
        assert_isometry(group[:, :, 0, 1].T, math.sqrt(3 / 4) / 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_convolution_over_volumes_is_projected_at_each_position_whatever_its_memory_format(dtype) -> None:
    module = nn.Sequential(nn.Conv3d(4, 4, 2), nn.Flatten(), nn.Linear(4, 2)).to(dtype)
    module[0].to(memory_format=torch.channels_last_3d)
    address = module[0].weight.data_ptr()
    plasticbench.fire_(module, layers="encoder")
    assert module[0].weight.data_ptr() == address
    assert_isometry(module[0].weight[:, :, 1, 0, 1], 1 / 8)


def test_embeddings_follow_resets_and_shrinking_but_are_no_matrix_to_project() -> None:
    module = nn.Sequential(nn.Embedding(5, 4, padding_idx=0), nn.Linear(4, 4), nn.Linear(4, 2))
    first = copy.deepcopy(module.state_dict())
    assert plasticbench.fire_(module).touched == {"1.weight"}
    plasticbench.reset(module, "shrink_perturb", keep=0.5, noise=0.0, rest="keep")
    torch.testing.assert_close(module[0].weight.detach(), 0.5 * first["0.weight"])
    plasticbench.reset(module, "full_reset")
    assert not module[0].weight[0].any()
    with pytest.raises(ValueError, match=r"layers: must select at least one layer of 0 \(encoder, embedding\), 1"):
        plasticbench.fire_(module, layers="0")


# -- normalisations, frozen, shared and free parameters ----------------------------------------------------------------


def test_running_statistics_follow_their_normalisation_and_its_target() -> None:
    online, target = (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)) for _ in range(2))
    for module in (online, target):
        disturb(module)
        module[1].running_mean.fill_(5)
    plasticbench.reset(online, "shrink_perturb", norms="blend", keep=0.5, noise=0.5, target=target, target_rule="keep")
    torch.testing.assert_close(online[1].running_mean, torch.full((4,), 2.5))  # half of 5 and half of 0
    torch.testing.assert_close(online[1].running_var, torch.full((4,), 1.5))  # half of 2 and half of 1
    assert (int(online[1].num_batches_tracked), int(target[1].num_batches_tracked)) == (0, 1)
    plasticbench.reset(online, "full_reset", target=target, target_rule="same_operation")
    for module in (online, target):
        assert module[1].running_mean.tolist() == [0] * 4
        assert module[1].running_var.tolist() == [1] * 4
        assert int(module[1].num_batches_tracked) == 0
    plasticbench.fire_(online)
    assert int(online[1].num_batches_tracked) == 0


def test_frozen_parameters_are_left_alone_with_their_statistics_unless_named() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    disturb(module)
    module[:2].requires_grad_(False)
    assert plasticbench.reset(module, "full_reset").touched == {"2.weight", "2.bias"}
    named = plasticbench.reset(module, "full_reset", include=["0"])
    assert named.touched == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert plasticbench.reset(module, "full_reset", include=["1.*"], ignore=["2"]).touched == {
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
    }
    with pytest.raises(ValueError, match=r"layers: must select at least one layer of 2 \(head\), got 'hidden'"):
        plasticbench.fire_(module)
    module.requires_grad_(False)
    with pytest.raises(ValueError, match="every parameter is frozen or ignored; name those to treat all the same"):
        plasticbench.reset(module, "full_reset")


def test_a_target_may_be_frozen_and_follows_what_is_trained() -> None:
    online, target = (nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)) for _ in range(2))
    target.requires_grad_(False)
    plasticbench.reset(online, "full_reset", target=target, target_rule="same_operation")
    torch.testing.assert_close(target.state_dict(), online.state_dict(), rtol=0, atol=0)


def test_ignored_parameters_keep_their_values_and_their_moments() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    before = module[0].weight.detach().clone()
    plasticbench.reset(module, "full_reset", optimizer=optimizer, ignore=["0.weight"])
    assert torch.equal(module[0].weight, before)
    steps = {name: float(optimizer.state[value]["step"]) for name, value in module.named_parameters()}
    assert steps == {"0.weight": 1, "0.bias": 0, "1.weight": 0, "1.bias": 0}


def test_a_shared_weight_is_treated_once_and_the_bias_beside_it_too() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    module[2].weight = module[0].weight
    old = module[0].weight.detach().clone()
    plasticbench.reset(module, "shrink_perturb", keep=0.5, noise=0.0, layers="all")
    torch.testing.assert_close(module[0].weight.detach(), 0.5 * old)
    assert plasticbench.reset(module, "full_reset").touched == {"0.weight", "0.bias", "2.bias"}
    assert plasticbench.fire_(module).touched == {"0.weight"}
    with pytest.raises(ValueError, match=r"at least one layer of 0 \(encoder, shared with 2\), got 'head'"):
        plasticbench.reset(module, "last_layers")


def test_a_module_that_is_used_twice_is_treated_once() -> None:
    layer = nn.Linear(4, 4)
    module = nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(4, 2))
    old = layer.weight.detach().clone()
    plasticbench.reset(module, "shrink_perturb", keep=0.5, noise=0.0, rest="keep")
    torch.testing.assert_close(layer.weight.detach(), 0.5 * old)


class WithFreeParameter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.norm, self.memory, self.head = nn.Linear(3, 4), nn.LayerNorm(4), nn.GRU(4, 4), nn.Linear(4, 2)
        self.log_std = nn.Parameter(torch.full((2,), -1.0))

    def forward(self, rows: Tensor) -> Tensor:
        out: Tensor = self.head(self.memory(self.norm(self.hidden(rows)))[0]) * self.log_std.exp()
        return out


@pytest.mark.parametrize("kind, target", [("full_reset", 11), ("last_layers", 2)])
def test_values_are_new_exactly_where_the_optimizers_state_is(kind, target) -> None:
    """A full reset leaves nothing trained, neither normalisation nor memory nor a free parameter."""
    module = WithFreeParameter()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    for _ in range(3):
        module(torch.randn(5, 3)).square().sum().backward()
        optimizer.step()
    trained = copy.deepcopy(module.state_dict())
    plasticbench.reset(module, kind, optimizer=optimizer, fresh=WithFreeParameter)
    new = {name for name, value in module.state_dict().items() if not torch.equal(value, trained[name])}
    anew = {name for name, value in module.named_parameters() if float(optimizer.state[value]["step"]) == 0}
    assert new == anew
    assert len(new) == target
    assert module.log_std.tolist() == ([-1, -1] if kind == "full_reset" else trained["log_std"].tolist())


def test_a_free_parameter_is_named_with_both_ways_out() -> None:
    message = r"module: log_std of WithFreeParameter: .* Pass fresh= .* or leave it alone with ignore=\['log_std'\]"
    with pytest.raises(ValueError, match=message):
        plasticbench.reset(WithFreeParameter(), "full_reset")
    with pytest.raises(ValueError, match=message):
        plasticbench.probe(WithFreeParameter(), torch.randn(5, 3))
    with pytest.raises(ValueError, match=r"fresh: must hold every parameter of the module, but hidden.weight is"):
        plasticbench.reset(WithFreeParameter(), "full_reset", fresh=lambda: nn.Linear(3, 4))
    assert "log_std" not in plasticbench.reset(WithFreeParameter(), "full_reset", ignore=["log_std"]).touched


# -- probes ----------------------------------------------------------------------------------------------------------


def test_probes_measure_the_matrices_that_fire_projects() -> None:
    module = WithFreeParameter()
    plasticbench.fire_(module, layers="all", scale="none", ignore=["log_std"])
    measured = plasticbench.probe(module, torch.randn(6, 3), ["dfi"], ignore=["log_std"])
    gates = {f"dfi/memory.{read}_l0.{gate}" for read in ("ih", "hh") for gate in "rzn"}
    assert measured.keys() == {"dfi", "dfi/hidden", "dfi/head"} | gates
    assert all(value == pytest.approx(0, abs=1e-8) for value in measured.values())


def test_probes_look_inside_attention_and_convolutions_of_every_kind() -> None:
    attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    names = {"self_attn.q", "self_attn.k", "self_attn.v", "self_attn.out_proj", "linear1", "linear2"}
    assert {f"dfi/{name}" for name in names} < plasticbench.probe(attention, torch.randn(4, 3, 8)).keys()
    convolutions = nn.Sequential(
        nn.Conv1d(4, 4, 3, groups=2), nn.ReLU(), nn.ConvTranspose1d(4, 2, 3), nn.Flatten(), nn.Linear(10, 2)
    )
    measured = plasticbench.probe(convolutions, torch.randn(6, 4, 5), ["dormant_ratio"])
    assert measured.keys() == {"dormant_ratio", "dormant_ratio/0.group0", "dormant_ratio/0.group1", "dormant_ratio/2"}
