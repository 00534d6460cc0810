"""One driver at a time in an object store."""

import json
import os
import signal
import threading
import time

import pytest

from plasticbench import storage
from plasticbench.platform import lease
from plasticbench.platform.definition.reading import BenchmarkError
from plasticbench.platform.rundir import RunDirectory


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(lease, "RENEW_S", 0.1)
    monkeypatch.setattr(lease, "WATCH_S", 2.0)
    monkeypatch.setattr(lease, "_SETTLE_S", 0.6)


def _dead(folder) -> None:
    left = {"owner": "gone", "host": "node7", "pid": 17, "counter": 5}
    storage.create(folder / "lock.json", json.dumps(left).encode())


def test_a_second_driver_is_refused_and_told_who_holds_the_directory(bucket_folder):
    directory = RunDirectory(bucket_folder)
    with directory.lock():
        with pytest.raises(BenchmarkError, match=rf"another plasticbench is running .*\(process {os.getpid()} on"):
            with directory.lock():
                pytest.fail("two drivers")
        time.sleep(0.5)
    with directory.lock():
        pass
    assert storage.entries(bucket_folder) == {}


def test_the_lease_of_a_dead_driver_is_taken_over_after_watching_it(bucket_folder):
    _dead(bucket_folder)
    began = time.monotonic()
    with RunDirectory(bucket_folder).lock():
        assert time.monotonic() - began >= 2.0
        time.sleep(0.5)
        assert json.loads(storage.read(bucket_folder / "lock.json"))["pid"] == os.getpid()
    assert storage.entries(bucket_folder) == {}


def test_of_several_drivers_that_find_a_dead_lease_one_goes_on(bucket_folder):
    _dead(bucket_folder)
    results = []

    def drive() -> None:
        try:
            with RunDirectory(bucket_folder).lock():
                time.sleep(3.0)
                results.append("ran")
        except BenchmarkError:
            results.append("refused")

    threads = [threading.Thread(target=drive) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["ran", "refused", "refused", "refused"]


@pytest.fixture
def _no_handler():
    """That of a driver without Ray, whatever ran in this process before."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("_no_handler")
def test_a_driver_whose_lease_was_taken_stops_and_says_so(bucket_folder):
    def lose() -> None:
        with RunDirectory(bucket_folder).lock():
            storage.remove(bucket_folder / "lock.json")
            _dead(bucket_folder)
            time.sleep(20)
            pytest.fail("not interrupted")

    with pytest.raises(BenchmarkError, match=r"process 17 on node7\)\. It found this one silent"):
        lose()
    assert json.loads(storage.read(bucket_folder / "lock.json"))["pid"] == 17, "the new holder keeps it"


def test_a_store_that_is_away_for_a_while_costs_no_lease(bucket_folder, monkeypatch, caplog):
    def away(path, data):
        raise OSError("away")

    with RunDirectory(bucket_folder).lock():
        with monkeypatch.context() as patch:
            patch.setattr(storage, "write_atomically", away)
            time.sleep(0.5)
        time.sleep(0.5)
    assert "is not renewed" in caplog.text
