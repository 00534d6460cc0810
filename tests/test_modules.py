import copy
from typing import Any

import pytest
import torch
from reset_networks import REWRITING
from torch import nn
from torch.nn.utils import parametrizations

import plasticbench
from plasticbench.learning.invariants import check_finite, check_storage
from plasticbench.learning.module_state import ZERO_STATE_OPTIMIZERS, module_state


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.LayerNorm(8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


def cnn() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 2))


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(7)
        yield


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(module: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


def train(module: nn.Module, optimizer: torch.optim.Optimizer, updates: int = 3) -> None:
    for _ in range(updates):
        optimizer.zero_grad()
        module(torch.randn(6, 5)).square().mean().backward()
        optimizer.step()


# -- what is written --------------------------------------------------------------------------------------------------


def test_fire_gives_hidden_layers_the_muon_scale_and_keeps_the_rest() -> None:
    module = mlp()
    before = snapshot(module)
    report = plasticbench.fire_(module)
    assert report.touched == changed(module, before) == {"0.weight", "3.weight"}
    torch.testing.assert_close(torch.linalg.svdvals(module[0].weight), torch.full((5,), (8 / 5) ** 0.5))
    torch.testing.assert_close(module[3].weight @ module[3].weight.mT, torch.eye(8), rtol=0, atol=1e-6)


def test_fire_passes_settings_and_preset_on() -> None:
    module, initial = cnn(), cnn()
    report = plasticbench.fire_(module, preset="fire_paper_dqn", initial=initial, iterations=5)
    assert report.touched == {"0.weight", "3.weight", "3.bias", "5.weight", "5.bias"}
    assert torch.equal(module[3].weight, initial[3].weight)


def test_roles_follow_convolutions_where_there_are_any() -> None:
    assert [layer.role for layer in module_state(cnn(), 0).layers] == ["encoder", "head", "head"]
    assert [layer.role for layer in module_state(mlp(), 0).layers] == ["encoder", "encoder", "head"]
    assert [layer.is_output for layer in module_state(mlp(), 0).layers] == [False, False, True]


@pytest.mark.parametrize("kind", REWRITING)
def test_every_policy_keeps_storage_and_stays_trainable_and_a_full_reset_alone_renews_normalisations(kind) -> None:
    module = mlp()
    addresses = {name: parameter.data_ptr() for name, parameter in module.named_parameters()}
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    train(module, optimizer)
    norm = snapshot(module[2])
    plasticbench.reset(module, kind, optimizer=optimizer, seed=3)
    assert {name: parameter.data_ptr() for name, parameter in module.named_parameters()} == addresses
    assert changed(module[2], norm) == ({"weight", "bias"} if kind in ("full_reset", "oracle") else set())
    before = snapshot(module)
    train(module, optimizer, updates=1)
    assert changed(module, before) == set(before)


def test_none_changes_no_byte_and_no_optimizer_state() -> None:
    module, target = mlp(), mlp()
    optimizer = torch.optim.Adam(module.parameters())
    train(module, optimizer)
    before, target_before, state = snapshot(module), snapshot(target), copy.deepcopy(optimizer.state_dict())
    assert plasticbench.reset(module, "none", target=target, optimizer=optimizer).touched == set()
    assert changed(module, before) == changed(target, target_before) == set()
    torch.testing.assert_close(optimizer.state_dict(), state, rtol=0, atol=0)


def test_rewinding_to_a_copy_or_its_state_dict_restores_the_first_outputs() -> None:
    module = mlp()
    initial = copy.deepcopy(module)
    for source in (initial, initial.state_dict()):
        train(module[0], torch.optim.SGD(module[0].parameters(), lr=0.1))
        train(module, torch.optim.SGD([p for i in (3, 5) for p in module[i].parameters()], lr=0.1))
        plasticbench.reset(module, "full_reset", initial=source, init_source="original")
        rows = torch.randn(4, 5)
        assert torch.equal(module(rows), initial(rows))


def test_layers_without_bias_and_weights_that_layers_share_are_handled_once() -> None:
    module = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False), nn.Linear(4, 2))
    module[1].weight = module[0].weight
    old = module[0].weight.detach().clone()
    report = plasticbench.reset(module, "shrink_perturb", layers="0", rest="keep", keep=0.5, noise=0.0)
    assert report.touched == {"0.weight"}
    torch.testing.assert_close(module[1].weight, 0.5 * old)


