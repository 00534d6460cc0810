"""Methods of one part or many: reading, sweeps, bad input, sharing of training, and whole runs."""

import copy
import dataclasses
import itertools
import re
from collections.abc import Mapping
from typing import Any

import pytest
from small_runs import facts, prepare, run_all, small

from plasticbench.agents import dqn
from plasticbench.analysis.events import task_events
from plasticbench.analysis.runs import load_run
from plasticbench.platform.definition.parsing import to_dict
from plasticbench.platform.definition.reading import Benchmark, BenchmarkError, from_dict
from plasticbench.platform.planning.plan import Plan, make_plan
from plasticbench.platform.training.segment import SegmentRun
from plasticbench.settings import UNHASHED_DEFAULT

BASE: dict[str, Any] = {
    "name": "tiny",
    "environments": [{"kind": "classic", "task": "Acrobot-v1"}],
    "agent": {"kind": "dqn"},
    "resets": {"at": [0.5]},
    "methods": {"none": {"kind": "none"}, "fire": {"kind": "fire"}},
    "seeds": 2,
    "budget_steps": 10_000,
    "evaluation": {"every_steps": 1_000, "episodes": 5},
}
SAC: dict[str, Any] = {
    "environments": [{"kind": "classic", "task": "Pendulum-v1"}],
    "agent": {"kind": "sac"},
}


def read(methods: Mapping[str, Any], **changes: Any) -> Benchmark:
    return from_dict(copy.deepcopy({**BASE, "methods": dict(methods), **changes}), source="bench.yaml")


def problem(methods: Mapping[str, Any], **changes: Any) -> str:
    with pytest.raises(BenchmarkError) as caught:
        read(methods, **changes)
    return str(caught.value)


def plan_of(methods: Mapping[str, Any], **changes: Any) -> Plan:
    return make_plan(read(methods, **changes))


def members(plan: Plan, index: int) -> list[tuple[int, str | None]]:
    return [(member.seed, member.method) for member in plan.segments[index].members]


# -- reading --------------------------------------------------------------------------------------------------------


def test_a_method_is_one_part_or_a_list_of_parts_of_any_family() -> None:
    benchmark = read({"l2": {"kind": "l2_init", "strength": 0.01}, "both": [{"kind": "fire"}, {"kind": "layer_norm"}]})
    assert [(p.family, p.kind) for p in benchmark.method("l2").parts] == [("treatments", "l2_init")]
    assert [(p.family, p.kind) for p in benchmark.method("both").parts] == [
        ("treatments", "fire"),
        ("structures", "layer_norm"),
    ]


@pytest.mark.parametrize(
    "methods",
    [
        {"l2": {"kind": "l2_init"}},
        {"late": {"kind": "l2_init", "from": 0.5, "networks": "q"}},
        {"both": [{"kind": "fire", "at": [0.25]}, {"kind": "layer_norm"}, {"kind": "l2_init", "every": 100}]},
        {"own": {"parts": [{"kind": "redo"}], "every": 2_000, "agent": {"learning_rate": 0.01}}, "n": {"kind": "none"}},
        {"swept": {"kind": "l2_init", "strength": {"sweep": [0.1, 0.01]}}},
    ],
    ids=lambda methods: next(iter(methods)),
)
def test_a_resolved_benchmark_reads_back_as_itself(methods: dict[str, Any]) -> None:
    benchmark = read(methods)
    again = from_dict(benchmark.resolved())
    assert again == benchmark
    assert [t.id for t in make_plan(again).trials] == [t.id for t in make_plan(benchmark).trials]


def test_a_sweep_gives_one_method_for_each_combination_told_apart_by_name() -> None:
    swept = {"kind": "l2_init", "strength": {"sweep": [1e-4, 1e-3, 1e-2]}}
    plan = plan_of({"l2": swept}, seeds=1)
    assert [trial.method for trial in plan.trials] == ["l2 strength=0.0001", "l2 strength=0.001", "l2 strength=0.01"]
    assert [t.settings["method"]["l2_init"]["strength"] for t in plan.trials] == [1e-4, 1e-3, 1e-2]
    assert len({trial.id for trial in plan.trials}) == 3
    two = read(
        {"x": [{"kind": "l2_init", "strength": {"sweep": [0.1, 0.2]}}, {"kind": "redo", "tau": {"sweep": [0, 0.1]}}]}
    )
    assert [m.name for m in two.methods] == [
        f"x strength={s} tau={t}" for s, t in itertools.product((0.1, 0.2), (0, 0.1))
    ]


def test_a_sweep_of_one_value_is_one_method() -> None:
    (method,) = read({"l2": {"kind": "l2_init", "strength": {"sweep": [0.1]}}}).methods
    assert method.name == "l2 strength=0.1"


