"""``plasticbench status``: where a run stands, from its directory alone."""

import itertools
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from small_runs import prepare, run_all, small
from typer.testing import CliRunner

from plasticbench.failures import Failure, note_failure
from plasticbench.platform import status as status_module
from plasticbench.platform.cli import app
from plasticbench.platform.heartbeat import Heartbeat, Pace
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.status import status, to_text
from plasticbench.platform.training.segment import Progress, SegmentRun


def _progress(segment, step: int) -> Progress:
    return Progress(
        segment=segment.id,
        step=step,
        from_step=segment.from_step,
        to_step=segment.to_step,
        num_members=len(segment.members),
        steps_per_s=123.4,
        last_evaluation=9.5,
        record_bytes={},
    )


def _failure(plan, **changes) -> Failure:
    fields = {
        "segment": plan.segments[0].id,
        "trials": [trial.id for trial in plan.trials],
        "step": 120,
        "time": time.time(),
        "exception": "RuntimeError: no asset [/opt/robot]",
        "traceback": 'Traceback\n  File "/home/u/my_env.py", line 7, in step\n    raise RuntimeError()\n',
        "worker": "process 7 on 127.0.0.1",
        "attempt": 1,
        "is_final": True,
    }
    return Failure(**fields | changes)


def test_a_run_waits_then_is_stopped_half_way_then_complete(tmp_path):
    plan, directory = prepare(tmp_path, small()), RunDirectory(tmp_path)
    found = status(directory)
    assert (found.state, found.counts) == ("stopped", {"done": 0, "running": 0, "failed": 0, "waiting": 4})
    prefix, branches = plan.segments
    assert SegmentRun(tmp_path, prefix.id).run()
    countdown = itertools.count(1)
    SegmentRun(tmp_path, branches.id).run(should_stop=lambda: next(countdown) >= 20)
    found = status(directory)
    assert found.state == "stopped"
    assert {trial.step for trial in found.trials} == {240}
    first, *_, last = to_text(found)
    assert first == "small: stopped; of 4 trials 4 waiting; 60% of their steps are trained"
    assert last == f"`plasticbench resume {tmp_path}` goes on."
    assert SegmentRun(tmp_path, branches.id).run()
    found = status(directory)
    assert (found.state, found.counts["done"]) == ("complete", 4)
    assert {(trial.state, trial.step) for trial in found.trials} == {("done", 400)}


def test_what_failed_is_named_with_the_users_own_lines_until_a_driver_tries_it_again(tmp_path):
    plan, directory = prepare(tmp_path, small()), RunDirectory(tmp_path)
    note_failure(tmp_path, _failure(plan))
    text = "\n".join(to_text(status(directory)))
    assert "4 failed" in text
    assert "at step 120: RuntimeError: no asset [/opt/robot]" in text
    assert "    /home/u/my_env.py:7, in step: raise RuntimeError()" in text
    assert f"{tmp_path}/failures.jsonl" in text
    with directory.lock():
        Heartbeat(tmp_path).say("training")
        found = status(directory)
        assert (found.state, found.counts["failed"], found.failures) == ("running", 0, ())
        note_failure(tmp_path, _failure(plan, trials=[plan.trials[0].id]))
        assert status(directory).counts == {"done": 0, "running": 0, "failed": 1, "waiting": 3}


def test_while_a_driver_is_at_work_its_own_note_says_how_far_it_is(tmp_path):
    plan, directory = prepare(tmp_path, small()), RunDirectory(tmp_path)
    prefix = plan.segments[0]
    with directory.lock():
        Heartbeat(tmp_path).beat([_progress(prefix, 60)], 700)
        found = status(directory)
        assert (found.state, found.counts["running"]) == ("running", 4)
        assert {trial.step for trial in found.trials} == {60}
        assert f"    {prefix.id}: step 60 of 200, 2 members, 123 steps/s" in to_text(found)
    assert status(directory).state == "stopped", "its driver is gone, whatever it said last"


def test_a_driver_on_another_machine_whose_lock_cannot_be_seen_is_known_by_its_notes(tmp_path, monkeypatch):
    monkeypatch.setattr(status_module, "_WATCH_S", 2.0)
    prepare(tmp_path, small())
    note = {"host": "elsewhere", "pid": 7, "num_old_failures": 0, "state": "training", "time": 1.7e9, "running": []}
    file = tmp_path / "progress.json"
    file.write_text(json.dumps(note))
    assert status(RunDirectory(tmp_path)).state == "stopped"
    later = threading.Timer(0.7, lambda: file.write_text(json.dumps(note | {"time": 1.7e9 + 5})))
    later.start()
    assert status(RunDirectory(tmp_path)).state == "running"
    later.join()


def test_a_look_at_a_run_never_keeps_its_driver_out(tmp_path):
    prepare(tmp_path, small())
    (tmp_path / "lock").touch()
    looking = (
        "import fcntl, sys, time; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_SH); print(flush=True); time.sleep(0.2)"
    )
    with subprocess.Popen([sys.executable, "-c", looking, str(tmp_path / "lock")], stdout=subprocess.PIPE) as look:
        look.stdout.readline()
        with RunDirectory(tmp_path).lock():
            pass


def test_a_run_in_an_object_store_is_known_by_its_lease(bucket_folder):
    plan, directory = prepare(bucket_folder, small()), RunDirectory(bucket_folder)
    assert status(directory).state == "stopped"
    with directory.lock():
        Heartbeat(bucket_folder).beat([_progress(plan.segments[0], 60)], 700)
        assert status(directory).counts["running"] == 4
    assert status(directory).state == "stopped"


def test_seconds_left_follow_from_the_speed_so_far(monkeypatch):
    now = itertools.count(100.0, 10.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    pace = Pace()
    assert pace.seconds_left(1000) is None
    assert pace.seconds_left(900) == pytest.approx(90.0)
    assert pace.seconds_left(600) == pytest.approx(30.0)


def test_the_command_answers_as_text_and_as_json_and_refuses_other_folders(tmp_path):
    run_all(tmp_path / "run", small())
    text = CliRunner().invoke(app, ["status", str(tmp_path / "run")])
    assert text.output == "small: complete; of 4 trials 4 done\n"
    found = json.loads(CliRunner().invoke(app, ["status", str(tmp_path / "run"), "--json"]).output)
    assert found["counts"]["done"] == 4
    assert found["trials"][0].keys() == {"id", "task", "method", "seed", "state", "step", "reason"}
    refused = CliRunner().invoke(app, ["status", str(Path(tmp_path / "nowhere"))])
    assert refused.exit_code == 2
    assert "not a run directory" in refused.output