# -- chance -----------------------------------------------------------------------------------------------------------


def test_seed_alone_decides_the_fresh_weights_and_the_global_generator_is_untouched() -> None:
    first, again, other = mlp(), mlp(), mlp()
    state = torch.get_rng_state()
    for module, seed in ((first, 1), (again, 1), (other, 2)):
        plasticbench.reset(module, "full_reset", seed=seed)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[5].weight, again[5].weight)
    assert not torch.equal(first[5].weight, other[5].weight)
    assert not torch.equal(first[0].weight[:5, :5], first[3].weight[:5, :5])


def test_fresh_weights_have_the_range_of_the_layers_own_initialiser() -> None:
    module = nn.Sequential(nn.Linear(100, 400), nn.Linear(400, 1))
    plasticbench.reset(module, "full_reset", seed=5)
    assert 0.099 < float(module[0].weight.detach().abs().max()) <= 0.1
    assert float(module[0].weight.detach().std()) == pytest.approx(0.1 / 3**0.5, rel=0.02)


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.mean, self.log_std = nn.Linear(3, 8), nn.Linear(8, 2), nn.Linear(8, 2)
        nn.init.constant_(self.mean.weight, float(torch.rand(())))


def test_named_outputs_are_the_head_and_spared_by_policies_for_hidden_layers() -> None:
    heads = ["mean", "log_std"]
    assert plasticbench.fire_(TwoHeads()).touched == {"hidden.weight", "mean.weight"}
    assert plasticbench.fire_(TwoHeads(), outputs=heads).touched == {"hidden.weight"}
    expected = {f"{name}.{kind}" for name in heads for kind in ("weight", "bias")}
    assert plasticbench.reset(TwoHeads(), "last_layers", outputs=heads).touched == expected
    with pytest.raises(ValueError, match=r"outputs: no layer of weights is called 'men'\. Did you mean 'mean'"):
        plasticbench.fire_(TwoHeads(), outputs=["men"])


def test_a_builder_gives_the_fresh_weights_under_the_seed() -> None:
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(0)
    first, again, other = TwoHeads(), TwoHeads(), TwoHeads()
    before = torch.get_rng_state()
    for module, seed in ((first, 1), (again, 1), (other, 2)):
        plasticbench.reset(module, "full_reset", fresh=TwoHeads, seed=seed)
    assert torch.equal(torch.get_rng_state(), before)
    torch.set_rng_state(state)
    assert len(first.mean.weight.unique()) == 1
    assert torch.equal(first.mean.weight, again.mean.weight)
    assert not torch.equal(first.mean.weight, other.mean.weight)


def test_hooks_are_neither_copied_nor_called() -> None:
    module = mlp()
    calls: list[Any] = []

    class Uncopyable:
        def __call__(self, *args: Any) -> None:
            calls.append(args)

        def __deepcopy__(self, memo: Any) -> None:
            raise AssertionError("a reset copied what a hook refers to")

    module[0].register_forward_hook(Uncopyable())
    plasticbench.reset(module, "full_reset")
    assert calls == []


# -- the target network -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule, equal",
    [("sync", {"0.bias", "0.weight", "3.bias", "5.weight"}), ("sync_touched", {"0.weight"}), ("keep", set())],
)
def test_target_rules_copy_all_or_the_rewritten_parameters_or_nothing(rule, equal) -> None:
    online, target = cnn(), cnn()
    before = snapshot(target)
    plasticbench.fire_(online, target=target, target_rule=rule, layers="encoder")
    for name in ("0.weight", "0.bias", "3.bias", "5.weight"):
        expected = online.state_dict()[name] if name in equal else before[name]
        assert torch.equal(target.state_dict()[name], expected)


def test_sync_copies_buffers_too() -> None:
    online, target = (nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)) for _ in range(2))
    online(torch.randn(9, 5))
    plasticbench.reset(online, "full_reset", target=target)
    torch.testing.assert_close(target.state_dict(), online.state_dict(), rtol=0, atol=0)


