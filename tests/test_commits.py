"""Commits that are written beside the training: nothing counts before its manifest, and no record is lost or twice."""

import itertools
import resource
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from small_runs import facts, prepare, run_all, small

from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.checkpoint import CheckpointError, CheckpointStore, StorageError
from plasticbench.platform.training.segment import SegmentRun


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed")
    return facts(path, run_all(path, small()))


@pytest.fixture
def beside():
    """An executor that begins nothing before ``release`` is called."""
    released = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(released.wait)
        executor.release = released.set
        yield executor
        released.set()


@contextmanager
def small_files():
    """No file of this process may grow beyond a few bytes."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


def advance(course, run, steps):
    for records in itertools.islice(course, steps):
        run._write(records)


def finish(path, plan):
    for segment in plan.segments:
        assert SegmentRun(path, segment.id).run()
    return facts(path, plan)


def test_training_goes_on_and_the_commit_holds_what_was_when_it_began(tmp_path, undisturbed, beside):
    plan = prepare(tmp_path, small())
    store, name = CheckpointStore(RunDirectory(tmp_path).checkpoints), plan.segments[0].id
    run = SegmentRun(tmp_path, name)
    course = run._trainer.advance()
    advance(course, run, 40)
    run._commit(beside)
    assert store.newest(name) is None
    assert set(run.record_bytes.values()) == {0}
    advance(course, run, 30)
    beside.release()
    run._writing.result()
    assert store.newest(name).step == 80
    assert store.newest(name).record_bytes == run.record_bytes
    assert SegmentRun(tmp_path, name)._trainer.step == 80, "what came later was never committed"
    assert finish(tmp_path, plan) == undisturbed


def test_the_next_commit_waits_for_the_one_that_is_being_written(tmp_path, undisturbed, beside):
    plan = prepare(tmp_path, small())
    run = SegmentRun(tmp_path, plan.segments[0].id)
    course = run._trainer.advance()
    for _ in range(3):
        advance(course, run, 20)
        threading.Timer(0.2, beside.release).start()
        run._commit(beside)
    run._commit()
    assert CheckpointStore(RunDirectory(tmp_path).checkpoints).newest(plan.segments[0].id).step == 120
    assert finish(tmp_path, plan) == undisturbed


def test_training_waits_for_no_commit_that_is_late(tmp_path, undisturbed, monkeypatch):
    plan = prepare(tmp_path, small(checkpoint={"every_s": 0.001}))
    run = SegmentRun(tmp_path, plan.segments[0].id)
    save, released, begun = CheckpointStore.save, threading.Event(), []

    def slowly(store, commit):
        begun.append(commit.step)
        released.wait(60)
        released.set()  # rather than to wait for ever
        save(store, commit)

    def release_at_the_end():
        if run.progress().step >= plan.segments[0].to_step - 20:
            released.set()
        return False

    monkeypatch.setattr(CheckpointStore, "save", slowly)
    assert run.run(release_at_the_end)
    assert begun[0] < begun[1] >= plan.segments[0].to_step - 20, "training went on, and began no other"
    monkeypatch.undo()
    assert finish(tmp_path, plan) == undisturbed


@pytest.mark.parametrize("steps_between", [0, 1, 10])
def test_what_could_not_be_written_beside_is_told_by_the_next_commit_and_written_by_the_one_after(
    tmp_path, undisturbed, beside, steps_between
):
    plan = prepare(tmp_path, small())
    run = SegmentRun(tmp_path, plan.segments[0].id)
    course = run._trainer.advance()
    advance(course, run, 30)
    run._commit()
    for _ in range(2):
        advance(course, run, steps_between)
        run._commit(beside)
        with small_files():
            beside.release()
            run._writing.exception()
        advance(course, run, steps_between)
        with pytest.raises(StorageError, match=r"could not be saved: .*too large.*`plasticbench resume`"):
            run._commit()
    run._commit()
    assert SegmentRun(tmp_path, plan.segments[0].id)._trainer.step == 60 + 8 * steps_between
    assert finish(tmp_path, plan) == undisturbed


def test_a_segment_that_was_started_elsewhere_meanwhile_gets_no_commit_of_this_process(tmp_path, beside):
    plan = prepare(tmp_path, small())
    store, name = CheckpointStore(RunDirectory(tmp_path).checkpoints), plan.segments[0].id
    run = SegmentRun(tmp_path, name)
    advance(run._trainer.advance(), run, 20)
    run._commit(beside)
    store.claim(name)
    beside.release()
    with pytest.raises(CheckpointError, match="was started again elsewhere"):
        run._commit()
    assert store.newest(name) is None


_KILLED = """
import os, sys, threading, time
from pathlib import Path
from plasticbench.platform.training.segment import SegmentRun

threading.Timer(float(sys.argv[3]), lambda: os.kill(os.getpid(), 9)).start()
SegmentRun(Path(sys.argv[1]), sys.argv[2]).run()
"""


@pytest.mark.slow
def test_a_process_that_is_killed_again_and_again_while_it_commits_all_the_time_loses_nothing(tmp_path, undisturbed):
    plan = prepare(tmp_path, small(checkpoint={"every_s": 0.001}))
    for segment in plan.segments:
        for after_s in (0.5, 0.6, 0.7, 0.85, 1.0, 1.3):
            command = [sys.executable, "-W", "ignore", "-c", _KILLED, str(tmp_path), segment.id, str(after_s)]
            subprocess.run(command, check=False, timeout=120)
        assert SegmentRun(tmp_path, segment.id).run()
    assert facts(tmp_path, plan) == undisturbed
