"""How Ray is started, and interrupts on their way to the driver."""

import os
import signal
import subprocess
import sys

import pytest
from small_runs import prepare, small

from plasticbench.platform.cluster import runner
from plasticbench.platform.cluster.connection import check_interrupted, interrupts, patiently
from plasticbench.platform.cluster.jobs import with_rays_python
from plasticbench.platform.definition.parsing import BenchmarkError
from plasticbench.platform.display import Display
from plasticbench.platform.rundir import RunDirectory

KINDS = pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])


class _Interrupted:
    """Is interrupted while it is being destroyed, where Python drops every exception."""

    def __init__(self, kind: signal.Signals) -> None:
        self.kind = kind

    def __del__(self) -> None:
        os.kill(os.getpid(), self.kind)
        for _ in range(1_000):  # the handler runs between two instructions
            pass


@KINDS
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_drops_is_raised_at_the_next_question_and_once(kind):
    with interrupts():
        check_interrupted()
        _Interrupted(kind)
        with pytest.raises(KeyboardInterrupt):
            check_interrupted()
        check_interrupted()


@KINDS
def test_an_interrupt_is_raised_at_once_and_the_handlers_before_are_put_back(kind):
    before = signal.getsignal(kind)
    with interrupts():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), kind)
        assert signal.getsignal(kind) is not before
    assert signal.getsignal(kind) is before


def test_a_driver_whose_shell_ignores_interrupts_goes_on_ignoring_them():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts():
            os.kill(os.getpid(), signal.SIGINT)
            check_interrupted()
    finally:
        signal.signal(signal.SIGINT, before)


class _InterruptedInADestructor(runner.Scheduler):
    """Waits for ever, and its first wait drops an interrupt."""

    num_waits = 0

    def _start_ready(self) -> bool:
        return True

    def _wait(self) -> None:
        type(self).num_waits += 1
        assert self.num_waits == 1, "it went on"
        _Interrupted(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_scheduler_whose_wait_drops_an_interrupt_stops(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_node_resources", lambda: [{"CPU": 8.0, "memory": 2.0**40}])
    plan = prepare(tmp_path, small())
    directory = RunDirectory(tmp_path)
    scheduler = _InterruptedInADestructor(directory, directory.benchmark(), plan, Display(), None)
    with interrupts():
        assert scheduler.run() == "interrupted"


_TIMED_OUT = Exception("The current node timed out during startup.")


def _fails(times: int, error: Exception = _TIMED_OUT):
    """A start that fails so often, and what it has called."""
    calls: list[str] = []

    def start() -> None:
        calls.append("start")
        if calls.count("start") <= times:
            raise error

    return start, lambda: calls.append("clean up"), calls


def test_a_start_of_ray_that_fails_is_tried_again_from_a_clean_state():
    start, clean_up, calls = _fails(2)
    patiently(start, clean_up, [0.0, 0.0])
    assert calls == ["start", "clean up", "start", "clean up", "start"]


def test_a_ray_that_never_starts_says_what_was_seen():
    start, clean_up, calls = _fails(9)
    with pytest.raises(BenchmarkError, match=r"tried 3 times in 0 s: Exception: The current node timed out.* per CPU"):
        patiently(start, clean_up, [0.0, 0.0])
    assert calls.count("start") == 3


def test_what_time_does_not_mend_is_not_tried_again():
    start, clean_up, calls = _fails(9, ValueError("num_cpus"))
    with pytest.raises(BenchmarkError, match="tried once: ValueError: num_cpus"):
        patiently(start, clean_up, [0.0, 0.0])
    assert calls.count("start") == 1


def test_the_processes_of_a_start_that_failed_are_ended():
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        started.append(subprocess.Popen(["sleep", "100"]))
        if len(started) == 1:
            raise RuntimeError("half of it")

    patiently(start, lambda: None, [0.0])
    assert started[0].wait(10) == -signal.SIGKILL
    assert started[1].poll() is None
    started[1].kill()
    started[1].wait()


def test_a_job_runs_with_the_python_of_ray_wherever_the_path_leads():
    ask = with_rays_python(["-c", "import sys; print(sys.prefix)"])
    ray_process = "import ray, subprocess, sys; subprocess.run(sys.argv[1], shell=True, env={'PATH': '/usr/bin:/bin'})"
    told = subprocess.run([sys.executable, "-c", ray_process, ask], capture_output=True, text=True, timeout=120)
    assert told.stdout == f"{sys.prefix}\n"
