"""Whole segments in an object store: the same records as on a disk, bit for bit, whatever dies."""

import itertools
import os
import signal
import subprocess
import sys
import time

import pytest
from small_runs import die_behind_the_last_commit, facts, prepare, run_all, small

from plasticbench import storage
from plasticbench.analysis.report import write_report
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.checkpoint import CheckpointError
from plasticbench.platform.training.segment import SegmentRun


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    path = tmp_path_factory.mktemp("disk")
    return facts(path, run_all(path, small()))


def test_a_forked_run_equals_one_on_a_disk(bucket_folder, on_disk):
    plan = run_all(bucket_folder, small())
    assert facts(bucket_folder, plan) == on_disk
    for trial in plan.trials:
        assert len(storage.entries(bucket_folder / "records" / trial.id)) == 1, "merged"
    for segment in plan.segments:
        names = storage.entries(bucket_folder / "checkpoints" / segment.id)
        assert {name.partition(".")[2] for name in names} == {"json", "safetensors", ""}
    assert b"leaderboard" in storage.read(write_report(bucket_folder)).lower()


def test_stopping_and_going_on_changes_no_record(bucket_folder, on_disk):
    plan = prepare(bucket_folder, small())
    for segment in plan.segments:
        for _ in itertools.count():
            countdown = itertools.count(1)
            run = SegmentRun(bucket_folder, segment.id)
            if run.run(should_stop=lambda countdown=countdown: next(countdown) >= 37):
                break
    assert facts(bucket_folder, plan) == on_disk


def test_records_behind_the_last_commit_are_cut_off(bucket_folder, on_disk):
    plan = prepare(bucket_folder, small())
    for segment in plan.segments:
        die_behind_the_last_commit(bucket_folder, segment.id)
        assert SegmentRun(bucket_folder, segment.id).run()
    assert facts(bucket_folder, plan) == on_disk


def test_a_damaged_commit_falls_back_to_the_one_before(bucket_folder, on_disk, caplog):
    plan = prepare(bucket_folder, small())
    first = plan.segments[0].id
    for _ in range(2):
        countdown = itertools.count(1)
        SegmentRun(bucket_folder, first).run(should_stop=lambda countdown=countdown: next(countdown) >= 30)
    folder = bucket_folder / "checkpoints" / first
    newest = max(name for name in storage.entries(folder) if name.startswith("replay-"))
    storage.write_atomically(folder / newest, storage.read(folder / newest)[:-7])
    for segment in plan.segments:
        assert SegmentRun(bucket_folder, segment.id).run()
    assert newest in caplog.text
    assert "falling back" in caplog.text
    assert facts(bucket_folder, plan) == on_disk


def test_an_older_start_of_a_segment_cannot_commit(bucket_folder, on_disk):
    plan = prepare(bucket_folder, small())
    older = SegmentRun(bucket_folder, plan.segments[0].id)
    assert SegmentRun(bucket_folder, plan.segments[0].id).run()
    with pytest.raises(CheckpointError, match="started again elsewhere"):
        older.run()
    for segment in plan.segments[1:]:
        assert SegmentRun(bucket_folder, segment.id).run()
    assert facts(bucket_folder, plan) == on_disk


_RUN_ALL = """
import sys
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.segment import SegmentRun
from plasticbench.storage import location
run = location(sys.argv[1])
for segment in RunDirectory(run).plan().segments:
    SegmentRun(run, segment.id).run()
"""


@pytest.mark.slow
def test_a_process_killed_again_and_again_ends_with_the_same_records(bucket_folder, tmp_path):
    data = small(budget_steps=1_600, checkpoint={"every_s": 0.4})
    expected = facts(tmp_path, run_all(tmp_path, data))
    plan = prepare(bucket_folder, data)
    checkpoints = RunDirectory(bucket_folder).checkpoints
    for kill in range(3):
        process = subprocess.Popen([sys.executable, "-c", _RUN_ALL, str(bucket_folder)], env=os.environ)
        before = _commits(checkpoints, plan)
        while _commits(checkpoints, plan) == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(0.17 * kill)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([sys.executable, "-c", _RUN_ALL, str(bucket_folder)], check=True)
    assert facts(bucket_folder, plan) == expected


def _commits(checkpoints, plan) -> list[str]:
    folders = [storage.entries(checkpoints / segment.id) for segment in plan.segments]
    return sorted(name for names in folders for name in names if name.startswith("commit-"))
