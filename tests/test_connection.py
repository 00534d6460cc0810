"""Interrupts on their way to the driver."""

import os
import signal

import pytest
from small_runs import prepare, small

from plasticbench.platform.cluster import runner
from plasticbench.platform.cluster.connection import check_interrupted, interrupts
from plasticbench.platform.display import Display
from plasticbench.platform.rundir import RunDirectory

KINDS = pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])


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
