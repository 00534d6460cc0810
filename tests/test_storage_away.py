"""Object stores that are away for a while, or for good, are neither bad input nor damaged checkpoints."""

import threading
import time
from collections.abc import Iterator

import pytest
from small_runs import facts, prepare, run_all, small
from upath import UPath

from plasticbench import storage
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.checkpoint import CheckpointError, CheckpointStore
from plasticbench.platform.training.segment import SegmentRun


@pytest.fixture
def patience() -> Iterator[None]:
    before = storage.be_patient(20.0)
    yield
    storage.be_patient(before)


class _Outage:
    """A store in memory of which single calls fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: UPath) -> None:
        self.is_away, self.num_refused = False, 0
        for name in ("cat_file", "ls", "pipe_file", "rm_file"):
            monkeypatch.setattr(folder.fs, name, self._wrapped(getattr(folder.fs, name)))

    def _wrapped(self, call):
        def answer(*arguments, **options):
            if self.is_away:
                self.num_refused += 1
                raise RuntimeError("503 Slow Down")
            return call(*arguments, **options)

        return answer

    def end_after(self, seconds: float) -> None:
        self.is_away = True
        timer = threading.Timer(seconds, lambda: setattr(self, "is_away", False))
        timer.daemon = True
        timer.start()


@pytest.fixture
def folder() -> UPath:
    return storage.location(f"memory://away-{time.monotonic_ns()}")


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch, folder: UPath) -> _Outage:
    return _Outage(monkeypatch, folder)


def test_a_store_that_comes_back_is_waited_for_with_a_line(patience, folder, outage, caplog):
    storage.write_atomically(folder / "a", b"1")
    outage.end_after(1.2)
    assert storage.read(folder / "a") == b"1"
    assert outage.num_refused >= 2
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert "503 Slow Down. The storage is away, and is waited for, up to 20 s" in lines[0]
    assert "answers again" in lines[1]


def test_a_store_that_stays_away_is_an_error_of_its_own_after_the_stated_time(folder, outage):
    before = storage.be_patient(1.0)
    outage.is_away = True
    began = time.monotonic()
    try:
        for call in (
            lambda: storage.read(folder / "a"),
            lambda: storage.entries(folder),
            lambda: storage.write_atomically(folder / "a", b"1"),
            lambda: storage.remove(folder / "a"),
        ):
            with pytest.raises(storage.StorageAway, match=r"503 Slow Down \(for \d s\)"):
                call()
    finally:
        storage.be_patient(before)
    assert 4.0 <= time.monotonic() - began < 12.0


def test_before_a_run_a_store_that_does_not_answer_is_an_error_at_once(folder, outage):
    outage.is_away = True
    with pytest.raises(OSError, match="503 Slow Down"):
        storage.connect(folder)
    with pytest.raises(OSError, match="503 Slow Down"):
        storage.read(folder / "a")
    assert outage.num_refused == 2


def test_what_is_missing_is_not_waited_for(patience, folder, outage):
    began = time.monotonic()
    with pytest.raises(FileNotFoundError):
        storage.read(folder / "a")
    assert time.monotonic() - began < 0.5


def test_a_segment_trains_through_outages_to_the_same_records(patience, folder, outage, tmp_path):
    data = small(checkpoint={"every_s": 0.05})
    reference = facts(tmp_path, run_all(tmp_path, data))
    plan = prepare(folder, data)
    for segment in plan.segments:
        outage.end_after(0.7)
        assert SegmentRun(folder, segment.id).run()
    assert facts(folder, plan) == reference
    assert outage.num_refused > 0


def test_a_store_that_cannot_be_read_now_is_not_taken_for_a_damaged_checkpoint(folder, outage, caplog):
    plan = prepare(folder, small())
    first = plan.segments[0].id
    assert SegmentRun(folder, first).run()
    store = CheckpointStore(RunDirectory(folder).checkpoints)
    manifest = next(name for name in storage.entries(store.folder / first) if name.startswith("commit-"))
    outage.is_away = True
    for question in (store.latest, store.completed, store.record_bytes):
        with pytest.raises(OSError, match="503 Slow Down"):
            question(first)
    assert "falling back" not in caplog.text
    outage.is_away = False

    commit = store.latest(first)
    real = storage.read
    with pytest.MonkeyPatch.context() as patch:  # the store lists, and refuses to hand out
        patch.setattr(
            storage, "read", lambda path, *span: _refuse(path) if path.name == manifest else real(path, *span)
        )
        with pytest.raises(OSError, match="503"):
            store.latest(first)
        patch.setattr(storage, "read", lambda path, *span: _refuse(path))
        with pytest.raises(OSError, match="503"):
            store.load_tensors(commit.tensors)

    storage.write_atomically(store.folder / first / manifest, b"{")
    with pytest.raises(CheckpointError, match=r"not a sound manifest.*Remove the folder"):
        store.latest(first)


def _refuse(path):
    raise OSError(f"{path}: 503 Slow Down")
