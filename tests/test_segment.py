"""Segments: the same records whatever happens, alone or in company, interrupted or not, watched or not."""

import itertools
import json
import shutil
from dataclasses import dataclass

import pytest
import torch
from small_runs import die_behind_the_last_commit, facts, offer, prepare, run_all, small

from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.checkpoint import CheckpointError, CheckpointStore
from plasticbench.platform.training.journal import is_journal
from plasticbench.platform.training.segment import SegmentRun
from plasticbench.records import read_records
from plasticbench.seeding import derive_seed
from plasticbench.settings import Settings


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed")
    return path, run_all(path, small())


def _final_weights(path, plan):
    store = CheckpointStore(RunDirectory(path).checkpoints)
    commit = store.latest(plan.segments[-1].id)
    tensors = store.load_tensors(commit.tensors)
    return {name: tensor for name, tensor in tensors.items() if "/online/" in name}


def test_two_runs_of_one_file_agree_bit_for_bit(undisturbed, tmp_path):
    path, plan = undisturbed
    again = run_all(tmp_path / "again", small())
    assert facts(tmp_path / "again", again) == facts(path, plan)


def test_methods_share_every_record_before_the_fork_and_differ_after_it(undisturbed):
    path, plan = undisturbed
    found = facts(path, plan)
    for seed in (0, 1):
        none, fire = found["none", seed], found["fire", seed]
        before = [fact for fact in none if fact[0] <= 200 and not fact[1].startswith("reset/")]
        assert before == [fact for fact in fire if fact[0] <= 200 and not fact[1].startswith("reset/")]
        assert len(before) > 20
        assert none != fire


def test_no_record_is_there_twice(undisturbed):
    path, plan = undisturbed
    for own in facts(path, plan).values():
        keys = [(step, name) for step, name, _ in own]
        assert len(keys) == len(set(keys))


def test_reset_is_measured_before_and_after_on_the_same_sample(undisturbed):
    path, plan = undisturbed
    fire = dict(((step, name), float(value)) for step, name, value in facts(path, plan)["fire", 0] if value != "nan")
    none = dict(((step, name), float(value)) for step, name, value in facts(path, plan)["none", 0] if value != "nan")
    assert fire[200, "reset/before/online/weight_norm"] == none[200, "reset/before/online/weight_norm"]
    assert none[200, "reset/before/online/weight_norm"] == none[200, "reset/after/online/weight_norm"]
    assert fire[200, "reset/after/online/weight_norm"] != fire[200, "reset/before/online/weight_norm"]
    assert fire[200, "reset/after/online/sfe"] > 0
    assert none[200, "reset/after/online/sfe"] == 0


@pytest.mark.parametrize("iterations", [7, 23])
def test_stopping_and_going_on_at_any_step_changes_no_record(undisturbed, tmp_path, iterations):
    path, plan = undisturbed
    prepare(tmp_path / "run", small())
    for segment in plan.segments:
        for _ in itertools.count():
            run = SegmentRun(tmp_path / "run", segment.id)
            countdown = itertools.count(1)
            if run.run(should_stop=lambda countdown=countdown: next(countdown) >= iterations):
                break
    assert facts(tmp_path / "run", plan) == facts(path, plan)


def test_records_after_the_last_commit_are_cut_off_when_a_dead_segment_goes_on(undisturbed, tmp_path):
    path, plan = undisturbed
    prepare(tmp_path / "run", small())
    for segment in plan.segments:
        die_behind_the_last_commit(tmp_path / "run", segment.id)
        assert SegmentRun(tmp_path / "run", segment.id).run()
    assert facts(tmp_path / "run", plan) == facts(path, plan)


def test_a_result_does_not_depend_on_who_shares_the_population(undisturbed, tmp_path):
    path, plan = undisturbed
    alone = small(methods={"fire": {"kind": "fire"}}, seeds=[1])
    own = facts(tmp_path / "run", run_all(tmp_path / "run", alone))["fire", 1]
    shared = facts(path, plan)["fire", 1]
    assert [fact[:2] for fact in own] == [fact[:2] for fact in shared]
    for (step, name, mine), (_, _, theirs) in zip(own, shared, strict=True):
        exact = name.startswith(("eval/", "train/"))
        assert float(mine) == pytest.approx(
            float(theirs), rel=0 if exact else 1e-3, abs=0 if exact else 1e-5, nan_ok=True
        ), (
            step,
            name,
        )


