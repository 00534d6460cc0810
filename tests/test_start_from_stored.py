"""``agent: {start: ...}``: trials begin with weights of another run, hashed by content, and need that run no more."""

import re
import shutil

import pytest
import safetensors.torch
import torch
import yaml
from small_runs import facts, run_all, small
from test_cli import runner

from plasticbench.platform.cli import app
from plasticbench.platform.definition.reading import BenchmarkError, from_dict
from plasticbench.platform.definition.start import Start
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.segment import SegmentRun

SAC = {
    "environments": [{"kind": "classic", "task": "Pendulum-v1", "num_envs": 2}],
    "agent": {
        "kind": "sac",
        "actor_network": {"kind": "mlp", "hidden": [8]},
        "critic_network": {"kind": "mlp", "hidden": [8]},
        "observation_norm": "running",
        "learning_starts_steps": 50,
        "capacity_transitions": 300,
    },
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "run"
    return path, run_all(path, small())


def begun(path, trial, start=None, **changes):
    data = small(**changes)
    data["agent"] = {**data["agent"], "start": {"run": str(path), "trial": trial, **(start or {})}}
    return data


def first_state(path, data):
    """The agent's state where the first segment begins."""
    benchmark = from_dict(data)
    plan = make_plan(benchmark)
    RunDirectory(path).create(benchmark, plan)
    run = SegmentRun(path, plan.segments[0].id)
    tensors, _ = run._trainer.agent.state_dict()
    run._trainer.close()
    return tensors


def test_members_begin_with_the_stored_weights_and_their_own_chance(source, tmp_path):
    path, plan = source
    trial = plan.trials[1].id
    stored = safetensors.torch.load_file(path / "weights" / f"{trial}.safetensors")
    tensors = first_state(tmp_path / "run", begun(path, trial))
    fresh = first_state(tmp_path / "fresh", small())
    for name, values in stored.items():
        network, _, parameter = name.partition(".")
        for member in range(2):
            assert torch.equal(tensors[f"{network}/online/{parameter}"][member], values)
            assert torch.equal(tensors[f"{network}/original/{parameter}"][member], values), (
                "initial values, from here on"
            )
    assert not torch.equal(tensors["q/target/fc1.weight"], fresh["q/target/fc1.weight"])
    assert not tensors["q/exp_avg/fc1.weight"].any()
    assert not tensors["q/adam_steps"].any()


def test_the_optimizer_comes_along_where_it_is_asked_for(source, tmp_path):
    path, plan = source
    tensors = first_state(tmp_path / "run", begun(path, plan.trials[0].id, {"optimizer": "stored"}))
    assert tensors["q/exp_avg/fc1.weight"].any()
    assert torch.equal(tensors["q/exp_avg/fc1.weight"][0], tensors["q/exp_avg/fc1.weight"][1])
    assert (tensors["q/adam_steps"] > 0).all()


def test_the_replay_comes_along_where_it_is_asked_for(source, tmp_path):
    path, plan = source
    data = begun(path, plan.trials[3].id, {"replay": "stored"})
    whole = run_all(tmp_path / "whole", data)
    assert whole.trials[0].settings["agent"]["start"]["replay"] == "stored"
    first = SegmentRun(path, plan.segments[-1].id)
    assert first.is_complete
    benchmark = from_dict(data)
    RunDirectory(tmp_path / "run").create(benchmark, make_plan(benchmark))
    run = SegmentRun(tmp_path / "run", whole.segments[0].id)
    replay = run._trainer.agent.replay
    assert replay.rows > 150, "and the first observations of new episodes"
    assert (replay.sizes > 100).all()
    assert replay.sizes[0] == replay.sizes[1]
    assert run.run(should_stop=lambda: True) is False
    run = SegmentRun(tmp_path / "run", whole.segments[0].id)  # from its own commit
    assert run.run()
    for segment in whole.segments[1:]:
        assert SegmentRun(tmp_path / "run", segment.id).run()
    assert facts(tmp_path / "run", whole) == facts(tmp_path / "whole", whole)


def test_a_replay_of_other_environments_is_refused(source):
    path, plan = source
    data = begun(path, plan.trials[0].id, {"replay": "stored"})
    data["environments"] = [{"kind": "classic", "task": "CartPole-v1", "num_envs": 4}]
    with pytest.raises(BenchmarkError, match=r"agent.start.replay: was filled by num_envs 2, here it is 4"):
        from_dict(data)


def test_sac_takes_its_temperature_and_observation_statistics_along(tmp_path):
    plan = run_all(tmp_path / "source", small(**SAC))
    data = small(**SAC)
    data["agent"] = {**data["agent"], "start": {"run": str(tmp_path / "source"), "trial": plan.trials[0].id}}
    tensors = first_state(tmp_path / "run", data)
    assert tensors["temperature/log_alpha"].any()
    assert not tensors["temperature/exp_avg"].any()
    assert (tensors["observations/count"] > 100).all()


def test_the_run_needs_the_other_one_no_more_and_resumes_to_equal_records(source, tmp_path):
    path, plan = source
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    data = begun(copy, plan.trials[0].id)
    whole = run_all(tmp_path / "whole", data)
    benchmark = from_dict(data)
    RunDirectory(tmp_path / "cut").create(benchmark, make_plan(benchmark))
    shutil.rmtree(copy)
    for segment in whole.segments:
        steps = iter(range(1000))
        SegmentRun(tmp_path / "cut", segment.id).run(should_stop=lambda steps=steps: next(steps) >= 30)
        assert SegmentRun(tmp_path / "cut", segment.id).run()
    assert facts(tmp_path / "cut", whole) == facts(tmp_path / "whole", whole)
    assert facts(tmp_path / "whole", whole) != facts(path, plan)


def test_what_is_taken_decides_the_id_and_not_where_it_lies(source, tmp_path):
    path, plan = source
    shutil.copytree(path, tmp_path / "copy")

    def ids(data):
        return [trial.id for trial in make_plan(from_dict(data)).trials]

    here = ids(begun(path, plan.trials[0].id))
    assert (
        here == ids(begun(tmp_path / "copy", plan.trials[0].id)) == ids(begun(path, plan.trials[0].id, {"step": 400}))
    )
    others = [small(), begun(path, plan.trials[1].id), begun(path, plan.trials[0].id, {"step": 200})]
    others.append(begun(path, plan.trials[0].id, {"optimizer": "stored"}))
    assert all(set(here).isdisjoint(ids(other)) for other in others)


def test_a_method_can_begin_otherwise_and_shares_nothing_before(source):
    path, plan = source
    start = {"run": str(path), "trial": plan.trials[0].id}
    methods = {"none": {"kind": "none"}, "warm": {"kind": "none", "agent": {"start": start}}}
    plan = make_plan(from_dict(small(methods=methods)))
    assert [len(segment.members) for segment in plan.segments] == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("start", "changes", "message"),
    [
        ({"trial": "cartpole-v1--none--s0"}, {}, "has no trial 'cartpole-v1--none--s0'. Did you mean"),
        ({"step": 399}, {}, r"is stored at 200, 400, got 399"),
        ({"run": "nowhere"}, {}, "nowhere is not a run directory"),
        ({"run": None}, {}, "start.run"),
        ({"optimiser": "stored"}, {}, "Did you mean 'optimizer'?"),
        ({"optimizer": "kept"}, {}, "start.optimizer"),
        ({"content": "0123"}, {}, "start.content: is not what"),
        (
            {},
            {"agent": {"network": {"kind": "mlp", "hidden": [24, 16]}}},
            "does not fit 'CartPole-v1': q/online/fc1.weight",
        ),
    ],
)
def test_bad_starts_are_refused_before_anything_begins(source, tmp_path, start, changes, message):
    path, plan = source
    data = begun(path, plan.trials[0].id, start)
    data["agent"] |= changes.get("agent", {})
    with pytest.raises(BenchmarkError) as refused:
        from_dict(data)
    assert re.search(re.escape(message), str(refused.value)), str(refused.value)
    assert str(refused.value).startswith("benchmark: agent.start")


