"""A setting without effect: an error where somebody wrote it, one warning where nobody did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from small_runs import small
from test_every_setting import at_key

from plasticbench.agents import dqn, sac
from plasticbench.agents._clock import Clock
from plasticbench.platform.definition.effects import Effects, Given
from plasticbench.platform.definition.reading import BenchmarkError, from_dict, load


def changed(**changes: Any) -> dict[str, Any]:
    """The small benchmark with values at dotted keys, whose dots are double underscores."""
    data = small(methods={"m": {"kind": "none"}}, resets=None)
    for path, value in changes.items():
        data = at_key(data, path.replace("__", "."), value)
    return data


def heard(data: dict[str, Any]) -> list[str]:
    warnings: list[str] = []
    from_dict(data, "bench.yaml", warnings.append)
    return warnings


FIRE = {"kind": "fire"}
SIMBA = {"kind": "sac", "actor_network": {"kind": "simba"}, "critic_network": {"kind": "simba"}}
WHEN = {"probe": "dormant_ratio", "at_most_every": 100}


@pytest.mark.parametrize(
    ("changes", "key", "reason"),
    [
        ({"probes__every_steps": 500}, "probes.every_steps", "it lies beyond the budget of 400 steps"),
        ({"execution__opener_threads": 2}, "execution.opener_threads", "no replay of this file is compressed"),
        ({"execution__convolutions": "grouped"}, "execution.convolutions", "no native network of this file convolves"),
        ({"records__every_steps": 401}, "records.every_steps", "it lies beyond the budget of 400 steps"),
        ({"agent__target_period_steps": 401}, "agent.target_period_steps", "the target never moves within the budget"),
        (
            {"agent__target_period_updates": 351},
            "agent.target_period_updates",
            "the target never moves within the budget",
        ),
        ({"agent__replay_ratio": 0.002}, "agent.replay_ratio", "it leaves no update within the budget of 400 steps"),
        ({"agent__update_period_steps": 401}, "agent.update_period_steps", "it leaves no update within the budget"),
        ({"agent__update_period_steps": 2}, "agent.update_period_steps", "the environments take 2 steps at once"),
        ({"agent__n_step": 300, "agent__capacity_transitions": 900}, "agent.n_step", "it leaves no update"),
        (
            {"agent__learning_starts_steps": 399, "agent__update_clock": "before_step"},
            "agent.learning_starts_steps",
            "it leaves no update",
        ),
        (
            {"agent__exploration": "shared", "environments__0__num_envs": 1},
            "agent.exploration",
            "a single environment has none to share with",
        ),
        (
            {"agent__epsilon_start": 0.05, "agent__epsilon_decay_fraction": 0.5},
            "agent.epsilon_decay_fraction",
            "epsilon starts where it ends",
        ),
        (
            {"agent__warm_up_actions": "uniform", "agent__epsilon_start": 0.5, "agent__epsilon_decay_fraction": 0.0},
            "agent.epsilon_start",
            "epsilon has fallen when learning starts",
        ),
        ({"agent__discount": 0.0, "agent__bootstrap": "double"}, "agent.bootstrap", "discount is 0"),
        (
            {"agent__optimizer": {"kind": "adam", "beta1": 0.5}, "methods__m__kind": "muon"},
            "agent.optimizer",
            "every method has an optimizer of its own",
        ),
        ({"execution__num_gpus": 1}, "execution.num_gpus", "the device is cpu"),
        ({"probes__kinds": []}, "probes.batch_rows", "probes.kinds is empty"),
        ({"probes__kinds": []}, "probes.every_steps", "probes.kinds is empty"),
        ({"probes": {"kinds": []}, "tracking__probes": "all"}, "tracking.probes", "probes.kinds is empty"),
        ({"methods__m": FIRE | {"every": 100, "until": 400}}, "methods.m.until", "no event comes after it"),
        ({"methods__m": FIRE | {"every": 100, "until": 900}}, "methods.m.until", "no event comes after it"),
        ({"resets": {"every": 100, "until": 900}, "methods__m": FIRE}, "resets.until", "no event comes after it"),
        (
            {"methods__m": {"parts": [FIRE, {"kind": "layer_norm"}], "every": 100, "until": 900}},
            "methods.m.until",
            "no event comes after it",
        ),
        ({"methods__m": FIRE | {"when": WHEN | {"above": 1.0}}}, "methods.m.when.above", "so it is never above 1"),
        ({"methods__m": FIRE | {"when": WHEN | {"above": -0.1}}}, "methods.m.when.above", "so it is always above -0.1"),
        ({"methods__m": FIRE | {"when": WHEN | {"below": 0.0}}}, "methods.m.when.below", "so it is never below 0"),
        ({"methods__m": FIRE | {"when": WHEN | {"below": 1.5}}}, "methods.m.when.below", "so it is always below 1.5"),
        (
            {"methods__m": FIRE | {"when": WHEN | {"probe": "weight_norm", "below": -1.0}}},
            "methods.m.when.below",
            "weight_norm lies in [0, inf), so it is never below -1",
        ),
        (
            {"methods__m": FIRE | {"at": [0.5], "layers": "fc*", "rest": "reset"}},
            "methods.m.rest",
            "all layers are selected",
        ),
        (
            {"methods__m": {"kind": "shrink_perturb", "at": [0.5], "norms": "blend"}},
            "methods.m.norms",
            "the network has no normalisation",
        ),
        (
            {"methods__m": {"kind": "layer_norm", "over": "channels"}},
            "methods.m.over",
            "no nonlinearity stands behind a convolution",
        ),
        (
            {"methods__m": {"kind": "continual_backprop", "maturity_updates": 350}},
            "methods.m.maturity_updates",
            "no unit is ever replaced, because it acts at no more than 350 updates",
        ),
        (
            {"methods__m": {"kind": "l2_init", "every": 2}, "agent__replay_ratio": 0.5},
            "methods.m.every",
            "there is no more than one update in each period",
        ),
        (
            {"methods__m": FIRE | {"at": [0.5], "temperature": "keep"}},
            "methods.m.temperature",
            "'dqn' has no temperature",
        ),
        (
            {
                "agent": SIMBA | {"learning_starts_steps": 50},
                "environments__0__task": "Pendulum-v1",
                "methods__m": FIRE | {"at": [0.5], "networks": "actor", "target": "keep"},
            },
            "methods.m.target",
            "actor has no target network",
        ),
        (
            {
                "agent": SIMBA | {"learning_starts_steps": 50, "update_order": "cleanrl", "policy_period_updates": 400},
                "environments__0__task": "Pendulum-v1",
            },
            "agent.policy_period_updates",
            "the actor is never trained in the 350 updates of the budget",
        ),
        (
            {
                "agent": {
                    "kind": "rllib",
                    "config": {"grad_clip_by": "norm", "num_steps_sampled_before_learning_starts": 50},
                }
            }
            | {"environments__0__num_envs": 1},
            "agent.config.grad_clip_by",
            "there is no grad_clip",
        ),
    ],
)
def test_what_was_written_and_does_nothing_is_an_error(changes: dict[str, Any], key: str, reason: str) -> None:
    with pytest.raises(BenchmarkError) as caught:
        heard(changed(**changes))
    lines = str(caught.value).splitlines()
    assert any(
        line.startswith(f"bench.yaml: {key}: this setting has no effect: ") and reason in line for line in lines
    ), lines


@pytest.mark.parametrize(
    "changes",
    [
        {"agent__target_period_steps": 400},
        {"agent": {"kind": "dqn", "learning_starts_steps": 50, "target_period_updates": 350}},
        {"agent__update_period_steps": 3},
        {"agent__exploration": "shared"},
        {"agent__epsilon_start": 0.05},
        {"probes": {"kinds": []}},
        {"probes": {"kinds": [], "batch_rows": 8}, "methods__m": {"kind": "redo", "at": [0.5]}},
        {"methods__m": FIRE | {"every": 100, "until": 300}},
        {"methods__m": FIRE | {"when": WHEN | {"above": 0.99}}},
        {"methods__m": {"kind": "continual_backprop", "maturity_updates": 349}},
        {"methods__m": {"kind": "l2_init", "every": 3}, "agent__replay_ratio": 0.5},
        {"methods__m": {"kind": "shrink_perturb", "at": [0.5]}},
    ],
)
def test_what_has_an_effect_passes_without_a_word(changes: dict[str, Any]) -> None:
    assert heard(changed(**changes)) == []


def test_a_setting_with_an_effect_somewhere_has_one() -> None:
    """In another environment, in another method's agent, in another variant of a sweep."""
    environments = [
        {"kind": "classic", "task": task, "num_envs": n} for task, n in (("CartPole-v1", 2), ("Acrobot-v1", 1))
    ]
    assert heard(changed(environments=environments, agent__exploration="shared")) == []
    methods = {"m": {"kind": "muon"}, "n": {"kind": "none"}}
    assert heard(changed(methods=methods, agent__optimizer={"kind": "adam", "beta1": 0.5})) == []
    squared = {"m": {"kind": "none", "agent": {"loss": "squared"}}, "n": {"kind": "none"}}
    assert heard(changed(methods=squared, agent__huber_threshold=2.0)) == []
    solvers = {"kind": "fire", "at": [0.5], "solver": {"sweep": ["svd", "newton_schulz"]}, "iterations": 5}
    assert heard(changed(methods__m=solvers)) == []


