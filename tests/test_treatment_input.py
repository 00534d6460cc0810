"""Wrong input to the kinds on disk is answered with key, rule and value; what the zoo of methods holds."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
from small_runs import small

from plasticbench import plugins
from plasticbench.contracts.treatment import FAMILIES
from plasticbench.platform.definition.reading import BenchmarkError, from_dict, load
from plasticbench.settings import Bound

ZOO = Path(__file__).parents[1] / "configs" / "method_zoo.yaml"


def bounds_of(hint: Any) -> list[Bound]:
    if get_origin(hint) is Annotated:
        return [marker for marker in get_args(hint)[1:] if isinstance(marker, Bound)]
    return [bound for kind in get_args(hint) for bound in bounds_of(kind)] if get_origin(hint) is not tuple else []


def outside() -> Iterator[tuple[str, str, float]]:
    """Each setting of each kind with a value just beyond either end of its range, and with none at all."""
    for family in FAMILIES:
        for kind in plugins.names(family):
            config = plugins.load(family, kind).Config
            hints = get_type_hints(config, include_extras=True)
            for field in dataclasses.fields(config):
                bounds = bounds_of(hints[field.name])
                for bound in bounds:
                    step = {"[": -1, "(": 0, "]": 1, ")": 0}[bound.bracket]
                    yield kind, field.name, bound.value + step
                if bounds:
                    yield kind, field.name, float("nan")


def problem(methods: dict[str, Any]) -> str:
    data = {
        "name": "tiny",
        "environments": [{"kind": "classic", "task": "Acrobot-v1"}],
        "agent": {"kind": "dqn"},
        "resets": {"at": [0.5]},
        "methods": methods,
        "seeds": 2,
        "budget_steps": 10_000,
        "evaluation": {"every_steps": 1_000, "episodes": 5},
    }
    with pytest.raises(BenchmarkError) as caught:
        from_dict(data, source="bench.yaml")
    return str(caught.value)


def test_what_exchanges_hidden_units_is_refused_on_the_outputs_of_a_shared_network() -> None:
    kinds = {
        kind for kind in plugins.names("treatments")
        if getattr(plugins.load("treatments", kind).Config, "exchanges_units", False)
    }  # fmt: skip
    assert {"redo", "continual_backprop", "self_normalized_resets", "regrama", "drm", "partial_reset"} <= kinds
    shared = {"kind": "ppo", "trunk": "shared", "rollout_steps": 16, "minibatches": 2}
    text = problem({kind: {"kind": kind, "networks": "critic", "agent": shared} for kind in kinds})
    for kind in kinds:
        assert f"methods.{kind}.networks: {kind!r} exchanges hidden units, and what it is placed on (value)" in text
    for whole in ("all", "shared"):
        assert from_dict(small(methods={"x": {"kind": "redo", "networks": whole}}, agent=shared))


@pytest.mark.parametrize(("kind", "name", "value"), list(outside()))
def test_a_number_outside_its_range_is_answered_with_key_rule_and_value(kind: str, name: str, value: float) -> None:
    text = problem({"x": {"kind": kind, name: value}})
    assert re.search(rf"methods\.x\.{name}: must .*, got {re.escape(str(value))}", text), text


@pytest.mark.parametrize("kind", ["crelu", "maxmin", "leaky_relu", "deep_fourier"])
def test_what_replaces_relu_is_refused_where_another_part_fixed_the_nonlinearity(kind: str) -> None:
    text = problem({"x": [{"kind": "tanh"}, {"kind": kind}]})
    assert f"methods.x.1: {kind} needs a hidden ReLU to replace, but this network has none" in text
    assert f"Leave {kind} out" in text


@pytest.mark.parametrize("settings", [{"optimizer": "resets"}, {"target": "copy"}, {"layers": 3}])
def test_a_rule_that_there_is_not_is_answered_with_those_that_there_are(settings: dict[str, Any]) -> None:
    (name,) = settings
    assert f"methods.x.{name}: must be" in problem({"x": {"kind": "fire", **settings}})


def test_shifts_of_pixels_are_refused_where_observations_are_no_maps() -> None:
    text = problem({"x": {"parts": [{"kind": "none"}], "agent": {"random_shift_pixels": 4}}})
    assert "random_shift_pixels shifts maps (channels, height, width), but observations are (6,)" in text


def test_an_injection_without_heads_or_twice_is_refused() -> None:
    heads, injection = {"kind": "injection_heads"}, {"kind": "plasticity_injection"}
    assert "methods.x: 'plasticity_injection' needs heads to inject into" in problem({"x": injection})
    assert "got 'plasticity_injection' repeatedly" in problem({"x": [heads, injection, injection]})
    twice = problem({"x": [heads, injection | {"at": [0.4, 0.6]}]})
    assert "methods.x.1.at: 'plasticity_injection' acts at 1 event at most, got 2. Give it one with 'at'" in twice
    both = problem({"x": [heads, injection, {"kind": "redo"}]})
    assert "exclude each other: it would recycle the units that wait for the injection" in both


def test_the_zoo_has_two_dozen_treatments_of_three_seeds() -> None:
    zoo = load(ZOO)
    kinds = {part.kind for method in zoo.methods for part in method.parts if part.family == "treatments"}
    assert len(kinds - {"none"}) >= 24
    assert len(zoo.seeds) == 3
    number = re.search(r"under (\d+) ways", zoo.description)
    assert number is not None
    assert int(number[1]) == len(zoo.methods) - 1, "all but the control"


@pytest.mark.parametrize("kind", ["fire", "shrink_perturb"])
def test_layers_that_no_network_of_the_agent_has_are_named_beside_those_that_it_has(kind: str) -> None:
    text = problem({"x": {"kind": kind, "layers": "conv*"}})
    known = "fc1 (encoder), fc2 (encoder), fc3 (head)"
    assert f"bench.yaml: methods.x.layers: must select at least one layer of {known}, got 'conv*'" in text