def test_cleaned_runs_say_that_nothing_is_stored(source, tmp_path):
    path, plan = source
    shutil.copytree(path, tmp_path / "copy")
    assert runner.invoke(app, ["clean", str(tmp_path / "copy"), "--yes"]).exit_code == 0
    (tmp_path / "file.yaml").write_text(yaml.safe_dump(begun(tmp_path / "copy", plan.trials[0].id)))
    result = runner.invoke(app, ["plan", str(tmp_path / "file.yaml")])
    assert result.exit_code == 2
    assert "holds no stored weights of" in " ".join(result.output.split())


def test_what_is_taken_has_names():
    weights, both = Start(trial="t"), Start(trial="t", optimizer="stored")
    for name, is_weight, is_any in (
        ("q/online/fc1.weight", True, True),
        ("q/target/fc1.weight", True, True),
        ("q/original/fc1.weight", False, False),
        ("q/exp_avg/fc1.weight", False, True),
        ("q/optimizer/scale", False, True),
        ("q/adam_steps", False, True),
        ("q/treatment/0/ages", False, False),
        ("temperature/log_alpha", True, True),
        ("temperature/exp_avg", False, True),
        ("temperature/adam_steps", False, True),
        ("observations/mean", True, True),
        ("values/largest_reward", False, False),
    ):
        assert (weights.takes(name), both.takes(name)) == (is_weight, is_any), name
