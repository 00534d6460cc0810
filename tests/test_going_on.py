"""How environments are found again by what goes on from a commit: by states, by their past, or not at all."""

import itertools
import json

import mlflow
import pytest
import torch
from small_runs import die_behind_the_last_commit, facts, prepare, run_all, small
from small_streams import small_stream

from plasticbench.analysis.report import write_report
from plasticbench.analysis.restarts import RESTARTED
from plasticbench.envs import _journal
from plasticbench.envs._journal import ReplayRefused
from plasticbench.platform.definition.parsing import BenchmarkError
from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.going_on import going_on_text, longest_replay, refusal_note
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.runs import running
from plasticbench.platform.tracking.mirror import Mirror
from plasticbench.platform.training.checkpoint import CheckpointStore
from plasticbench.platform.training.segment import SegmentRun
from plasticbench.records import read_records

GAME = {"kind": "minatar", "task": "Breakout-MinAtar", "num_envs": 2}


def _interrupted(path, benchmark, iterations):
    """Trains a run in pieces of so many iterations; returns its plan."""
    plan = prepare(path, benchmark)
    for segment in plan.segments:
        for _ in itertools.count():
            countdown = itertools.count(1)
            if SegmentRun(path, segment.id).run(should_stop=lambda c=countdown: next(c) >= iterations):
                break
    return plan


def _commits(path, plan):
    return [CheckpointStore(RunDirectory(path).checkpoints).latest(segment.id) for segment in plan.segments]


def test_a_run_whose_states_are_saved_goes_on_bit_for_bit_and_keeps_no_actions(tmp_path):
    benchmark = small(environments=[GAME])
    whole = run_all(tmp_path / "whole", benchmark)
    assert facts(tmp_path / "cut", _interrupted(tmp_path / "cut", benchmark, 23)) == facts(tmp_path / "whole", whole)
    assert all(commit.actions is None for commit in _commits(tmp_path / "cut", whole))


def test_a_death_behind_the_last_commit_of_saved_states_changes_no_record(tmp_path):
    benchmark = small(environments=[GAME])
    whole = run_all(tmp_path / "whole", benchmark)
    prepare(tmp_path / "run", benchmark)
    for segment in whole.segments:
        die_behind_the_last_commit(tmp_path / "run", segment.id)
        assert SegmentRun(tmp_path / "run", segment.id).run()
    assert facts(tmp_path / "run", whole) == facts(tmp_path / "whole", whole)


def test_saved_states_and_replayed_actions_give_the_same_records(tmp_path):
    saved = _interrupted(tmp_path / "saved", small(environments=[GAME]), 31)
    replaying = small(environments=[GAME], checkpoint={"environments": "replay"})
    replayed = _interrupted(tmp_path / "replayed", replaying, 31)
    assert facts(tmp_path / "saved", saved) == facts(tmp_path / "replayed", replayed)
    assert all(commit.actions is not None for commit in _commits(tmp_path / "replayed", replayed))


def test_a_journal_only_grows_and_each_commit_names_its_own_length(tmp_path):
    plan = prepare(tmp_path / "run", small())
    first = plan.segments[0]
    lengths, contents = [], []
    for _ in range(3):
        countdown = itertools.count(1)
        SegmentRun(tmp_path / "run", first.id).run(should_stop=lambda c=countdown: next(c) >= 10)
        stored = CheckpointStore(RunDirectory(tmp_path / "run").checkpoints).latest(first.id).actions
        lengths.append(stored.num_bytes)
        contents.append((RunDirectory(tmp_path / "run").checkpoints / stored.path).read_bytes())
    num_envs = len(first.members) * 2
    assert lengths == [10 * num_envs, 20 * num_envs, 30 * num_envs]  # one byte for an action
    assert [len(content) for content in contents] == lengths
    assert contents[2].startswith(contents[1])
    assert contents[1].startswith(contents[0])