def test_same_operation_acts_on_the_targets_own_weights() -> None:
    online, target, initial = mlp(), mlp(), mlp()
    old = target[3].weight.detach().clone()
    plasticbench.reset(online, "shrink_perturb", preset="fire_paper_dqn", target=target, initial=initial)
    torch.testing.assert_close(target[3].weight, 0.2 * old + 0.8 * initial[3].weight)
    assert torch.equal(target[5].weight, initial[5].weight)


def test_same_operation_draws_fresh_weights_once_for_module_and_target() -> None:
    online, target = mlp(), mlp()
    plasticbench.reset(online, "full_reset", target=target, target_rule="same_operation", seed=3)
    assert torch.equal(online[3].weight, target[3].weight)
    assert torch.equal(online[5].bias, target[5].bias)


# -- the optimizer ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ZERO_STATE_OPTIMIZERS, ids=lambda kind: kind.__name__)
def test_a_reset_optimizer_continues_like_a_new_one(kind) -> None:
    settings = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    module = mlp()
    optimizer = kind(module.parameters(), lr=0.01, **settings)
    train(module, optimizer)
    states = [value for state in optimizer.state.values() for value in state.values()]
    addresses = [value.data_ptr() for value in states]
    plasticbench.reset(module, "full_reset", optimizer=optimizer, optimizer_rule="reset")
    twin = copy.deepcopy(module)
    generator_state = torch.get_rng_state()
    train(module, optimizer)
    torch.set_rng_state(generator_state)
    train(twin, kind(twin.parameters(), lr=0.01, **settings))
    torch.testing.assert_close(module.state_dict(), twin.state_dict(), rtol=1e-6, atol=1e-8)
    assert [value.data_ptr() for value in states] == addresses


def test_reset_touched_zeroes_the_state_of_rewritten_parameters_alone() -> None:
    module = mlp()
    optimizer = torch.optim.Adam(reversed(list(module.parameters())))
    train(module, optimizer)
    report = plasticbench.reset(module, "last_layers", optimizer=optimizer)
    for name, parameter in module.named_parameters():
        state = optimizer.state[parameter]
        steps, energy = float(state["step"]), float(state["exp_avg_sq"].sum())
        assert (steps, energy) == (0.0, 0.0) if name in report.touched else (steps == 3.0 and energy > 0.0)


def test_reset_touched_steps_counts_updates_anew_and_keeps_the_moments() -> None:
    module = mlp()
    optimizer = torch.optim.Adam(module.parameters())
    train(module, optimizer)
    report = plasticbench.reset(module, "last_layers", optimizer=optimizer, optimizer_rule="reset_touched_steps")
    for name, parameter in module.named_parameters():
        state = optimizer.state[parameter]
        assert float(state["step"]) == (0.0 if name in report.touched else 3.0)
        assert state["exp_avg_sq"].any()


