"""What machines do to a run: full disks, read-only folders, damaged files, second starts, clocks that jump."""

import itertools
import os
import resource
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import yaml
from small_runs import facts, prepare, run_all, small

from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.checkpoint import CheckpointError
from plasticbench.platform.training.segment import SegmentRun
from plasticbench.records import read_records


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed")
    return facts(path, run_all(path, small()))


def _run_for(path, segment: str, iterations: int) -> bool:
    countdown = itertools.count(1)
    return SegmentRun(path, segment).run(should_stop=lambda: next(countdown) >= iterations)


def _finish(path, plan) -> dict:
    for segment in plan.segments:
        assert SegmentRun(path, segment.id).run()
    return facts(path, plan)


def _commit_bytes(path) -> dict:
    return {file: file.read_bytes() for file in path.glob("checkpoints/*/*.*") if file.is_file()}


# -- no room -----------------------------------------------------------------------------------------------------


@contextmanager
def _small_files():
    """No file may grow beyond 5 kB, in this process: what every system offers."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))


@contextmanager
def _filled(folder):
    with open(folder / "other", "wb", buffering=0) as file:
        while shutil.disk_usage(folder).free > 0:
            file.write(bytes(4096))
    yield
    (folder / "other").unlink()


@pytest.fixture
def tmpfs(tmp_path):
    """A file system of 4 MB."""
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting needs root")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def _check_full_disk(path, full, undisturbed, reason):
    plan = prepare(path, small())
    first = plan.segments[0].id
    assert not _run_for(path, first, 30)
    before = _commit_bytes(path)
    run = SegmentRun(path, first)
    with full:
        with pytest.raises(CheckpointError, match=rf"could not be saved: .*{reason}.* `plasticbench resume`"):
            run.run()
        assert _commit_bytes(path) == before, "the commit before is whole, and no draft takes room"
    assert _finish(path, plan) == undisturbed


def test_a_full_disk_costs_nothing_that_was_committed(tmpfs, undisturbed):
    said = r"No space.*at least \d\.\d MiB are missing: this file takes \d\.\d MiB, and 0\.0 MiB are free"
    _check_full_disk(tmpfs / "run", _filled(tmpfs), undisturbed, said)


def test_a_file_that_cannot_grow_costs_nothing_that_was_committed(tmp_path, undisturbed):
    _check_full_disk(tmp_path / "run", _small_files(), undisturbed, "too large")


def test_a_commit_that_failed_can_be_made_again(tmp_path, undisturbed):
    plan = prepare(tmp_path, small())
    run = SegmentRun(tmp_path, plan.segments[0].id)
    for step, records in enumerate(run._trainer.advance()):
        run._write(records)
        if step == 60:
            with _small_files(), pytest.raises(CheckpointError):
                run._commit()
            run._commit()
    run._commit()
    run._close()
    assert _finish(tmp_path, plan) == undisturbed


def _plasticbench(*arguments, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "plasticbench.platform", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


@pytest.mark.parametrize("command", ["run", "resume"])
def test_a_read_only_directory_is_one_clear_error(tmpfs, tmp_path_factory, command):
    config = tmp_path_factory.mktemp("config") / "small.yaml"
    config.write_text(yaml.safe_dump(small()))
    prepare(tmpfs / "run", small())
    subprocess.run(["mount", "-o", "remount,ro", str(tmpfs)], check=True)
    out = tmpfs / "run"
    done = _plasticbench("run", config, "--out", out) if command == "run" else _plasticbench("resume", out)
    assert done.returncode == 2
    assert done.stderr == f"Error: {out}: cannot be written: Read-only file system. Choose a directory that can be\n"


# -- damage ------------------------------------------------------------------------------------------------------


def _truncate(folder, pattern):
    newest = sorted(folder.glob(pattern))[-1]
    newest.write_bytes(newest.read_bytes()[:-9])
    return newest.name


def _flip(folder, pattern):
    newest = sorted(folder.glob(pattern))[-1]
    data = bytearray(newest.read_bytes())
    data[-5] ^= 1
    newest.write_bytes(data)
    return newest.name


def _delete(folder, pattern):
    newest = sorted(folder.glob(pattern))[-1]
    newest.unlink()
    return newest.name


@pytest.mark.parametrize(
    ("damage", "pattern"),
    [
        *itertools.product((_truncate, _flip, _delete), ("state-*", "replay-*")),
        (_truncate, "commit-*.json"),
    ],
)
def test_damage_falls_back_to_the_commit_before_and_names_the_file(tmp_path, undisturbed, caplog, damage, pattern):
    plan = prepare(tmp_path, small())
    first = plan.segments[0].id
    assert not _run_for(tmp_path, first, 30)
    trial = plan.segments[0].members[0].trials[0]
    earlier = RunDirectory(tmp_path).record_file(trial).read_bytes()
    assert not _run_for(tmp_path, first, 40)
    damaged = damage(RunDirectory(tmp_path).checkpoints / first, pattern)
    assert len(RunDirectory(tmp_path).record_file(trial).read_bytes()) > len(earlier)
    run = SegmentRun(tmp_path, first)
    assert RunDirectory(tmp_path).record_file(trial).read_bytes() == earlier, "cut back to the older commit"
    assert damaged in caplog.text
    assert "falling back to the commit before" in caplog.text
    assert run.run()
    assert _finish(tmp_path, plan) == undisturbed


@pytest.mark.parametrize("damage", [_truncate, _flip])
def test_a_prefix_with_a_damaged_end_is_trained_to_its_end_again(tmp_path, undisturbed, damage):
    plan = prepare(tmp_path, small())
    prefix = plan.segments[0].id
    assert not _run_for(tmp_path, prefix, 60)
    assert SegmentRun(tmp_path, prefix).run()
    damage(RunDirectory(tmp_path).checkpoints / prefix, "state-*")
    assert _finish(tmp_path, plan) == undisturbed


def test_a_damaged_prefix_never_cuts_what_was_built_on_it(tmp_path, undisturbed):
    plan = prepare(tmp_path, small())
    prefix, branch = (segment.id for segment in plan.segments)
    assert not _run_for(tmp_path, prefix, 60)
    assert SegmentRun(tmp_path, prefix).run()
    assert not _run_for(tmp_path, branch, 30)
    _truncate(RunDirectory(tmp_path).checkpoints / prefix, "state-*")
    assert _finish(tmp_path, plan) == undisturbed


# -- stale writers -----------------------------------------------------------------------------------------------


def test_of_two_starts_of_a_segment_the_older_one_cannot_commit(tmp_path, undisturbed):
    plan = prepare(tmp_path, small())
    older = SegmentRun(tmp_path, plan.segments[0].id)
    course = older._trainer.advance()
    for records in itertools.islice(course, 30):
        older._write(records)
    older._commit()
    newer = SegmentRun(tmp_path, plan.segments[0].id)
    for records in itertools.islice(course, 30):
        older._write(records)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(CheckpointError, match="started again elsewhere"):
        older._commit()
    assert before == {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert newer.run()
    with pytest.raises(CheckpointError, match="started again elsewhere"):
        older._commit()
    found = _finish(tmp_path, plan)
    assert found == undisturbed
    assert all(len(set(own)) == len(own) for own in found.values())


# -- clocks ------------------------------------------------------------------------------------------------------


def test_jumps_of_the_clock_change_neither_the_order_of_records_nor_commits_nor_resuming(
    tmp_path, undisturbed, monkeypatch
):
    now, jumps = time.time, itertools.cycle([0.0, 7200.0, -86400.0, 3.0e7])
    monkeypatch.setattr(time, "time", lambda: now() + next(jumps))
    plan = prepare(tmp_path, small(checkpoint={"every_s": 1000.0}))
    for segment in plan.segments:
        while not _run_for(tmp_path, segment.id, 45):
            numbers = sorted(file.stem for file in tmp_path.glob(f"checkpoints/{segment.id}/commit-*.json"))
            assert len(numbers) <= 2
    assert facts(tmp_path, plan) == undisturbed
    for trial in plan.trials:
        records = list(read_records(RunDirectory(tmp_path).record_file(trial.id)))
        assert [r.step for r in records] == sorted(r.step for r in records)
        assert max(r.time for r in records) - min(r.time for r in records) > 80_000, "the clock did jump"


def test_commits_follow_a_clock_that_cannot_jump(tmp_path, monkeypatch):
    now = time.time
    ahead = itertools.count(0, 3600)
    monkeypatch.setattr(time, "time", lambda: now() + next(ahead))
    plan = prepare(tmp_path, small(checkpoint={"every_s": 900.0}))
    assert SegmentRun(tmp_path, plan.segments[0].id).run()
    commits = [path.name for path in tmp_path.glob("checkpoints/*/commit-*.json")]
    assert commits == ["commit-00000000.json"], "hours on the wall clock are no time to commit; the end is"
    assert os.listdir(tmp_path / "checkpoints") == [plan.segments[0].id]
