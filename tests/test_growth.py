"""A run that grew: what was there stays byte for byte, what was added equals a run that was made at once."""

import re
from functools import partial

import mlflow
import pytest
from small_runs import facts, small

from plasticbench.analysis.report import write_report
from plasticbench.analysis.runs import load_run
from plasticbench.platform import status
from plasticbench.platform.cluster.work_queue import WorkQueue, reasons, statuses
from plasticbench.platform.definition.reading import BenchmarkError, from_dict
from plasticbench.platform.planning.plan import Plan, make_plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.tracking.mirror import Mirror
from plasticbench.platform.tracking.store_uris import database_uri
from plasticbench.platform.tracking.tracker import committed_bytes
from plasticbench.platform.training.ends import can_be_gone_on_from, finished_bytes
from plasticbench.platform.training.segment import SegmentRun
from plasticbench.platform.training.soundness import damages
from plasticbench.records import read_records

METHODS = {
    "none": {"kind": "none"},
    "fire": {"kind": "fire"},
    "shrink_perturb": {"kind": "shrink_perturb"},
    "full_reset": {"kind": "full_reset"},
    "l2_init": {"kind": "l2_init"},  # acts from the start, so that it shares no prefix with the others
}
NAMES = list(METHODS)


def file(num_methods, num_seeds, names=NAMES, **changes):
    return small(methods={name: METHODS[name] for name in names[:num_methods]}, seeds=num_seeds) | changes


def create(path, data):
    run = RunDirectory(path)
    benchmark = from_dict(data)
    return run.create(benchmark, make_plan(benchmark), partial(can_be_gone_on_from, run))


def train(path, data, *, until=None):
    """Makes or grows the run, and trains what is left; returns what was said and the segments that were trained."""
    said, trained = create(path, data), []
    for segment in RunDirectory(path).plan().segments[:until]:
        run = SegmentRun(path, segment.id)
        if not run.is_complete:
            trained.append(segment)
            run.run()
    return said, trained


def contents(path, trials):
    return {trial.id: RunDirectory(path).record_file(trial.id).read_bytes() for trial in trials}


def populations(plan):
    """By trial, the companies in which it was trained: seeds and methods of each segment, in their order."""
    found = {}
    for segment in plan.segments:
        members = tuple((member.seed, member.method) for member in segment.members)
        for trial in {trial for member in segment.members for trial in member.trials}:
            found.setdefault(trial, []).append((segment.from_step, members))
    return found


@pytest.mark.parametrize("limit", [pytest.param(1, marks=pytest.mark.slow), 32])
def test_three_by_three_grown_in_two_steps_equals_five_by_five_made_at_once(tmp_path, limit):
    execution = {"execution": {"members_per_population": limit}, "records": {"every_steps": 4}}
    train(tmp_path / "grown", file(3, 3, **execution))
    first = RunDirectory(tmp_path / "grown").plan()
    before = contents(tmp_path / "grown", first.trials)
    said, trained = train(tmp_path / "grown", file(5, 3, **execution))
    assert said == "6 trials more (3 from shared training that is there); what is there stays as it is"
    assert {s.from_step for s in trained if "full_reset" in {m.method for m in s.members}} == {200}
    said, _ = train(tmp_path / "grown", file(5, 5, **execution))
    assert said == "10 trials more; what is there stays as it is"
    assert contents(tmp_path / "grown", first.trials) == before
    train(tmp_path / "once", file(5, 5, **execution))
    grown, once = RunDirectory(tmp_path / "grown").plan(), RunDirectory(tmp_path / "once").plan()
    assert [trial.id for trial in grown.trials] == [trial.id for trial in once.trials]
    assert grown.trials == once.trials
    ours, theirs = facts(tmp_path / "grown", grown), facts(tmp_path / "once", once)
    company, companies = populations(grown), populations(once)
    equal = [(t.method, t.seed) for t in once.trials if company[t.id] == companies[t.id]]
    assert len(equal) == (25 if limit == 1 else 0)
    for key in theirs:
        if key in equal:
            assert ours[key] == theirs[key]
        else:
            assert_close(ours[key], theirs[key])