def test_policies_see_adams_state_by_reference() -> None:
    module = mlp()
    optimizer = torch.optim.Adam(module.parameters())
    train(module, optimizer)
    weight = module_state(module, 0, optimizer=optimizer).layers[0].weight
    weight.moments["exp_avg"].zero_()
    state = optimizer.state[module[0].weight]
    assert weight.moments.keys() == {"exp_avg", "exp_avg_sq"}
    assert not state["exp_avg"].any()
    assert state["exp_avg_sq"].any()


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m: plasticbench.reset(m, "fir"), "no treatments plug-in is called 'fir'. Did you mean 'fire'"),
        (
            lambda m: plasticbench.reset(m, "fire", itertions=3),
            "itertions: 'fire' has no such setting. Did you mean 'iter",
        ),
        (lambda m: plasticbench.fire_(m, iterations=3), "iterations: this setting has no effect"),
        (lambda m: plasticbench.reset(m, "fire", preset="papr"), "preset: 'fire' has no preset 'papr'"),
        (
            lambda m: plasticbench.reset(m, "fire", target_rule="sync"),
            "target_rule: this setting has no effect without",
        ),
        (lambda m: plasticbench.reset(m, "fire", optimizer_rule="keep"), "optimizer_rule: this setting has no effect"),
        (lambda m: plasticbench.reset(m, "full_reset", initial=mlp()), "initial: 'full_reset' makes no use of it"),
        (lambda m: plasticbench.reset(m, "full_reset", init_source="original"), "pass it as initial="),
        (lambda m: plasticbench.reset(m, "full_reset", init_source="original", initial={}), "but 0.weight is missing"),
        (
            lambda m: plasticbench.reset(
                m, "full_reset", init_source="original", initial=nn.Sequential(nn.Linear(8, 8))
            ),
            r"initial: 0.weight must have shape \[8, 5\], got \[8, 8\]",
        ),
        (lambda m: plasticbench.reset(m, "full_reset", target=cnn()), "target: must have the same parameters"),
        (lambda m: plasticbench.reset(m, "full_reset", target=m), "target: must not share parameters"),
        (
            lambda m: plasticbench.reset(m, "full_reset", optimizer=torch.optim.Adam(mlp().parameters())),
            "optimizer: must hold every trainable parameter of the module, but lacks 0.weight",
        ),
        (
            lambda m: plasticbench.reset(m, "full_reset", optimizer=torch.optim.Rprop(m.parameters())),
            "optimizer: must be one of Adam, .* got Rprop",
        ),
        (lambda m: plasticbench.reset(m[1], "full_reset"), "module: ReLU has no parameter that a reset could concern"),
        (lambda m: plasticbench.fire_(m[2]), "layers: must select at least one layer of none: there is no layer with"),
        (lambda m: plasticbench.fire_(m[3:4]), r"layers: must select at least one layer of 3 \(head\), got 'hidden'"),
        (lambda m: plasticbench.reset(m, "full_reset", ignore="0"), "ignore: must be a list of patterns, got the text"),
        (lambda m: plasticbench.reset(m, "full_reset", ignore=["7"]), "ignore: no parameter is called '7'"),
        (lambda m: plasticbench.reset(m, "full_reset", ignore=["*"]), "module: every parameter is frozen or ignored"),
        (lambda m: plasticbench.reset(m, "full_reset", include=["0"]), "include: no frozen parameter is called '0'"),
    ],
)
def test_bad_input_has_one_clear_message_and_changes_nothing(call, message) -> None:
    module = mlp()
    before = snapshot(module)
    with pytest.raises(ValueError, match=message):
        call(module)
    assert changed(module, before) == set()


@pytest.mark.parametrize(
    "layer, message",
    [
        (lambda: nn.LazyLinear(4), "module: 0.weight has no shape yet"),
        (lambda: parametrizations.weight_norm(nn.Linear(4, 4)), "module: 0.weight is computed from other tensors"),
    ],
)
def test_layers_that_cannot_be_rewritten_are_errors(layer, message) -> None:
    with pytest.raises(ValueError, match=message):
        plasticbench.reset(nn.Sequential(layer(), nn.Linear(4, 2)), "full_reset")


# -- the invariant check ----------------------------------------------------------------------------------------------


def test_the_check_after_a_reset_names_what_moved_appeared_vanished_or_is_not_finite() -> None:
    value = torch.zeros(2)
    check_storage({"w": value.data_ptr()}, {"w": value})
    with pytest.raises(RuntimeError, match="w: the reset replaced its storage"):
        check_storage({"w": value.data_ptr()}, {"w": value.clone()})
    with pytest.raises(RuntimeError, match="w: is gone"):
        check_storage({"w": value.data_ptr()}, {})
    with pytest.raises(RuntimeError, match="w: was added"):
        check_storage({}, {"w": value})
    check_finite({"w": value})
    value[1] = torch.inf
    with pytest.raises(RuntimeError, match="w: holds values that are not finite"):
        check_finite({"w": value})


def test_a_reset_that_leaves_weights_not_finite_is_an_error_that_names_the_parameter() -> None:
    module = mlp()
    with torch.no_grad():
        module[5].bias[0] = torch.nan
    with pytest.raises(RuntimeError, match=r"5\.bias: holds values that are not finite"):
        plasticbench.fire_(module)


# -- probes -----------------------------------------------------------------------------------------------------------


def test_probe_measures_the_isometry_that_fire_restores() -> None:
    module = mlp()
    batch = torch.randn(16, 5)
    plasticbench.fire_(module, scale="none", layers="all")
    assert plasticbench.probe(module, batch, ["dfi"])["dfi"] == pytest.approx(0.0, abs=1e-8)


def test_a_temperature_rule_is_refused_because_a_module_has_none() -> None:
    with pytest.raises(ValueError, match="temperature: a module has none to reset, got 'reset'"):
        plasticbench.reset(mlp(), "full_reset", temperature="reset")