def test_evaluation_and_probes_leave_the_training_bit_identical(undisturbed, tmp_path):
    path, plan = undisturbed
    unwatched = small(
        evaluation={"every_steps": 400, "episodes": 2, "num_envs": 1},
        probes={"kinds": []},
        records={"every_steps": 400},
    )
    other = run_all(tmp_path / "run", unwatched)
    watched, unwatched_weights = _final_weights(path, plan), _final_weights(tmp_path / "run", other)
    assert watched.keys() == unwatched_weights.keys()
    assert all(torch.equal(watched[name], unwatched_weights[name]) for name in watched)


def test_a_triggered_reset_comes_when_the_probe_says_so(tmp_path):
    when = {"probe": "weight_norm", "above": 0.0, "at_most_every": 150}
    data = small(methods={"fire": {"kind": "fire", "when": when}}, seeds=2)
    del data["resets"]
    plan = run_all(tmp_path / "run", data)
    steps = [step for step, name, _ in facts(tmp_path / "run", plan)["fire", 0] if name == "reset/after/online/sfe"]
    assert steps == [200]  # probed at 100, 200, ...: 150 steps have passed at 200; at 400 the budget ends


def test_periodic_resets_happen_at_every_multiple(tmp_path):
    data = small(methods={"fire": {"kind": "fire", "every": 120}}, seeds=1)
    del data["resets"]
    plan = run_all(tmp_path / "run", data)
    steps = [step for step, name, _ in facts(tmp_path / "run", plan)["fire", 0] if name == "reset/after/online/sfe"]
    assert steps == [120, 240, 360]


