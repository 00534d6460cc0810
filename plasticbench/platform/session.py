"""One run of one benchmark from a prepared run directory: Ray, tracking, report."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from plasticbench import storage
from plasticbench.analysis import leaderboard
from plasticbench.failures import lost_trials
from plasticbench.platform.cluster import connection
from plasticbench.platform.display import Display, closing_lines, make_display, standings
from plasticbench.platform.heartbeat import Heartbeat, State
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.tracking import ending
from plasticbench.platform.tracking.flush import LocalFlush
from plasticbench.platform.tracking.mirror import Mirror, RunStatus, TrackingUnavailable, check, masked
from plasticbench.platform.tracking.schema import file_problem
from plasticbench.platform.tracking.tracker import committed_bytes
from plasticbench.platform.training.ends import external_bytes, finished_bytes, remove_ends
from plasticbench.records import last_step
from plasticbench.storage import Location

if TYPE_CHECKING:
    from plasticbench.platform.planning.plan import Plan

DONE, FAILED, INTERRUPTED = 0, 1, 130
_CODES = {"complete": DONE, "failed": FAILED, "interrupted": INTERRUPTED}
_STATES: Mapping[int, State] = {DONE: "complete", FAILED: "failed", INTERRUPTED: "interrupted"}
_SKIPPED = "it was interrupted"


def execute(
    directory: RunDirectory, console: Console, *, address: str | None, tracking_uri: str | None, quiet: bool
) -> int:
    """Trains what is left of the plan and reports; returns the exit code.

    Ray is started for what is left to train alone. Raises ``ValueError`` before anything starts if the tracking store
    cannot be reached.
    """
    tracking_uri = _remembered_uri(directory, tracking_uri)
    plan, display, heartbeat = directory.plan(), make_display(console, quiet), Heartbeat(directory.path)
    run = _Session(directory, tracking_uri, console, display)
    if plan.external:
        return _follow(run, plan)
    try:
        remove_ends(directory, plan.segments)
    except OSError as error:
        display.problem(f"what nobody needs any more could not be removed: {error}")
    finished = finished_bytes(directory, plan.segments, plan.budget_steps)
    if finished is None:
        heartbeat.say("training")
        code = _train(run, address)
    elif ending.is_known(directory.path, tracking_uri, finished):
        run.show_results()
        run.say_where()
        return DONE
    else:
        lost = lost_trials(directory.path)
        code = _catch_up(run, {t.id: "FAILED" if t.id in lost else "FINISHED" for t in plan.trials}, finished)
    heartbeat.say(_STATES[code])
    return code


@dataclass(frozen=True, slots=True)
class _Session:
    """What a run is told of while it ends."""

    directory: RunDirectory
    tracking_uri: str | None
    console: Console
    display: Display

    def report(self) -> Location | None:
        """Writes the report and shows its tables: nobody waits for MLflow to see them."""
        from plasticbench.analysis.report import write_report  # draws: a finished run is shown without it

        try:
            page = write_report(self.directory.path)
        except (ValueError, OSError) as error:
            self.display.problem(f"No report: {error}")
            return None
        self.show_results()
        return page.parent

    def show_results(self) -> None:
        board = leaderboard.leaderboard([self.directory.path])
        for table in standings(board.rows):
            self.console.print(table)
        for line in closing_lines(board):
            self.console.print(line, highlight=False, markup=False)
        page = self.directory.path / "report" / "index.html"
        self.console.print(f"Report: {page}", highlight=False, markup=False, soft_wrap=True)

    def say_where(self) -> None:
        uri = self.tracking_uri
        pages = masked(uri, uri) if uri else f"plasticbench ui {self.where}"
        self.console.print(f"MLflow: {pages}", highlight=False, markup=False, soft_wrap=True)

    def tell_left(self, left: int) -> None:
        trials = f"{left} {'trial' if left == 1 else 'trials'}" if left else "the report"
        self.display.waiting(
            f"MLflow is brought up to date: {trials} to go. Ctrl-C skips it, and `plasticbench resume {self.where}` "
            "goes on with it"
        )

    def tell_behind(self, reason: str) -> None:
        self.display.problem(f"MLflow is behind: {reason}\n`plasticbench resume {self.where}` brings it up to date.")

    @property
    def where(self) -> str:
        return shlex.quote(str(self.directory.path))


def _train(run: _Session, address: str | None) -> int:
    connection.prepare_environment(address)
    from plasticbench.platform.cluster import runner  # imports Ray

    directory, display = run.directory, run.display
    benchmark, plan = directory.benchmark(), directory.plan()  # all that can be wrong with them comes before a process
    with connection.connected(address):
        tracker = runner.start_tracker(directory, run.tracking_uri)
        scheduler = runner.Scheduler(directory, benchmark, plan, display, tracker)
        outcome = scheduler.run()
        report = run.report() if outcome != "interrupted" else None
        _tell_failures(run, scheduler.reasons, lost_trials(directory.path))
        behind = _wait(run, lambda: scheduler.finish_tracking(report, run.tell_left))
        if outcome == "complete" and behind is None and report is not None:
            ending.remember(directory.path, run.tracking_uri, scheduler.record_bytes)
    if outcome == "interrupted":
        run.console.print(f"Interrupted. `plasticbench resume {run.where}` goes on.", highlight=False, markup=False)
    elif report is not None:
        run.say_where()
    return INTERRUPTED if behind == _SKIPPED else _CODES[outcome]


def _follow(run: _Session, plan: Plan) -> int:
    """The loops outside the platform train: report and MLflow are brought to where their records are."""
    ended: dict[str, RunStatus] = {}
    for trial in plan.trials:
        is_over = last_step(run.directory.record_file(trial.id)) >= plan.budget_steps
        ended[trial.id] = "FINISHED" if is_over else "KILLED"
    if open_trials := list(ended.values()).count("KILLED"):
        run.display.message(f"{open_trials} of {len(ended)} trials have not reached {plan.budget_steps:,} steps yet.")
    return _catch_up(run, ended, external_bytes(run.directory, ended))


def _catch_up(run: _Session, ended: Mapping[str, RunStatus], lengths: Mapping[str, int]) -> int:
    """Nothing is left to train: the report and MLflow are brought up to date by this process."""
    report, lost = run.report(), {t: why for t, why in lost_trials(run.directory.path).items() if t in ended}
    flush = LocalFlush(run.directory, run.tracking_uri)
    with connection.interrupts():
        behind = _wait(run, lambda: flush.finish(lengths, ended, report, run.tell_left, lost))
    if behind is None and report is not None and not lost:
        ending.remember(run.directory.path, run.tracking_uri, lengths)
    run.say_where()
    _tell_failures(run, lost, lost)
    return INTERRUPTED if behind == _SKIPPED else FAILED if lost else DONE


def _wait(run: _Session, finish: Callable[[], str | None]) -> str | None:
    """Why MLflow is behind, after saying so; ``None`` if it is not."""
    try:
        behind = finish()
    except KeyboardInterrupt:
        behind = _SKIPPED
    finally:
        run.display.stop()
    if behind is not None:
        run.tell_behind(behind)
    return behind


def _tell_failures(run: _Session, failed: Mapping[str, str], lost: Mapping[str, str]) -> None:
    """Why each trial failed: once more at the end, as what was said in between may be far above.

    ``lost`` are those that failed alone, for which nothing is tried again.
    """
    for reason, count in Counter(failed.values()).items():
        run.display.problem(f"{'1 trial' if count == 1 else f'{count} trials'} failed: {reason}")
    if failed:
        again = "; `plasticbench resume` tries again" if failed.keys() - lost.keys() else ""
        run.display.problem(f"`plasticbench status {run.where}` tells more{again}.")


def _remembered_uri(directory: RunDirectory, tracking_uri: str | None) -> str | None:
    """The given store, else the one this run began with; checked before anything starts."""
    note, own = directory.tracking_note, directory.path / "mlflow.db"
    if tracking_uri is None and note.exists():
        tracking_uri = storage.read(note).decode().strip()
    if tracking_uri is None and isinstance(own, Path) and own.exists() and (problem := file_problem(own)):
        raise ValueError(f"MLflow store {problem}")
    if tracking_uri is not None:
        try:
            check(tracking_uri)
        except TrackingUnavailable as error:
            raise ValueError(f"--tracking-uri: {error}") from error
        if isinstance(note, Path):
            note.touch(mode=0o600)  # it may hold a password
            note.write_text(tracking_uri + "\n")
        else:
            storage.write_atomically(note, f"{tracking_uri}\n".encode())
    return tracking_uri


def mirror(directory: RunDirectory, tracking_uri: str) -> None:
    """Sends everything committed, and the report, to a store. Raises ``ValueError`` if it cannot be reached."""
    plan = directory.plan()
    try:
        check(tracking_uri)
        target = Mirror(directory.path, tracking_uri)
        trials = [trial.id for trial in plan.trials]
        target.pump(external_bytes(directory, trials) if plan.external else committed_bytes(directory, plan.segments))
        target.log_report(directory.path / "report")
    except TrackingUnavailable as error:
        raise ValueError(f"--tracking-uri: {error}") from error
