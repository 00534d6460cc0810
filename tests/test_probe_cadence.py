"""Probes in benchmarks: training is equal with and without them, cadences, and what agents can show."""

import math
from collections import defaultdict

import pytest
from small_runs import facts, prepare, run_all, small
from small_streams import small_stream

from plasticbench import plugins
from plasticbench.platform.definition.parsing import BenchmarkError
from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.planning.record_lines import record_lines
from plasticbench.platform.training.segment import SegmentRun

NEW = [kind for kind in plugins.names("probes") if plugins.load("probes", kind).Config.needs is not None]
QUICK = {"trainability": {"updates": 3, "targets": 1}, "hessian_top": {"iterations": 2}, "ntk_rank": {"rows": 8}}
PENDULUM = {
    "environments": [{"kind": "classic", "task": "Pendulum-v1", "num_envs": 2}],
    "agent": {
        "kind": "sac",
        "actor_network": {"kind": "mlp", "hidden": [8]},
        "critic_network": {"kind": "mlp", "hidden": [8]},
        "learning_starts_steps": 20,
        "batch_rows": 8,
        "replay_ratio": 0.25,
    },
    "resets": {"at": [0.5]},
    "budget_steps": 200,
}
PPO = {"agent": {"kind": "ppo", "network": {"kind": "mlp", "hidden": [8]}, "rollout_steps": 40}}
UNKNOWN_TO = {"ppo": {"co_adaptation", "overestimation"}}


def kinds(names, every=None):
    return [{"kind": name, **QUICK.get(name, {}), **({"every_steps": every} if every else {})} for name in names]


def without_probes(found):
    return {
        key: [fact for fact in own if not fact[1].startswith(("plasticity/", "reset/"))] for key, own in found.items()
    }


@pytest.mark.parametrize(("agent", "changes"), [("dqn", {}), ("sac", PENDULUM), ("ppo", PPO)])
def test_training_is_equal_with_all_probes_and_with_none(agent, changes, tmp_path):
    names = [kind for kind in NEW if kind not in UNKNOWN_TO.get(agent, ())]
    runs = []
    measured = {"every_steps": 50, "batch_rows": 32, "kinds": kinds(names)}
    for name, probes in (("without", {"kinds": []}), ("with", measured)):
        data = small(**changes) | {"probes": probes}
        runs.append(facts(tmp_path / name, run_all(tmp_path / name, data)))
    without, with_all = (list(without_probes(found).values()) for found in runs)
    assert without == with_all
    shown = {name.split("/")[2] for own in runs[1].values() for _, name, _ in own if name.startswith("plasticity/")}
    labels = {plugins.config_from("probes", kind, QUICK.get(kind, {})).label for kind in names}
    assert shown == labels


def test_a_learner_of_data_is_measured_with_what_it_shows(tmp_path):
    names = [k for k in NEW if plugins.load("probes", k).Config.needs in ("losses", "policy")]
    data = small_stream() | {"probes": {"every_updates": 20, "batch_rows": 16, "kinds": kinds(names)}}
    bare = small_stream() | {"probes": {"kinds": []}}
    found, alone = (facts(tmp_path / n, run_all(tmp_path / n, d)) for n, d in (("with", data), ("without", bare)))
    assert list(without_probes(found).values()) == list(without_probes(alone).values())
    measured = {name.split("/")[2] for own in found.values() for _, name, _ in own if name.startswith("plasticity/")}
    assert measured == {plugins.config_from("probes", kind, QUICK.get(kind, {})).label for kind in names}


def test_a_probe_with_a_cadence_of_its_own_keeps_to_it(tmp_path):
    chosen = ["weight_norm", {"kind": "hessian_trace", "every_steps": 200}]
    data = small() | {"probes": {"every_steps": 50, "batch_rows": 32, "kinds": chosen}}
    plan = run_all(tmp_path, data)
    steps = defaultdict(set)
    for step, name, _ in facts(tmp_path, plan)["fire", 0]:
        steps[name].add(step)
    assert steps["plasticity/online/weight_norm"] == set(range(50, 401, 50))
    assert steps["plasticity/online/hessian_trace"] == {200, 400}
    assert "reset/before/online/weight_norm" in steps
    assert "reset/before/online/hessian_trace" not in steps


