"""What holds for every treatment, structure and optimizer on disk."""

import subprocess
import sys
from typing import get_args

import pytest
import torch
from contract import (
    EXAMINED,
    KINDS,
    NEEDS,
    PRESETS,
    TASKS,
    TREATMENTS,
    UNFIT,
    acts,
    altered,
    company,
    examined,
    halved,
    restore,
    save,
    tensors_of,
    train,
)
from treated import batch, event, part, trained

from plasticbench import plugins
from plasticbench.contracts.treatment import FAMILIES, Hook
from plasticbench.learning.members import per_member_names
from plasticbench.learning.trained import TrainedNetwork

MLP = TASKS["mlp"].layers

WITH_EVENT = [(kind, preset) for kind, preset in PRESETS if acts(kind, "event")]

NO_IDENTITY_AT_ZERO = {
    ("weight_clipping", "kappa"): "0 would clamp everything to zero and is refused",
    ("parseval", "scale"): "it is what the penalty draws to, not how strongly",
    ("spectral", "target"): "it is what the penalty draws to, not how strongly",
    ("self_normalized_resets", "eta"): "0 would call every silence too long and is refused",
    ("nap", "decay"): "weights are projected whatever becomes of gains and shifts",
}
"""Settings in which members may differ whose 0 is not the method ``none``, and why."""


