from __future__ import annotations

import copy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from shipped_files import smoke_overrides

from plasticbench import plugins
from plasticbench.platform.definition.reading import DEFAULT_PROBES, Benchmark, BenchmarkError, from_dict, load
from plasticbench.schedules import At, Every, Trigger

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))

MINIMAL: dict[str, Any] = {
    "name": "tiny",
    "environments": [{"kind": "classic", "task": "Acrobot-v1"}],
    "agent": {"kind": "dqn"},
    "methods": {"none": {"kind": "none"}},
    "seeds": 2,
    "budget_steps": 10_000,
    "evaluation": {"every_steps": 1_000, "episodes": 5},
}


def variant(**changes: Any) -> dict[str, Any]:
    """The minimal benchmark with values at dotted keys (double underscores) replaced; ``...`` removes a key."""
    data = copy.deepcopy(MINIMAL)
    for path, value in changes.items():
        *parents, last = path.split("__")
        target: Any = data
        for part in parents:
            target = target[int(part)] if isinstance(target, list) else target.setdefault(part, {})
        if value is ...:
            del target[last]
        else:
            target[last] = value
    return data


def problems_of(data: Any) -> str:
    with pytest.raises(BenchmarkError) as caught:
        from_dict(data, source="bench.yaml")
    return str(caught.value)


# -- what is read ---------------------------------------------------------------------------------------------------


def test_absent_settings_take_stated_defaults() -> None:
    benchmark = from_dict(MINIMAL)
    assert benchmark.seeds == (0, 1)
    assert benchmark.environments[0].name == "Acrobot-v1"
    assert benchmark.environments[0].scenario.kind == "stationary"
    assert (benchmark.probes.every_steps, benchmark.probes.batch_rows) == (100, 512)
    assert [probe.kind for probe in benchmark.probes.probes] == list(DEFAULT_PROBES)
    assert benchmark.records.every_steps == 100
    assert benchmark.checkpoint.every_s == 30.0
    assert benchmark.execution.members_per_population == 32
    assert [part.schedule for part in benchmark.method("none").parts] == [None]


def test_methods_without_a_schedule_of_their_own_share_the_default() -> None:
    data = variant(resets={"at": [0.5]}, methods__often={"kind": "full_reset", "every": 2_000, "until": 8_000})
    benchmark = from_dict(data)
    assert benchmark.method("none").parts[0].schedule == At(at=(0.5,))
    assert benchmark.method("often").parts[0].schedule == Every(every=2_000, until=8_000)


def test_a_trigger_names_a_measured_probe() -> None:
    when = {"probe": "dormant_ratio", "above": 0.3, "at_most_every": 500}
    benchmark = from_dict(variant(methods__fire={"kind": "fire", "when": when}))
    assert benchmark.method("fire").parts[0].schedule == Trigger(probe="dormant_ratio", above=0.3, at_most_every=500)


def test_a_trigger_fires_at_most_once_in_a_tenth_of_the_budget_unless_it_says_otherwise() -> None:
    benchmark = from_dict(variant(resets={"when": {"probe": "srank", "below": 3.0}}, methods__fire={"kind": "fire"}))
    assert benchmark.method("fire").parts[0].schedule == Trigger(probe="srank", below=3.0, at_most_every=1_000)
    assert benchmark.resolved()["methods"]["fire"]["when"]["at_most_every"] == 1_000


def test_reset_steps_are_rounded_up_to_whole_vector_steps() -> None:
    data = variant(environments__0__num_envs=8, methods__a={"kind": "fire", "at": [0.25, 0.5001]})
    assert from_dict(data).method("a").reset_steps(10_000, num_envs=8) == (2_504, 5_008)