def test_a_sweep_over_shapes_gives_populations_of_their_own() -> None:
    widths = {"sweep": [[16, 16], [32, 32]]}
    plan = plan_of({"n": {"kind": "none", "agent": {"network": {"kind": "mlp", "hidden": widths}}}}, seeds=1)
    assert [trial.method for trial in plan.trials] == ["n hidden=[16, 16]", "n hidden=[32, 32]"]
    assert not {s.id for s in plan.segments if s.members[0].trials[0] == plan.trials[0].id} & {
        s.id for s in plan.segments if s.members[0].trials[0] == plan.trials[1].id
    }


def test_the_settings_of_a_trial_tell_its_parts_apart() -> None:
    (trial,) = plan_of({"x": [{"kind": "fire"}, {"kind": "l2_init", "strength": 0.5}]}, seeds=1).trials
    method = trial.settings["method"]
    assert method["kind"] == "fire + l2_init"
    assert method["fire"]["at"] == [0.5]
    assert method["l2_init"] == {"strength": 0.5, "reduction": "sum"}
    assert trial.settings["schedule"] == {"restarts": {"at": [0.5]}}


# -- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"x": {"kind": "l2_innit"}}, "methods.x.kind: nothing is called 'l2_innit'. Did you mean 'l2_init'?"),
        ({"x": {"kind": "layer_nrom"}}, "methods.x.kind: nothing is called 'layer_nrom'. Did you mean 'layer_norm'?"),
        ({"x": [{"kind": "fire"}, {"kind": "adamo2"}]}, "methods.x.1.kind: nothing is called 'adamo2'. Did you mean"),
        (
            {"x": [{"kind": "muon"}, {"kind": "adamo"}]},
            "methods.x.1.kind: 'adamo' and 'muon' exclude each other: a net",
        ),
        ({"x": [{"kind": "fire"}, {"kind": "fire"}]}, "each part may act once on a network, got 'fire' repeatedly"),
        ({"x": {"kind": "l2_init", "strength": -1}}, "methods.x.strength: must be at least 0, got -1"),
        ({"x": {"kind": "l2_init", "networks": "actor"}}, "methods.x.networks: must name networks of agent kind 'dqn'"),
        ({"x": {"kind": "l2_init", "at": [0.5]}}, "methods.x.at: has no effect, because 'l2_init' has no events"),
        ({"x": {"kind": "l2_init", "every": 0}}, "methods.x.every: must be at least 1 agent step, got 0"),
        ({"x": {"kind": "l2_init", "every": 20_000}}, "methods.x.every: must be less than the budget of 10000 steps"),
        ({"x": {"kind": "l2_init", "from": 0.3}}, "methods.x.from: must be the fraction of an event (0.5), got 0.3"),
        ({"x": {"kind": "l2_init", "from": 1.5}}, "methods.x.from: must be a fraction of the budget between 0 and 1"),
        (
            {"x": {"kind": "layer_norm", "from": 0.5}},
            "methods.x.from: has no effect on 'layer_norm', which networks are",
        ),
        (
            {"x": {"kind": "l2_init", "strength": {"sweep": []}}},
            "methods.x.strength.sweep: must be a list with at least",
        ),
        (
            {"x": {"kind": "l2_init", "strength": {"sweep": [1, 1]}}},
            "methods.x.strength.sweep: must list each value once",
        ),
        ({"x": {"parts": []}}, "methods.x.parts: must be a list with at least one part"),
        ({"x": {"parts": [{"kind": "fire"}], "scale": "none"}}, "methods.x.scale: there is no such setting"),
        (
            {"x": [{"kind": "fire", "temperature": "reset"}]},
            "methods.x.temperature: this setting has no effect: 'dqn' has no temperature",
        ),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_bad_input_gets_one_clear_message(methods: dict[str, Any], message: str) -> None:
    text = problem(methods)
    assert message in text
    assert text.count("\n") == 0


def test_from_without_events_says_what_to_do() -> None:
    text = problem({"x": {"kind": "l2_init", "from": 0.5}}, resets=None)
    assert "methods.x.from: needs an event to start at, and this method has none" in text
    assert "resets: {at: [0.5]}" in text


def test_a_treatment_at_updates_is_refused_for_an_agent_whose_updates_are_not_ours() -> None:
    environments = [{"kind": "gymnasium", "task": "CartPole-v1", "low_return": 20.0, "high_return": 500.0}]
    rllib = {"kind": "rllib", "algorithm": "DQN"}
    text = problem({"x": {"kind": "l2_init"}}, environments=environments, agent=rllib)
    assert "methods.x.kind: 'l2_init' acts at each gradient, which agent kind 'rllib' does not offer" in text
    text = problem({"x": {"kind": "layer_norm"}}, environments=environments, agent=rllib)
    assert (
        "methods.x.kind: 'layer_norm' changes how networks are built, which agent kind 'rllib' does not offer" in text
    )