def assert_equal_bits(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    different = [name for name, value in ours.items() if not torch.equal(value, theirs[name])]
    assert not different


def assert_close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-5, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_are_the_clean_preset_nothing_can_be_changed_and_the_summary_is_a_sentence(kind: str) -> None:
    family = plugins.find(kind, FAMILIES)
    module = plugins.load(family, kind)
    assert module.PRESETS["clean"] == module.Config()
    assert all(type(config) is module.Config for config in module.PRESETS.values())
    assert module.Config.__dataclass_params__.frozen
    assert not hasattr(module.Config(), "__dict__"), "slots=True"
    assert plugins.summary(family, kind).endswith(".")


def test_kinds_are_unique_across_the_families() -> None:
    assert len(KINDS) == len(set(KINDS))


def test_every_treatment_acts() -> None:
    assert [kind for kind in TREATMENTS if not acts(kind, *get_args(Hook))] == []


def test_treatments_are_listed_without_torch() -> None:
    script = (
        "import sys; from plasticbench import plugins\n"
        "for kind in plugins.names('treatments'):\n"
        "    summary = plugins.summary('treatments', kind)\n"
        "    if 'torch' in sys.modules: sys.exit(f'{kind} imports torch')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("kind", "preset", "task"),
    [(kind, preset, "mlp") for kind, preset in PRESETS]
    + [(kind, "clean", task) for kind in KINDS for task in ("convolutional", "residual") if (kind, task) not in UNFIT]
    + [
        pytest.param(kind, "clean", "residual maps", marks=pytest.mark.slow)
        for kind in KINDS
        if (kind, "residual maps") not in UNFIT and kind != "batch_norm"  # a unit there is active on all rows
    ],
)
def test_members_in_company_train_as_they_do_alone(kind: str, preset: str, task: str) -> None:
    layers, shape = TASKS[task]
    methods = examined(kind, preset)
    together = trained(company(methods), layers=layers)
    train(together, 1, 20, events_at=[10], shape=shape)
    for member, method in zip(EXAMINED, methods, strict=True):
        alone = trained([method], seeds=[member], layers=layers)
        train(alone, 1, 20, events_at=[10], shape=shape)
        assert_close(tensors_of(together, member), tensors_of(alone, 0))


@pytest.mark.parametrize(("kind", "preset"), PRESETS)
def test_a_resumed_population_goes_on_as_if_nothing_had_been(kind: str, preset: str) -> None:
    methods = company(examined(kind, preset))
    uninterrupted = trained(methods)
    train(uninterrupted, 1, 10, events_at=[5, 10])
    resumed = restore(methods, save(uninterrupted), range(5), MLP)
    for network in (uninterrupted, resumed):
        train(network, 11, 20, events_at=[15])
    assert_equal_bits(resumed.state_dict(), uninterrupted.state_dict())
    assert save(resumed)[1:] == save(uninterrupted)[1:]


@pytest.mark.parametrize(("kind", "preset"), PRESETS)
def test_children_begin_as_their_parents_were_and_go_on_as_these_would_have(kind: str, preset: str) -> None:
    methods = company(examined(kind, preset))
    population = trained(methods)
    train(population, 1, 10, events_at=[5, 10])
    parents = [3, 1, 1, 3, 0]
    children = restore([methods[parent] for parent in parents], save(population), parents, MLP)
    for child, parent in enumerate(parents):
        assert_equal_bits(tensors_of(children, child), tensors_of(population, parent))
    for network in (population, children):
        train(network, 11, 20, events_at=[15])
    for child, parent in enumerate(parents):
        assert_close(tensors_of(children, child), tensors_of(population, parent))


@pytest.mark.parametrize("kind", TREATMENTS)
def test_children_of_parents_without_the_part_start_it_afresh(kind: str) -> None:
    methods = company(examined(kind, "clean", begin_step=10))
    structures = [part(structure) for structure in NEEDS.get(kind, ())]
    from_the_start, prefix = trained(methods), trained([structures for _ in methods])
    for network in (from_the_start, prefix):
        train(network, 1, 10)
    children = restore(methods, save(prefix), range(5), MLP)
    for network in (from_the_start, children):
        train(network, 11, 20, events_at=[15])
    assert_equal_bits(children.state_dict(), from_the_start.state_dict())


def addresses(network: TrainedNetwork) -> list[int]:
    assert network.target is not None
    parameters = [*network.online.parameters.values(), *network.target.parameters.values()]
    gradients = [parameter.grad for parameter in network.online.parameters.values()]
    moments = list(network.optimizer.moments.values())
    return [tensor.data_ptr() for tensor in (*parameters, *gradients, *moments) if tensor is not None]


@pytest.mark.parametrize(("kind", "preset"), PRESETS)
def test_nothing_moves_in_memory(kind: str, preset: str) -> None:
    network = trained(company(examined(kind, preset)))
    before = addresses(network)
    train(network, 1, 10, events_at=[5])
    assert addresses(network) == before


@pytest.mark.parametrize("broken", ["dead layer", "zero network"])
@pytest.mark.parametrize(("kind", "preset"), PRESETS)
def test_everything_stays_finite(kind: str, preset: str, broken: str) -> None:
    network = trained(company(examined(kind, preset)))
    with torch.no_grad():
        if broken == "dead layer":
            network.online.parameters["fc1.weight"].zero_()
            network.online.parameters["fc1.bias"].fill_(-1.0)
        else:
            network.online.flat.zero_()
    train(network, 1, 20, events_at=[10])
    assert [name for name, value in network.state_dict().items() if not torch.isfinite(value).all()] == []


@pytest.mark.parametrize(("kind", "preset"), WITH_EVENT)
def test_events_of_all_and_of_one_after_the_other_agree_and_concern_nobody_else(kind: str, preset: str) -> None:
    first = part(kind, preset=preset)
    before = [part(structure) for structure in NEEDS.get(kind, ())]
    methods = [[*before, own] for own in (first, halved(first), first, first, halved(first))]
    together, one_by_one = trained(methods), trained(methods)
    for network in (together, one_by_one):
        train(network, 1, 10)
    report = event(together, range(5), 10)
    for member in (3, 0, 4, 1, 2):
        before = [tensors_of(one_by_one, i) for i in range(5)]
        own = event(one_by_one, [member], 10)
        for other in {0, 1, 2, 3, 4} - {member}:
            assert_equal_bits(tensors_of(one_by_one, other), before[other])
        after = tensors_of(one_by_one, member)
        changed = {name for name in after if "/online/" in name and not torch.equal(after[name], before[member][name])}
        assert {name.removeprefix("q/online/") for name in changed} <= own.touched
        for name, values in own.measurements.items():
            torch.testing.assert_close(report.measurements[name][member], values[0], rtol=1e-5, atol=1e-5)
        assert_close(tensors_of(together, member), after)


@pytest.mark.parametrize("kind", [kind for kind in plugins.names("structures") if kind != "aid"])  # of two masks each
def test_probes_get_the_gradient_that_training_has(kind: str) -> None:
    network = trained([[part(kind)]] * 2)
    inputs, targets = batch([0, 1], 1)
    loss = (network.forward(inputs) - targets).square().mean(dim=(1, 2))
    asked_for = network.online.gradient(loss)
    loss = (network.forward(inputs) - targets).square().mean(dim=(1, 2))
    network.descend(loss, 1)
    assert torch.equal(asked_for, network.online.flat_grad)


def identity_settings(kind: str) -> list[str]:
    names = per_member_names(part(kind).config)
    return [name for name in names if (kind, name) not in NO_IDENTITY_AT_ZERO]


@pytest.mark.parametrize("kind", [kind for kind in TREATMENTS if identity_settings(kind)])
def test_at_strength_zero_a_member_trains_as_with_none_bit_for_bit(kind: str) -> None:
    full = part(kind)
    zero = altered(full, **dict.fromkeys(identity_settings(kind), 0.0))
    treated = trained([[zero], [full], [zero], [full], [part("none")]])
    untreated = trained([[part("none")] for _ in range(5)])
    for network in (treated, untreated):
        train(network, 1, 20)
    for member in (0, 2, 4):
        ours, theirs = tensors_of(treated, member), tensors_of(untreated, member)
        assert_equal_bits({name: ours[name] for name in theirs}, theirs)


def test_exceptions_from_identity_at_zero_are_still_settings_in_which_members_may_differ() -> None:
    assert NO_IDENTITY_AT_ZERO.keys() <= {(k, n) for k in TREATMENTS for n in per_member_names(part(k).config)}