def test_a_trunk_without_a_fork_goes_on_as_if_never_cut(tmp_path):
    methods = {"none": {"kind": "none"}, "early": {"kind": "fire", "at": [0.4]}, "late": {"kind": "fire", "at": [0.7]}}
    data = small(methods=methods, seeds=1)
    del data["resets"]
    plan = run_all(tmp_path / "forked", data)
    assert any(segment.start is not None and not segment.fork for segment in plan.segments)
    alone = run_all(tmp_path / "alone", small(methods={"none": {"kind": "none"}}, seeds=1, resets=None))
    forked = facts(tmp_path / "forked", plan)["none", 0]
    straight = facts(tmp_path / "alone", alone)["none", 0]
    assert [fact[:2] for fact in forked] == [fact[:2] for fact in straight]
    returns = [[fact for fact in own if fact[1].startswith(("eval/", "train/"))] for own in (forked, straight)]
    assert returns[0] == returns[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Decay(Settings):
    """A treatment that shrinks all weights a little after each update."""

    def build(self):
        return self

    def on_update(self, net, state, look):
        for parameter in net.parameters.values():
            parameter.value.mul_(0.999)


def _as_if_alone(tmp_path, data, method):
    """Records of a method's first seed among others and alone: the same ones, the same returns, and its own weights."""
    plan = run_all(tmp_path / "together", data)
    alone = run_all(tmp_path / method, data | {"methods": {method: data["methods"][method]}})
    ours, theirs = facts(tmp_path / "together", plan)[method, 0], facts(tmp_path / method, alone)[method, 0]
    assert [fact[:2] for fact in ours] == [fact[:2] for fact in theirs]
    returns = [[fact for fact in own if fact[1].startswith(("eval/", "train/"))] for own in (ours, theirs)]
    assert returns[0] == returns[1]
    norms = [[float(fact[2]) for fact in own if fact[1].endswith("online/weight_norm")] for own in (ours, theirs)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)
    return ours


def test_a_method_that_acts_before_others_fork_has_a_member_of_its_own_in_their_trunk(tmp_path, monkeypatch):
    offer(monkeypatch, "treatments", decay=Decay)
    methods = {
        "none": {"kind": "none"},
        "decayed": {"kind": "decay"},
        "early": {"kind": "fire", "at": [0.4]},
        "late": {"kind": "fire", "at": [0.7]},
    }
    data = small(methods=methods, seeds=1)
    del data["resets"]
    for method in ("decayed", "none"):
        _as_if_alone(tmp_path / method, data, method)
    plan = prepare(tmp_path / "cut", data)
    assert [segment.parents for segment in plan.segments if segment.start and not segment.fork] == [(0, 1), (0,), (1,)]
    for segment in plan.segments:
        for _ in itertools.count():
            rounds = itertools.count(1)
            if SegmentRun(tmp_path / "cut", segment.id).run(lambda rounds=rounds: next(rounds) >= 23):
                break
    assert facts(tmp_path / "cut", plan) == facts(tmp_path / "none" / "together", plan)


def test_a_triggered_event_that_falls_on_a_fork_is_had_by_every_method_that_shared_it(tmp_path):
    when = {"probe": "weight_norm", "above": 0.0, "at_most_every": 150}
    triggered = {"kind": "last_layers", "when": when}
    methods = {"a": [{"kind": "fire"}, triggered], "b": [{"kind": "shrink_perturb"}, triggered]}
    data = small(methods=methods, seeds=1)
    for method in methods:
        ours = _as_if_alone(tmp_path / method, data, method)
        assert [step for step, name, _ in ours if name == "reset/after/online/weight_norm"] == [200]


@pytest.fixture
def committed_twice(undisturbed, tmp_path):
    _, plan = undisturbed
    prepare(tmp_path / "run", small())
    first = plan.segments[0].id
    for _ in range(2):
        countdown = itertools.count(1)
        SegmentRun(tmp_path / "run", first).run(should_stop=lambda countdown=countdown: next(countdown) >= 30)
    return tmp_path / "run", plan, RunDirectory(tmp_path / "run").checkpoints / first


def test_a_damaged_commit_falls_back_to_the_one_before(committed_twice, undisturbed, caplog):
    run, plan, folder = committed_twice
    newest = sorted(folder.glob("state-*.safetensors"))[-1]
    newest.write_bytes(newest.read_bytes()[:-7])
    for segment in plan.segments:
        assert SegmentRun(run, segment.id).run()
    assert "falling back" in caplog.text
    assert newest.name in caplog.text
    assert facts(run, plan) == facts(*undisturbed)


def test_a_segment_without_a_sound_commit_refuses_and_touches_nothing(committed_twice):
    run, plan, folder = committed_twice
    for manifest in folder.glob("commit-*.json"):
        manifest.write_text("{")
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    with pytest.raises(CheckpointError, match=r"no sound checkpoint is left .*Remove the folder"):
        SegmentRun(run, plan.segments[0].id)
    assert before == {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}


def test_a_branch_waits_for_the_end_of_its_prefix(committed_twice):
    run, plan, _ = committed_twice
    branch = next(segment for segment in plan.segments if segment.start == plan.segments[0].id)
    with pytest.raises(CheckpointError, match="is not complete"):
        SegmentRun(run, branch.id)


def test_checkpoints_hold_no_pickles_and_old_ones_are_dropped(undisturbed):
    path, plan = undisturbed
    for segment in plan.segments:
        files = [f for f in (RunDirectory(path).checkpoints / segment.id).iterdir() if f.name != "owner"]
        assert {file.suffix for file in files if not is_journal(file.name)} == {".json", ".safetensors"}
        assert sum(is_journal(file.name) for file in files) == 1
        assert json.loads(next(file for file in files if file.suffix == ".json").read_text())["complete"]


def test_a_record_file_shorter_than_its_commit_is_refused(undisturbed, tmp_path):
    path, plan = undisturbed
    shutil.copytree(path, tmp_path / "run")
    branch = plan.segments[-1]
    shutil.rmtree(RunDirectory(tmp_path / "run").checkpoints / branch.id)
    file = RunDirectory(tmp_path / "run").record_file(branch.members[0].trials[0])
    file.write_bytes(b"")
    with pytest.raises(ValueError, match="holds 0 bytes, but the checkpoint was committed with"):
        SegmentRun(tmp_path / "run", branch.id)
    assert not list(read_records(file))


@pytest.mark.parametrize("replay", ["keep", "clear"])
def test_a_fork_restarts_environments_and_a_change_clears_the_replay_where_asked(tmp_path, replay):
    data = small()
    data["environments"][0]["scenario"]["replay"] = replay
    plan = prepare(tmp_path / "run", data)
    prefix, branch = plan.segments[0], plan.segments[1]
    assert SegmentRun(tmp_path / "run", prefix.id).run()
    run = SegmentRun(tmp_path / "run", branch.id)
    trainer = run._trainer
    next(trainer.advance())
    journal = trainer.course.world._env.state_dict()
    expected = [derive_seed(member.seed, "environment", 200, i) for member in branch.members for i in range(2)]
    assert journal["seeds"].tolist() == expected
    assert len(journal["actions"]) == 1
    sizes = trainer.agent.replay.sizes
    assert (sizes == 2).all() if replay == "clear" else (sizes > 100).all()
    run._close()