def assert_close(ours, theirs, last_step=70):
    """To 1e-5 over the first 20 updates, which begin at step 50; the same records everywhere."""
    assert [record[:2] for record in ours] == [record[:2] for record in theirs]
    early = [(float(a[2]), float(b[2])) for a, b in zip(ours, theirs, strict=True) if a[0] <= last_step]
    assert {"loss/td", "q/mean"} <= {name for step, name, _ in ours if step <= last_step}
    for a, b in early:
        assert a == pytest.approx(b, abs=1e-5, rel=1e-5, nan_ok=True)


def test_a_trunk_that_is_not_trained_yet_stands_for_the_added_trials_too(tmp_path):
    create(tmp_path / "grown", file(2, 2))
    (trunk, _) = RunDirectory(tmp_path / "grown").plan().segments
    run = SegmentRun(tmp_path / "grown", trunk.id)
    steps = iter(range(1000))
    run.run(should_stop=lambda: next(steps) >= 60)  # and what it has is committed
    said, trained = train(tmp_path / "grown", file(4, 2))
    assert said.startswith("4 trials more (4 from shared training")
    assert [segment.from_step for segment in trained] == [0, 200, 200]
    train(tmp_path / "once", file(4, 2, execution={"members_per_population": 4}))
    grown = RunDirectory(tmp_path / "grown").plan()
    train(tmp_path / "alike", file(2, 2))
    assert (
        facts(tmp_path / "alike", RunDirectory(tmp_path / "alike").plan()).items()
        <= facts(tmp_path / "grown", grown).items()
    )
    for trial in grown.trials:
        records = list(read_records(RunDirectory(tmp_path / "grown").record_file(trial.id)))
        assert {record.trial for record in records} == {trial.id}
        assert [record.step for record in records if record.name == "eval/score"] == [100, 200, 300, 400]


def test_without_the_end_of_the_prefix_everything_is_trained_from_the_start(tmp_path):
    train(tmp_path / "run", file(2, 2))
    before = contents(tmp_path / "run", RunDirectory(tmp_path / "run").plan().trials)
    trunk = RunDirectory(tmp_path / "run").plan().segments[0]
    for tensors in (tmp_path / "run" / "checkpoints" / trunk.id).glob("*.safetensors"):
        tensors.unlink()
    said, trained = train(tmp_path / "run", file(3, 2))
    assert said == "2 trials more; what is there stays as it is"
    assert [segment.from_step for segment in trained] == [0, 200]
    assert before.items() <= contents(tmp_path / "run", RunDirectory(tmp_path / "run").plan().trials).items()
    assert damages(RunDirectory(tmp_path / "run")) == []


def test_a_death_before_the_first_commit_of_an_added_branch_changes_no_record(tmp_path):
    for path in (tmp_path / "a", tmp_path / "b"):
        train(path, file(2, 2))
        create(path, file(3, 2))
    branch = RunDirectory(tmp_path / "a").plan().segments[-1]
    SegmentRun(tmp_path / "a", branch.id)._trainer.close()  # it has written the prefix, and dies
    added = [trial for member in branch.members for trial in member.trials]
    assert all(RunDirectory(tmp_path / "a").record_file(trial).stat().st_size for trial in added)
    plans = [RunDirectory(path).plan() for path in (tmp_path / "a", tmp_path / "b")]
    assert [train(path, file(3, 2))[0] for path in (tmp_path / "a", tmp_path / "b")] == ["", ""]
    assert facts(tmp_path / "a", plans[0]) == facts(tmp_path / "b", plans[1])


def test_trials_that_the_file_no_longer_names_stay_on_disk_and_come_back(tmp_path):
    train(tmp_path / "run", file(3, 2))
    run = RunDirectory(tmp_path / "run")
    first = run.plan()
    before = contents(run.path, first.trials)
    said, trained = train(run.path, file(2, 2))
    assert (said, trained) == ("2 trials that the file no longer names left out: their records stay", [])
    assert contents(run.path, first.trials) == before
    page = write_report(run.path).read_text()
    assert "2 trials of this directory are left out" in page
    assert {trial.method for trial in load_run(run.path).trials} == {"none", "fire"}
    plan = run.plan()
    assert Plan.from_json(plan.to_json()) == plan
    assert status.status(run).state == "complete"
    queue = WorkQueue(plan.segments)
    queue.fail(plan.segments[0], "a test")
    assert set(statuses(plan, queue, [first.trials[-1].id])) == set(reasons(plan, queue)) == {t.id for t in plan.trials}
    said, trained = train(run.path, file(3, 2))
    assert (said, trained) == ("2 trials more; what is there stays as it is", [])
    assert contents(run.path, first.trials) == before
    assert run.plan() == first
    assert finished_bytes(run, run.plan().segments, 400) is not None