def test_an_agent_override_changes_only_what_it_names() -> None:
    data = variant(
        agent={"kind": "dqn", "learning_rate": 0.01, "network": {"kind": "mlp", "hidden": [32]}},
        methods__lr={"kind": "none", "agent": {"learning_rate": 0.5}},
        methods__init={"kind": "none", "agent": {"network": {"initializer": "xavier_uniform"}}},
        methods__new={"kind": "none", "agent": {"kind": "dqn"}},
    )
    benchmark = from_dict(data)
    assert benchmark.method("lr").agent_config.network.hidden == (32,)
    assert benchmark.method("lr").agent_config.learning_rate == 0.5
    assert benchmark.method("init").agent_config.network.hidden == (32,)
    assert benchmark.method("init").agent_config.learning_rate == 0.01
    assert benchmark.method("new").agent_config.network.hidden == (64, 64)


def test_an_override_with_another_network_kind_replaces_the_whole_network() -> None:
    data = variant(
        environments=[{"kind": "minatar", "task": plugins.load("envs", "minatar").tasks()[0]}],
        agent={"kind": "dqn", "network": {"kind": "mlp", "hidden": [32]}},
        methods__cnn={"kind": "none", "agent": {"network": {"kind": "minatar_cnn"}}},
    )
    cnn = from_dict(data).method("cnn").agent_config.network
    assert cnn == plugins.load("networks", "minatar_cnn").Config()


def test_a_preset_is_overridden_by_explicit_settings() -> None:
    data = variant(agent={"kind": "dqn", "preset": "fire_paper_dqn", "network": {"kind": "mlp"}, "learning_rate": 0.5})
    data["budget_steps"] = 40_000
    agent = from_dict(data).method("none").agent_config
    assert (agent.learning_rate, agent.adam_eps, agent.exploration) == (0.5, 1.5e-4, "shared")


def test_settings_without_effect_do_not_make_benchmarks_differ() -> None:
    when_noise_is_drawn = {"kind": "shrink_perturb", "at": [0.5], "layers": "all"}
    benchmark = from_dict(variant(methods__a=when_noise_is_drawn))
    assert "rest" not in benchmark.resolved()["methods"]["a"]


# -- round trips ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("graphics_library")
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_resolved_data_reads_back_as_the_same_benchmark(path: Path) -> None:
    benchmark = load(path, smoke_overrides(path))
    assert from_dict(benchmark.resolved()) == benchmark


def test_resolved_data_of_overrides_and_triggers_reads_back() -> None:
    data = variant(
        environments=[
            {"kind": "classic", "task": "Acrobot-v1", "name": "plain"},
            {"kind": "classic", "task": "Acrobot-v1", "name": "permuted", "num_envs": 2}
            | {"scenario": {"kind": "observation_permutation", "at": [0.25, 0.5]}},
        ],
        methods__fire={"kind": "fire", "preset": "fire_paper_dqn", "every": 2_000},
        methods__triggered={
            "kind": "full_reset",
            "when": {"probe": "dormant_ratio_0.1", "above": 0.5, "at_most_every": 1_000},
            "agent": {"learning_rate": 0.1},
        },
        probes={"kinds": ["srank", {"kind": "dormant_ratio", "tau": 0.1}], "every_steps": 50},
        evaluation={"every_steps": 500, "steps": 200, "num_envs": 2},
        seeds=[3, 1],
    )
    benchmark = from_dict(data)
    assert from_dict(benchmark.resolved()) == benchmark


@pytest.mark.parametrize("group", ["treatments", "agents", "learners", "networks", "streams", "probes"])
def test_every_plugin_with_defaults_and_presets_survives_the_round_trip(group: str) -> None:
    from plasticbench.platform.definition.parsing import Problems, read_plugin, to_dict

    for kind in plugins.names(group):
        for preset in (None, *getattr(plugins.load(group, kind), "PRESETS", {})):
            problems = Problems("test")
            data = {"kind": kind} | ({"preset": preset} if preset else {})
            data |= {"target": "package:Net"} if kind == "module" else {}
            first = read_plugin(group, data, "plugin", problems)
            problems.raise_any()
            assert first is not None
            assert read_plugin(group, to_dict(*first), "plugin", problems) == first
            problems.raise_any()