def test_a_treatment_that_looks_at_units_is_refused_for_an_agent_that_does_not_show_them() -> None:
    environments = [{"kind": "gymnasium", "task": "CartPole-v1", "low_return": 20.0, "high_return": 500.0}]
    text = problem({"x": {"kind": "redo"}}, environments=environments, agent={"kind": "rllib", "algorithm": "DQN"})
    assert "methods.x.kind: 'redo' looks at activations, which agent kind 'rllib' does not show" in text


def test_networks_of_sac_can_be_chosen_one_by_one_or_as_critics() -> None:
    for networks in ("all", "actor", "critic1", "critics"):
        read({"x": {"kind": "l2_init", "networks": networks}}, **SAC)
    text = problem({"x": {"kind": "l2_init", "networks": "critic"}}, **SAC)
    assert re.search(r"methods\.x\.networks: must name networks of agent kind 'sac', got 'critic'. Did you mean", text)
    read(
        {"x": [{"kind": "l2_init", "networks": "actor"}, {"kind": "l2_init", "networks": "critics", "strength": 0.1}]},
        **SAC,
    )


# -- sharing --------------------------------------------------------------------------------------------------------


def test_methods_that_differ_in_what_acts_share_one_population_in_contiguous_order() -> None:
    plan = plan_of({"none": {"kind": "none"}, "l2": {"kind": "l2_init"}, "fire": {"kind": "fire"}})
    trunk, branches = plan.segments
    assert (trunk.from_step, trunk.to_step, branches.fork) == (0, 5_000, True)
    # Nothing acts on the first two before the fork, so `none` and `fire` share them; `l2` is treated from step 0.
    assert [(m.seed, m.method, m.acts_as, len(m.trials)) for m in trunk.members] == [
        (0, None, None, 2),
        (1, None, None, 2),
        (0, None, "l2", 1),
        (1, None, "l2", 1),
    ]
    assert members(plan, 1) == [(s, m) for m in ("none", "l2", "fire") for s in (0, 1)]
    assert branches.parents == (0, 1, 2, 3, 0, 1)


def test_parts_that_start_at_the_event_share_the_training_before_it() -> None:
    plan = plan_of({"none": {"kind": "none"}, "late": {"kind": "l2_init", "from": 0.5}})
    trunk, branches = plan.segments
    assert [(m.seed, m.acts_as, len(m.trials)) for m in trunk.members] == [(0, None, 2), (1, None, 2)]
    assert branches.parents == (0, 1, 0, 1)


def test_methods_with_the_same_beginning_share_it() -> None:
    plan = plan_of({"l2": {"kind": "l2_init"}, "l2_fire": [{"kind": "l2_init"}, {"kind": "fire"}]}, seeds=1)
    (shared,) = plan.segments[0].members
    assert (shared.acts_as, len(shared.trials)) == ("l2", 2)


def test_structures_and_optimizers_make_populations_of_their_own_and_strengths_do_not() -> None:
    swept = {"kind": "adamo", "strength": {"sweep": [1e-3, 1e-2]}}
    plan = plan_of({"none": {"kind": "none"}, "ln": {"kind": "layer_norm"}, "adamo": swept}, seeds=1)
    branches = [segment for segment in plan.segments if segment.fork]
    assert [[m.method for m in segment.members] for segment in branches] == [
        ["none"],
        ["ln"],
        ["adamo strength=0.001", "adamo strength=0.01"],
    ]
    assert len({segment.id for segment in plan.segments}) == len(plan.segments) == 6


def test_every_trial_is_trained_once_over_the_whole_budget_whatever_the_limit() -> None:
    swept = {"kind": "l2_init", "strength": {"sweep": [0.1 * i for i in range(1, 9)]}}
    for limit in (2, 3, 5, 32):
        plan = plan_of({"none": {"kind": "none"}, "x": swept}, seeds=2, execution={"members_per_population": limit})
        assert all(len(segment.members) <= limit for segment in plan.segments)
        courses: dict[str, list[tuple[int, int]]] = {trial.id: [] for trial in plan.trials}
        by_id = {segment.id: segment for segment in plan.segments}
        assert len(by_id) == len(plan.segments)
        for segment in plan.segments:
            for row, member in enumerate(segment.members):
                for trial in member.trials:
                    courses[trial].append((segment.from_step, segment.to_step))
                    if segment.start is not None:
                        assert trial in by_id[segment.start].members[segment.parents[row]].trials
        assert all(sorted(course) == [(0, 5_000), (5_000, 10_000)] for course in courses.values())


def test_a_trial_of_new_parts_depends_on_the_files_restart_and_one_of_a_reset_policy_on_its_own() -> None:
    methods = {"fire": {"kind": "fire", "at": [0.25]}, "l2": {"kind": "l2_init"}}
    half, late = (plan_of(methods, seeds=1, resets={"at": [at]}) for at in (0.5, 0.75))
    assert half.trials[0].id == late.trials[0].id
    assert half.trials[1].id != late.trials[1].id