def test_the_mirror_passes_over_trials_that_were_left_out(tmp_path):
    train(tmp_path / "run", file(2, 1))
    create(tmp_path / "run", file(1, 1))
    run = RunDirectory(tmp_path / "run")
    lengths = committed_bytes(run, run.plan().segments)
    assert len(lengths) == 2
    mirror = Mirror(run.path, None)
    mirror.pump(lengths)
    assert set(mirror._reached) == {run.plan().trials[0].id}


def test_mlflow_shows_a_method_with_the_means_of_all_its_seeds_once(tmp_path):
    path = tmp_path / "run"
    found = {}
    for num_seeds in (1, 2):
        train(path, file(1, num_seeds))
        run, mirror = RunDirectory(path), Mirror(path, None)
        mirror.pump(committed_bytes(run, run.plan().segments))
        mirror.finish_all({trial.id: "FINISHED" for trial in run.plan().trials})
        client = mlflow.MlflowClient(database_uri(path / "mlflow.db"))
        found = {one.info.run_name: one for one in client.search_runs(["1"])}
    parent = found.pop("CartPole-v1 none")
    assert parent.data.params["seeds"] == "[0, 1]"
    assert sorted(found) == ["none s0", "none s1"]
    assert {one.data.tags["mlflow.parentRunId"] for one in found.values()} == {parent.info.run_id}
    means = client.get_metric_history(parent.info.run_id, "eval/score")
    assert [mean.step for mean in means] == [100, 200, 300, 400]
    last = [one.data.metrics["eval/score"] for one in found.values()]
    assert means[-1].value == pytest.approx(sum(last) / 2)


def test_a_task_can_be_added(tmp_path):
    train(tmp_path / "run", file(2, 1))
    other = {"kind": "classic", "task": "Acrobot-v1", "num_envs": 2}
    data = file(2, 1)
    data["environments"] = [*data["environments"], other]
    said, trained = train(tmp_path / "run", data)
    assert said == "2 trials more; what is there stays as it is"
    assert {segment.task for segment in trained} == {"Acrobot-v1"}


def test_another_fork_and_another_agent_share_nothing_and_have_names_of_their_own(tmp_path):
    train(tmp_path / "run", file(2, 1))
    data = file(2, 1)
    data["methods"] = {
        **data["methods"],
        "l2": {"kind": "l2_init"},
        "early": {"kind": "fire", "at": [0.25]},
        "wide": {"kind": "fire", "agent": {"network": {"hidden": [24, 24]}}},
    }
    said, trained = train(tmp_path / "run", data)
    assert said == "3 trials more; what is there stays as it is"
    ids = [segment.id for segment in RunDirectory(tmp_path / "run").plan().segments]
    assert len(set(ids)) == len(ids)
    assert all(segment.start is None or segment.start in ids for segment in trained)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"budget_steps": 800}, "budget_steps: 400 there, 800 here"),
        ({"name": "other"}, "name: small there, other here"),
        ({"execution": {"num_cpus": 2}}, "execution.num_cpus: 1 there, 2 here"),
        ({"records": {"every_steps": 20}}, "records.every_steps: 50 there, 20 here"),
        (
            {"methods": {**{n: METHODS[n] for n in NAMES[:2]}, "fire": {"kind": "fire", "scale": "none"}}},
            "methods.fire.scale",
        ),
        ({"methods": {"redo": {"kind": "redo"}}}, "methods.none.kind: none there, nothing here"),
    ],
)
def test_growing_refuses_what_would_change_trials_that_are_there(tmp_path, changes, reason):
    create(tmp_path / "run", file(2, 2))
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(BenchmarkError, match=re.escape(reason)):
        create(tmp_path / "run", file(3, 3) | changes)
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