def test_a_cadence_is_in_a_files_own_clock_and_in_no_id_while_it_is_not_given():
    chosen = [{"kind": "hessian_trace", "every_updates": 40}]
    data = small_stream() | {"probes": {"every_updates": 20, "kinds": chosen}}
    assert from_dict(data).probes.probes[0].config.every_steps == 40
    ids = [
        [trial.id for trial in make_plan(from_dict(small(probes={"every_steps": 100, "kinds": given}))).trials]
        for given in (["srank"], [{"kind": "srank"}], [{"kind": "srank", "every_steps": 200}])
    ]
    assert ids[0] == ids[1] != ids[2]


def test_the_plan_counts_the_records_of_rare_probes():
    chosen = ["weight_norm", {"kind": "hessian_trace", "every_steps": 200}]
    benchmark = from_dict(small(probes={"every_steps": 50, "kinds": chosen}))
    lines = record_lines(benchmark, benchmark.environments[0], benchmark.methods[0])
    assert lines["plasticity/online/hessian_trace"] == 2
    assert lines["plasticity/online/weight_norm"] == 8
    assert "plasticity/target/hessian_trace" not in lines


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        (PPO, "co_adaptation", "probes.kinds.0: 'co_adaptation' looks at next observations, which ppo cannot show it"),
        (PPO, "overestimation", "'overestimation' looks at returns, which ppo cannot show it. Remove it"),
        ({}, {"kind": "hessian_top", "iterations": 0}, "iterations: must be at least 1, got 0"),
        ({}, {"kind": "hessian_top", "every_steps": 0}, "every_steps: must be at least 1, got 0"),
        ({}, {"kind": "adam_health", "quantity": "well"}, "quantity: must be 'idle' or 'signal', got 'well'"),
        ({}, "saturation", "'saturation' looks at layers with tanh, and no network here has one. Remove it"),
        ({}, {"kind": "srank", "every_steps": 401}, "beyond the budget of 400 steps"),
    ],
)
def test_what_cannot_be_measured_is_refused(changes, kind, message):
    with pytest.raises(BenchmarkError, match=message):
        from_dict(small(**changes) | {"probes": {"every_steps": 100, "kinds": [kind]}})


def test_saturation_is_measured_where_a_network_has_tanh():
    agent = {"agent": small()["agent"] | {"network": {"kind": "mlp", "hidden": [8], "activation": "tanh"}}}
    assert from_dict(small(**agent) | {"probes": {"every_steps": 100, "kinds": ["saturation"]}})


def test_a_learner_of_data_has_no_values():
    data = small_stream() | {"probes": {"every_updates": 20, "kinds": ["value_churn"]}}
    with pytest.raises(BenchmarkError, match="'value_churn' looks at values, which classifier cannot show it"):
        from_dict(data)


def test_a_network_that_is_no_longer_finite_is_noticed_before_a_probe_of_another_cadence_looks_at_it(tmp_path):
    probes = {"every_steps": 400, "batch_rows": 16, "kinds": [{"kind": "feature_rank", "every_steps": 100}]}
    rare = {"evaluation": {"every_steps": 400, "episodes": 1, "num_envs": 1}, "records": {"every_steps": 400}}
    run = SegmentRun(tmp_path, prepare(tmp_path, small(probes=probes, **rare)).segments[0])
    for records in run._trainer.advance():
        found = {record.name for record in records}
        if run._trainer.step == 98:
            run._trainer.agent.q.online.parameters["fc1.weight"].data[0] = math.nan
        if run._trainer.step == 100:
            break
    assert any(name.startswith("trial/not_finite/") for name in found), found
    assert any(name.startswith("plasticity/online/feature_rank") for name in found), "its siblings are looked at"