def test_a_default_or_a_preset_without_effect_is_one_warning() -> None:
    methods = {"a": {"kind": "none"}, "b": {"kind": "l2_init"}}
    data = changed(methods=methods, agent={"kind": "dqn", "learning_starts_steps": 50})
    says = "what a preset or the default says has no effect: the target never moves within the budget of 400 steps"
    assert heard(data) == [f"bench.yaml: agent.target_period_steps: {says}"]
    data = changed(
        agent={"kind": "dqn", "preset": "fire_paper_dqn", "network": {"kind": "mlp"}}, environments__0__num_envs=1
    )
    data = at_key(at_key(data, "agent.learning_starts_steps", 50), "agent.target_period_steps", 50)
    (warning,) = heard(data)
    assert warning.startswith(
        "bench.yaml: agent.exploration: what a preset or the default says has no effect: a single"
    )


def test_two_methods_with_equal_settings_are_a_warning_that_names_both() -> None:
    methods = {"a": FIRE | {"at": [0.5]}, "b": FIRE | {"at": [0.5], "scale": "muon"}, "c": FIRE | {"at": [0.25]}}
    assert heard(changed(methods=methods)) == [
        "bench.yaml: methods: 'a' and 'b' have equal settings, so they do the same"
    ]


def from_file(folder: Path, data: dict[str, Any], *overrides: str) -> list[str]:
    path, warnings = folder / "bench.yaml", []  # type: ignore[var-annotated]
    path.write_text(yaml.safe_dump(data))
    load(path, overrides, warnings.append)
    return warnings