def test_a_damaged_journal_falls_back_to_the_commit_before(tmp_path):
    plan = prepare(tmp_path / "run", small())
    first = plan.segments[0].id
    for stop in (10, 10):
        countdown = itertools.count(1)
        SegmentRun(tmp_path / "run", first).run(should_stop=lambda c=countdown, stop=stop: next(c) >= stop)
    store = CheckpointStore(RunDirectory(tmp_path / "run").checkpoints)
    path = store.folder / store.latest(first).actions.path
    data = bytearray(path.read_bytes())
    data[-1] ^= 255
    path.write_bytes(data)
    run = SegmentRun(tmp_path / "run", first)
    assert run.progress().step == 20
    assert run.run()
    whole = run_all(tmp_path / "whole", small())
    for segment in plan.segments[1:]:
        SegmentRun(tmp_path / "run", segment.id).run()
    assert facts(tmp_path / "run", plan) == facts(tmp_path / "whole", whole)


def test_a_restart_marks_every_trial_in_records_report_and_mlflow(tmp_path):
    benchmark = small(checkpoint={"environments": "restart"})
    plan = prepare(tmp_path / "run", benchmark)
    first = plan.segments[0]
    countdown = itertools.count(1)
    SegmentRun(tmp_path / "run", first.id).run(should_stop=lambda: next(countdown) >= 30)
    for segment in plan.segments:
        assert SegmentRun(tmp_path / "run", segment.id).run()
    directory = RunDirectory(tmp_path / "run")
    for trial in plan.trials:
        marks = [(r.step, r.value) for r in read_records(directory.record_file(trial.id)) if r.name == RESTARTED]
        assert marks == [(60, 1.0)]  # and none at the fork, where environments begin anew anyway
    page = write_report(tmp_path / "run").read_text()
    assert "4 of the trials cannot be made again from their seeds" in page
    assert "CartPole-v1, fire, seed 1: step 60" in page
    Mirror(tmp_path / "run", None).pump({t.id: directory.record_file(t.id).stat().st_size for t in plan.trials})
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'run' / 'mlflow.db'}")
    [experiment] = [e for e in client.search_experiments() if e.name == "small"]
    tags = [r.data.tags.get("restarted") for r in client.search_runs([experiment.experiment_id])]
    assert tags.count("at step 60") == 4


def test_a_run_that_is_never_interrupted_has_no_mark(tmp_path):
    plan = run_all(tmp_path / "run", small(checkpoint={"environments": "restart"}))
    assert facts(tmp_path / "run", plan) == facts(tmp_path / "as_ever", run_all(tmp_path / "as_ever", small()))


def test_a_replay_that_would_take_too_long_is_refused_with_the_figure_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(_journal, "_LOOK_EVERY_S", 0.0)
    plan = prepare(tmp_path / "run", small(checkpoint={"max_replay_s": 1e-9}))
    first = plan.segments[0].id
    countdown = itertools.count(1)
    SegmentRun(tmp_path / "run", first).run(should_stop=lambda: next(countdown) >= 30)
    with pytest.raises(ReplayRefused, match=r"past of 30 steps of 4 environments .* minutes.*environments=restart"):
        SegmentRun(tmp_path / "run", first)


def test_settings_of_going_on_stand_in_no_file_while_they_are_what_they_were():
    assert from_dict(small()).resolved()["checkpoint"] == {"every_s": 1000.0}
    restarting = from_dict(small(checkpoint={"environments": "restart"}))
    assert restarting.resolved()["checkpoint"] == {"every_s": 30.0, "environments": "restart"}


def _told(**changes):
    benchmark = from_dict(small(**changes))
    plan = make_plan(benchmark)
    return longest_replay(benchmark, plan), going_on_text(benchmark, plan)


def test_a_plan_tells_how_long_the_longest_replay_takes():
    # 200 steps from the fork to the end of each of 4 members, or to the fork of 2: 800 / 200,000 s on one CPU.
    replay, text = _told()
    assert (replay.steps, replay.num_members, replay.seconds) == (200, 4, pytest.approx(0.004))
    assert "up to 200 steps of 4 members on 'CartPole-v1' again, about 0 s" in text
    assert "is refused" not in text