# -- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"budget": 3}, "bench.yaml: budget: there is no such setting. Did you mean 'budget_steps'?"),
        ({"seeds": ...}, "bench.yaml: seeds: is missing and has no default"),
        ({"seeds": 0}, "bench.yaml: seeds: must be a count of at least 1, or a list of seeds, got 0"),
        ({"seeds": [1, 1]}, "bench.yaml: seeds: must be different whole numbers of 0 or more"),
        ({"seeds": [-1]}, "bench.yaml: seeds: must be different whole numbers of 0 or more"),
        ({"seeds": True}, "bench.yaml: seeds: must be a valid integer, got True"),
        ({"name": "!!"}, "bench.yaml: name: must contain a letter or a digit, got '!!'"),
        ({"name": 3}, "bench.yaml: name: must be a valid string, got 3"),
        ({"budget_steps": 0}, "bench.yaml: budget_steps: must be at least 1 agent step, got 0"),
        ({"environments": []}, "bench.yaml: environments: must be a list with at least one environment"),
        ({"methods": {}}, "bench.yaml: methods: must be a mapping from names to treatments"),
        ({"methods__none__kind": "nnone"}, "methods.none.kind: nothing is called 'nnone'. Did you mean 'none'?"),
        ({"methods__none": None}, "bench.yaml: methods.none.kind: is missing. Known: "),
        ({"agent__kind": "dqm"}, "bench.yaml: agent.kind: no agents plug-in is called 'dqm'. Did you mean 'dqn'?"),
        ({"agent__network": {"kind": "mpl"}}, "agent.network.kind: no networks plug-in is called 'mpl'"),
        (
            {"agent__network": {"kind": "mlp", "hidden": ["a"]}},
            "agent.network.hidden.0: must be a valid integer, got 'a'",
        ),
        ({"agent__learning_rate": "fast"}, "bench.yaml: agent.learning_rate: must be a valid number, got 'fast'"),
        ({"agent__learning_rate": -1}, "bench.yaml: agent.learning_rate: must be above 0, got -1.0"),
        ({"agent__learning_rate": float("nan")}, "bench.yaml: agent.learning_rate: must be a finite number"),
        ({"agent__batch_rows": 1.5}, "bench.yaml: agent.batch_rows: must be a valid integer, got 1.5"),
        ({"agent__exploration": "some"}, "agent.exploration: must be 'per_environment' or 'shared', got 'some'"),
        ({"agent__preset": "fire"}, "bench.yaml: agent.preset: 'dqn' has no preset 'fire'"),
        ({"environments__0__task": "Acrobat-v1"}, "environments.0.task: must be one of"),
        ({"environments__0__task": ...}, "bench.yaml: environments.0.task: is missing and has no default"),
        ({"environments__0__scenario": {"kind": "stationery"}}, "environments.0.scenario.kind: no scenarios plug-in"),
        ({"environments__0__num_envs": 3}, "budget_steps: must be a multiple of environments.0.num_envs (3)"),
        (
            {"agent__learning_starts_steps": 10_000},
            "agent.learning_starts_steps: must be less than the budget of 10000",
        ),
        ({"evaluation__every_steps": 20_000}, "evaluation.every_steps: must be at most the budget of 10000 steps"),
        ({"evaluation__steps": 10}, "evaluation: needs exactly one of 'episodes' and 'steps', got 5 and 10"),
        ({"evaluation__num_envs": 2}, "evaluation.episodes: must be a multiple of num_envs (2)"),
        (
            {"execution__num_gpus": 1},
            "execution.num_gpus: this setting has no effect: the device is cpu. Remove it",
        ),
        (
            {"execution__device": "cuda", "execution__num_gpus": 1.5},
            "execution.num_gpus: must be a share of one GPU or a whole number of them, got 1.5",
        ),
        ({"execution__device": "cuda"}, "execution.num_gpus: must be above 0 with device 'cuda', got 0.0"),
        ({"execution__device": "gpu"}, "execution.device: must be 'cpu' or 'cuda', got 'gpu'"),
        ({"probes__kinds": ["dormant"]}, "bench.yaml: probes.kinds.0.kind: no probes plug-in is called 'dormant'"),
        ({"probes__kinds": ["srank", "srank"]}, "bench.yaml: probes.kinds: each measurement must be listed once"),
        ({"probes__probes": []}, "bench.yaml: probes.probes: there is no such setting."),
        (
            {"methods__b": {"kind": "fire", "layers": "cnv*", "at": [0.5]}},
            "methods.b.layers: must select at least one layer of fc1 (encoder), ",
        ),
        ({"methods__b": {"kind": "full_reset"}}, "methods.b: would never act: give it 'at', 'every' or 'when'"),
        ({"methods__b": {"kind": "fire", "at": [1.5]}}, "methods.b.at: each fraction of the budget must lie strictly"),
        (
            {"methods__b": {"kind": "fire", "at": 0.5}},
            "bench.yaml: methods.b.at: must be a list, in square brackets, got 0.5",
        ),
        (
            {"environments": [{"kind": "gymnasium", "task": "CartPole-v1", "kwargs": [1]}]},
            "bench.yaml: environments.0.kwargs: must be a mapping, as in {name: value}, got [1]",
        ),
        (
            {"methods__b": {"kind": "fire", "at": [0.05]}},
            "methods.b.at: the first reset must come after learning starts",
        ),
        ({"methods__b": {"kind": "fire", "at": [0.99999]}}, "methods.b.at: each reset must fall on a step of its own"),
        ({"methods__b": {"kind": "fire", "every": 10_000}}, "methods.b.every: must be less than the budget of 10000"),
        ({"methods__b": {"kind": "fire", "every": 0}}, "methods.b.every: must be at least 1 agent step, got 0"),
        ({"methods__b": {"kind": "fire", "at": [0.5], "every": 5}}, "methods.b: a schedule needs exactly one of"),
        ({"methods__b": {"kind": "fire", "until": 5}}, "methods.b: a schedule needs exactly one of"),
        (
            {"methods__b": {"kind": "fire", "at": [0.5], "iteration": 5}},
            "methods.b.iteration: there is no such setting.",
        ),
        (
            {"methods__b": {"kind": "fire", "at": [0.5], "iterations": 5}},
            "methods.b.iterations: this setting has no effect: the solver is svd",
        ),
        (
            {"methods__NONE": {"kind": "none"}},
            "methods: names must differ in letters and digits, got 'none' and 'NONE'",
        ),
        ({"methods__none__agent": {"network": {"hidden": [3]}}}, "methods.none.agent.network.kind: is missing."),
        (
            {"resets": {"at": [0.5]}, "methods__none__at": [0.6]},
            "bench.yaml: resets: this setting has no effect: every method has a schedule of its own",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_bad_input_gets_a_line_with_key_rule_and_value(changes: dict[str, Any], line: str) -> None:
    assert line in problems_of(variant(**changes))


@pytest.mark.parametrize(
    ("when", "line"),
    [
        ({"probe": "dormant", "above": 0.3, "at_most_every": 500}, "b.when.probe: must be one of the measurements"),
        ({"probe": "srank", "at_most_every": 500}, "b.when: needs exactly one of 'above' and 'below'"),
        ({"probe": "srank", "above": 1.0, "at_most_every": 0}, "b.when.at_most_every: must be at least 1"),
        (
            {"probe": "srank", "above": 1.0, "at_most_every": 10_000},
            "b.when.at_most_every: must be less than the budget",
        ),
        ({"probe": "srank", "above": 1.0, "at_most_every": 9, "network": "q"}, "b.when.network: must be one of online"),
        (3, "b.when: must be a mapping of settings, got 3"),
    ],
)
def test_a_trigger_that_cannot_fire_is_an_error(when: Any, line: str) -> None:
    assert f"methods.{line}" in problems_of(variant(methods__b={"kind": "fire", "when": when}))


def test_an_agent_that_cannot_act_in_a_task_is_found_before_the_start() -> None:
    message = problems_of(variant(environments__0__task="Pendulum-v1"))
    assert "agent: does not fit 'Pendulum-v1': dqn needs discrete actions" in message


def test_a_network_that_cannot_see_a_task_is_blamed_on_its_method() -> None:
    data = variant(methods__cnn={"kind": "none", "agent": {"network": {"kind": "nature_cnn"}}})
    assert "methods.cnn.agent: does not fit 'Acrobot-v1': nature_cnn needs" in problems_of(data)


def test_two_environments_of_one_task_need_labels() -> None:
    data = variant(environments=MINIMAL["environments"] * 2)
    assert "environments: names must differ in letters and digits" in problems_of(data)


def test_all_problems_are_told_at_once() -> None:
    data = variant(seeds=0, agent__learning_rate="fast", methods__none__kind="nnone", evaluation__episode=3)
    lines = problems_of(data).splitlines()
    assert {line.split(": ")[1] for line in lines} == {
        "seeds",
        "agent.learning_rate",
        "methods.none.kind",
        "evaluation.episode",
    }


@pytest.mark.parametrize("data", [None, [], "text", 3])
def test_a_file_that_is_not_a_mapping_is_an_error(data: Any) -> None:
    assert problems_of(data).startswith("bench.yaml: must be a mapping of settings")


# -- plug-ins from elsewhere ----------------------------------------------------------------------------------------


def test_a_policy_dropped_into_the_folder_is_usable_without_registration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "halve.py").write_text(
        "import dataclasses\n\n\n"
        "@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)\n"
        "class Config:\n"
        "    factor: float\n\n"
        "    def build(self):\n"
        "        return Halve(self)\n\n\n"
        "class Halve:\n"
        "    def __init__(self, config):\n"
        "        self.config = config\n\n"
        "    def on_event(self, net, state, look):\n"
        "        raise NotImplementedError\n"
    )
    package: ModuleType = sys.modules["plasticbench.learning.treatments"]
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    try:
        benchmark = from_dict(variant(methods__halve={"kind": "halve", "factor": 1, "at": [0.5]}))
        assert benchmark.method("halve").parts[0].chosen.config.factor == 1.0
        assert from_dict(benchmark.resolved()) == benchmark
    finally:
        sys.modules.pop("plasticbench.learning.treatments.halve", None)