def test_what_set_makes_inert_is_a_warning_and_what_set_says_in_vain_an_error(tmp_path: Path) -> None:
    exact = FIRE | {"at": [0.5], "solver": "newton_schulz", "iterations": 5}
    data = changed(methods={"m": exact, "odd": {"parts": [exact | {"scale": "none"}]}})
    both = ["methods.m.solver=svd", "methods.odd.parts.0.solver=svd"]
    (warning,) = from_file(tmp_path, data, both[0])
    assert warning.endswith("methods.m.iterations: has no effect with what --set says: the solver is svd")
    with pytest.raises(BenchmarkError, match=r"methods\.m\.iterations: this setting has no effect: the solver is svd"):
        from_file(tmp_path, data, both[0], "methods.m.iterations=7")
    with pytest.raises(BenchmarkError, match=r"agent\.target_period_steps: this setting has no effect"):
        from_file(tmp_path, data, "agent.target_period_steps=900")
    (warning,) = from_file(tmp_path, data, both[1])
    assert warning.endswith("methods.odd.0.iterations: has no effect with what --set says: the solver is svd")
    (warning,) = from_file(tmp_path, data, "probes.kinds=[]")
    assert warning.endswith("probes.every_steps: has no effect with what --set says: probes.kinds is empty")


def test_a_set_of_something_else_excuses_nothing(tmp_path: Path) -> None:
    data = changed(agent__target_period_steps=900)
    with pytest.raises(BenchmarkError, match=r"agent\.target_period_steps: this setting has no effect"):
        from_file(tmp_path, data, "seeds=3")
    assert from_file(tmp_path, data, "budget_steps=1000") == []


def test_a_file_for_gpus_runs_on_a_cpu_with_a_warning(tmp_path: Path) -> None:
    data = changed(execution={"device": "cuda", "num_gpus": 0.5})
    assert from_file(tmp_path, data) == []
    (warning,) = from_file(tmp_path, data, "execution.device=cpu")
    assert warning.endswith("execution.num_gpus: has no effect with what --set says: the device is cpu")


def test_places_are_found_below_names_with_dots_and_in_lists() -> None:
    data = {"methods": {"a.b": [{"kind": "fire", "scale": "none"}], "c": {"parts": [{"every": 1}]}}, "agent": {"x": 1}}
    given = Given(data)
    assert given.is_written("methods.a.b.0.scale")
    assert given.is_written("methods.c.0.every")
    assert not given.is_written("methods.a.b.1.scale")
    assert given.place("methods.c.agent.x") == "agent.x"
    effects = Effects()
    effects.note("one", "agent", ["x"], {"x": "no"})
    effects.note("two", "agent", ["x"], {})
    assert effects.inert(given.place) == {"agent.x": "no"}
    effects.note("one", "methods.c.agent", ["x"], {})
    assert effects.inert(given.place) == {}


class Full:
    """A replay that always has enough."""

    def __init__(self, num_envs: int, n_step: int) -> None:
        self.steps, self.num_envs, self.n_step = 0, num_envs, n_step

    def has(self, steps: int) -> bool:
        return self.steps >= steps and self.steps // self.num_envs >= self.n_step


@pytest.mark.parametrize("kind", [dqn.Config, sac.Config])
@pytest.mark.parametrize("num_envs", [1, 2, 3])
@pytest.mark.parametrize("period", [1, 4, 7])
@pytest.mark.parametrize("ratio", [0.01, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("clock", ["after_step", "before_step"])
@pytest.mark.parametrize(("starts", "n_step"), [(20, 1), (50, 9), (10, 30)])
def test_the_updates_of_a_budget_are_those_that_the_clock_makes(
    kind, num_envs, period, ratio, clock, starts, n_step
) -> None:
    config = kind(
        batch_rows=16,
        learning_starts_steps=starts,
        n_step=n_step,
        replay_ratio=ratio,
        update_period_steps=period,
        update_clock=clock,
    )
    made, replay = 0, Full(num_envs, n_step)
    for step in range(num_envs, 120 // num_envs * num_envs + 1, num_envs):
        replay.steps = step
        made += Clock(config, num_envs).updates(step, replay)  # type: ignore[arg-type]
    assert config.num_updates(num_envs, 120 // num_envs * num_envs) == made