def test_many_environments_are_stepped_faster_than_few():
    # 200 steps of 50 members with 2 environments: 100 in each of 100 steps, of 28 + 150 us each.
    replay, _ = _told(seeds=25, execution={"members_per_population": 50})
    assert replay.seconds == pytest.approx(100 * 178e-6)


def test_whoever_starts_a_run_is_told_that_it_could_not_be_gone_on_from(tmp_path, capsys):
    (tmp_path / "taken").write_text("by something else, so that nothing is trained here")
    benchmark = from_dict(small(checkpoint={"max_replay_s": 1e-6}))
    with pytest.raises(BenchmarkError, match="is not empty"):
        running.run(benchmark, tmp_path, quiet=False)
    assert "an interruption late in this run could not be gone on from" in " ".join(capsys.readouterr().err.split())


def test_a_plan_tells_that_a_replay_will_be_refused_and_what_helps():
    game = {"kind": "atari", "task": "Asterix", "num_envs": 2}
    agent = {"kind": "dqn", "network": {"kind": "nature_cnn"}, "learning_starts_steps": 50, "capacity_transitions": 300}
    _, text = _told(environments=[game], agent=agent, checkpoint={"max_replay_s": 0.01})
    assert "more than checkpoint.max_replay_s (0.01 s) is refused then. Use environments whose state is saved" in text
    assert "backend: ale" in text
    benchmark = from_dict(small(environments=[game], agent=agent, checkpoint={"max_replay_s": 0.01}))
    assert refusal_note(benchmark, make_plan(benchmark)).startswith("an interruption late in this run could not be")
    assert _told(environments=[game | {"backend": "ale"}], agent=agent) == (
        None,
        "going on: the state of all environments is saved",
    )
    replay, _ = _told(environments=[game | {"backend": "ale"}], agent=agent, checkpoint={"environments": "replay"})
    assert replay.seconds == pytest.approx(800 / 1_250)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"environments": "exact"}, "checkpoint.environments: exact needs environments whose state can be saved"),
        ({"environments": "reply"}, "checkpoint.environments: must be 'auto', 'exact', 'replay' or 'restart', got"),
        ({"max_replay_s": 0}, "checkpoint.max_replay_s: must be above 0"),
        ({"environments": "restart", "max_replay_s": 9}, "checkpoint.max_replay_s: .*nothing is replayed"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(changes, message):
    with pytest.raises(BenchmarkError, match=message):
        from_dict(small(checkpoint=changes))


def test_commits_of_earlier_versions_that_hold_their_actions_go_on(tmp_path):
    whole = run_all(tmp_path / "whole", small())
    plan = prepare(tmp_path / "run", small())
    first = plan.segments[0].id
    countdown = itertools.count(1)
    SegmentRun(tmp_path / "run", first).run(should_stop=lambda: next(countdown) >= 30)
    store = CheckpointStore(RunDirectory(tmp_path / "run").checkpoints)
    commit = store.latest(first)
    # As version 0.1 wrote it: the actions beside all other tensors, and no word of a file.
    tensors = store.load_tensors(commit.tensors) | {
        "environment/actions": torch.from_numpy(store.load_actions(commit).copy())
    }
    stored = store.save_tensors(first, "state-00000000", tensors)
    manifest = next((store.folder / first).glob("commit-*.json"))
    data = json.loads(manifest.read_text())
    del data["actions"]
    data["tensors"] = {"path": stored.path, "crc32": stored.crc32, "num_bytes": stored.num_bytes}
    manifest.write_text(json.dumps(data))
    (store.folder / commit.actions.path).unlink()
    for segment in plan.segments:
        SegmentRun(tmp_path / "run", segment.id).run()
    assert facts(tmp_path / "run", plan) == facts(tmp_path / "whole", whole)


def test_ends_of_learners_of_data_can_be_removed():
    assert from_dict(small_stream() | {"checkpoint": {"ends": "remove"}}).checkpoint.ends == "remove"
    with pytest.raises(BenchmarkError, match=r"checkpoint.environments: .*data have no environments"):
        from_dict(small_stream() | {"checkpoint": {"environments": "replay"}})