def test_a_benchmark_names_its_parts() -> None:
    benchmark: Benchmark = from_dict(MINIMAL)
    assert benchmark.environment("Acrobot-v1").config.task == "Acrobot-v1"
    with pytest.raises(StopIteration):
        benchmark.method("fire")


def test_a_temperature_rule_for_an_agent_without_temperature_is_an_error() -> None:
    data = variant(methods__b={"kind": "fire", "at": [0.5], "temperature": "reset"})
    assert "methods.b.temperature: this setting has no effect: 'dqn' has no temperature. Remove it" in problems_of(data)
    own_default = variant(methods__b={"kind": "full_reset", "at": [0.5]})
    assert "temperature" not in from_dict(own_default).methods[-1].settings()


def test_a_temperature_rule_and_a_trigger_on_one_critic_are_fine_for_sac() -> None:
    when = {"probe": "srank", "above": 1.0, "at_most_every": 9, "network": "critic2"}
    data = variant(
        environments__0__task="Pendulum-v1",
        agent={"kind": "sac", "batch_rows": 8, "learning_starts_steps": 8},
        methods__b={"kind": "fire", "temperature": "reset", "when": when},
    )
    assert from_dict(data).methods[-1].parts[0].chosen.config.temperature == "reset"
    data["agent"]["critics"] = "single"
    assert "must be one of actor, critic1, critic1_target, got 'critic2'" in problems_of(data)


def test_an_agent_for_vectors_is_refused_for_a_choice_of_actions() -> None:
    message = problems_of(variant(agent={"kind": "sac"}))
    assert "agent: does not fit 'Acrobot-v1': sac needs continuous actions" in message
