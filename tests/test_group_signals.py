"""Signals to a driver's whole process group, a closed terminal, nohup, and what is left of Ray afterwards."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml
from small_runs import small

pytestmark = [pytest.mark.ray, pytest.mark.slow]
ENDLESS = small(budget_steps=1_000_000, evaluation={"every_steps": 10_000, "episodes": 2, "num_envs": 2})
"""Commits nothing of its own accord while a test runs."""


def _command(folder: Path) -> list[str]:
    (folder / "endless.yaml").write_text(yaml.safe_dump(ENDLESS))
    run = ["-m", "plasticbench.platform", "run", str(folder / "endless.yaml"), "--out", str(folder / "run")]
    return [sys.executable, *run]


def _start(folder: Path, *before: str) -> subprocess.Popen[str]:
    """A driver that leads a group of its own, as a shell or ``timeout`` starts it."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen([*before, *_command(folder)], text=True, process_group=0, **streams)
    _wait_until(lambda: _trains(folder), process.poll)
    return process


def _trains(folder: Path) -> bool:
    return any((folder / "run").glob("machines/*/*"))


def _wait_until(
    condition: Callable[[], object], ended: Callable[[], object] = lambda: None, limit_s: float = 150
) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert ended() is None
        assert time.monotonic() < end
        time.sleep(0.2)


def _family(pid: int) -> list[psutil.Process]:
    family = psutil.Process(pid).children(recursive=True)
    assert any("raylet" in member.name() for member in family)
    return family


def _committed(folder: Path) -> bool:
    return any((folder / "run").glob("checkpoints/*/commit-*.json"))


def _all_gone(family: list[psutil.Process]) -> bool:
    return not any(member.is_running() and member.status() != psutil.STATUS_ZOMBIE for member in family)


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_group_lets_everything_commit_and_leaves_no_process(tmp_path, kind):
    process = _start(tmp_path)
    family = _family(process.pid)
    assert not _committed(tmp_path)
    os.kill(process.pid, kind)  # first to the driver and then to all, as `timeout` does
    os.killpg(process.pid, kind)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 130, output
    assert "every population commits" in output
    assert "`plasticbench resume" in output
    assert "GCS" not in output
    assert _committed(tmp_path)
    _wait_until(lambda: _all_gone(family), limit_s=20)


def test_nothing_of_ray_outlives_a_driver_that_is_killed(tmp_path):
    process = _start(tmp_path)
    family = _family(process.pid)
    process.kill()
    process.communicate(timeout=60)
    _wait_until(lambda: _all_gone(family), limit_s=100)  # Ray's agents look for their dead control store for 60 s


def test_with_nohup_a_run_outlives_its_terminal(tmp_path):
    process = _start(tmp_path, "nohup")
    family = _family(process.pid)
    os.killpg(process.pid, signal.SIGHUP)
    time.sleep(3)
    assert process.poll() is None
    assert not _committed(tmp_path)
    os.killpg(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 130, output
    _wait_until(lambda: _all_gone(family), limit_s=20)


def test_a_closed_terminal_lets_everything_commit(tmp_path):
    command = _command(tmp_path)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    os.set_blocking(terminal, False)

    def trains() -> bool:
        try:
            os.read(terminal, 1 << 20)
        except BlockingIOError:
            pass
        return _trains(tmp_path)

    _wait_until(trains)
    family = _family(pid)
    os.close(terminal)
    status: list[int] = []
    _wait_until(lambda: status.extend(s for p, s in [os.waitpid(pid, os.WNOHANG)] if p) or status, limit_s=90)
    assert os.waitstatus_to_exitcode(status[0]) == 130
    assert _committed(tmp_path)
    _wait_until(lambda: _all_gone(family), limit_s=20)