def test_a_setting_that_is_younger_than_results_is_left_out_while_it_holds_its_default() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        old: int = 1
        young: int = dataclasses.field(default=2, metadata=UNHASHED_DEFAULT)

    assert to_dict("kind", Config()) == {"kind": "kind", "old": 1}
    assert to_dict("kind", Config(young=3)) == {"kind": "kind", "old": 1, "young": 3}


def test_an_agent_that_leaves_a_question_of_the_plan_open_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(dqn.Config, "memory_bytes")
    assert "agent.kind: 'dqn' cannot be planned, because its Config has no memory_bytes" in problem(BASE["methods"])


def test_a_report_looks_behind_the_fork_and_not_behind_each_event_of_a_treatment(tmp_path) -> None:
    plan = plan_of({"none": {"kind": "none"}, "redo": {"kind": "redo", "every": 2_000}}, seeds=1)
    assert [(trial.reset_steps, trial.fork_step) for trial in plan.trials] == [
        ((5_000,), None),
        ((2_000, 4_000, 6_000, 8_000), 5_000),
    ]
    (tmp_path / "plan.json").write_text(plan.to_json())
    assert task_events(load_run(tmp_path).trials).after_step == 5_000


# -- running --------------------------------------------------------------------------------------------------------

METHODS: dict[str, Any] = {
    "none": {"kind": "none"},
    "fire": {"kind": "fire"},
    "l2": {"kind": "l2_init", "strength": {"sweep": [0.001, 0.1]}},
    "late": {"kind": "l2_init", "from": 0.5},
    "redo": {"kind": "redo", "every": 60, "tau": 0.1},
    "cbp": {"kind": "continual_backprop", "replacement_rate": 0.02, "maturity_updates": 20},
    "hare": {"kind": "hare_tortoise", "at": [0.5, 0.75]},
    "mixed": [{"kind": "l2_init"}, {"kind": "fire"}, {"kind": "redo", "every": 90}],
    "when": {"kind": "redo", "when": {"probe": "weight_norm", "above": 1.0, "at_most_every": 120}},
    "ln": [{"kind": "layer_norm"}, {"kind": "parseval"}],
    "adamo": {"kind": "adamo"},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole")
    return path, run_all(path, small(methods=METHODS))


def test_a_run_of_many_parts_stopped_and_gone_on_with_gives_the_same_records(whole, tmp_path):
    path, plan = whole
    prepare(tmp_path / "run", small(methods=METHODS))
    for segment in plan.segments:
        while True:
            countdown = itertools.count(1)
            run = SegmentRun(tmp_path / "run", segment.id)
            if run.run(should_stop=lambda countdown=countdown: next(countdown) >= 41):
                break
    assert facts(tmp_path / "run", plan) == facts(path, plan)


def test_methods_act_from_where_they_say(whole):
    path, plan = whole
    found = facts(path, plan)

    def losses(method: str, until: int) -> list[tuple[int, str, str]]:
        return [fact for fact in found[method, 0] if fact[1] == "loss/td" and fact[0] <= until]

    assert losses("late", 200) == losses("none", 200)
    assert losses("late", 400) != losses("none", 400)
    assert losses("l2 strength=0.1", 200) != losses("none", 200)
    assert losses("l2 strength=0.1", 200) != losses("l2 strength=0.001", 200)


def test_events_record_what_they_measured_by_part_where_several_have_events(whole):
    path, plan = whole
    names = {method: {name for _, name, _ in own} for (method, _), own in facts(path, plan).items()}
    assert "reset/q/recycled" in names["redo"]
    assert {"reset/q/redo/recycled", "reset/q/fire/sfe"} <= names["mixed"]
    steps = {step for step, name, _ in facts(path, plan)["redo", 0] if name == "reset/q/recycled"}
    assert steps == {60, 120, 180, 240, 300, 360}


def test_a_method_alone_in_its_file_gives_what_it_gives_in_company(whole, tmp_path):
    """To the rounding of a batch's size, which the first records are short enough not to amplify."""
    path, plan = whole
    for name in ("l2", "cbp"):
        alone = run_all(tmp_path / name, small(methods={name: METHODS[name]}))
        for (method, seed), own in facts(tmp_path / name, alone).items():
            company = facts(path, plan)[method, seed]
            assert [fact[:2] for fact in own] == [fact[:2] for fact in company]
            first = [(float(a[2]), float(b[2])) for a, b in zip(own, company, strict=True) if a[0] <= 100]
            assert all(a == pytest.approx(b, rel=1e-4, abs=1e-5) or (a != a and b != b) for a, b in first)
