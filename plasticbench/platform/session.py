"""One run of one benchmark from a prepared run directory: Ray, tracking, report."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from plasticbench import storage
from plasticbench.analysis import leaderboard
from plasticbench.analysis.report import write_report
from plasticbench.platform.cluster import connection
from plasticbench.platform.display import Display, make_display, standings
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.tracking.mirror import Mirror, TrackingUnavailable, check, masked
from plasticbench.platform.tracking.tracker import committed_bytes
from plasticbench.storage import Location

if TYPE_CHECKING:
    from plasticbench.platform.cluster.runner import Outcome

DONE, FAILED, INTERRUPTED = 0, 1, 130


def execute(
    directory: RunDirectory, console: Console, *, address: str | None, tracking_uri: str | None, quiet: bool
) -> int:
    """Trains what is left of the plan and reports; returns the exit code.

    Raises ``ValueError`` before anything starts if the tracking store cannot be reached.
    """
    connection.prepare_environment(address)
    from plasticbench.platform.cluster import runner  # imports Ray

    tracking_uri = _remembered_uri(directory, tracking_uri)
    benchmark, plan = directory.benchmark(), directory.plan()
    display = make_display(console, quiet)
    with connection.connected(address):
        tracker = runner.start_tracker(directory, tracking_uri)
        scheduler = runner.Scheduler(directory, benchmark, plan, display, tracker)
        outcome = scheduler.run()
        report = _report(directory, display) if outcome != "interrupted" else None
        behind = scheduler.finish_tracking(report.parent if report else None)
    _farewell(directory, console, outcome, report, behind, tracking_uri)
    return {"complete": DONE, "failed": FAILED, "interrupted": INTERRUPTED}[outcome]


def _remembered_uri(directory: RunDirectory, tracking_uri: str | None) -> str | None:
    """The given store, else the one this run began with; checked before anything starts."""
    note = directory.tracking_note
    if tracking_uri is None and note.exists():
        tracking_uri = storage.read(note).decode().strip()
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


def _report(directory: RunDirectory, display: Display) -> Location | None:
    try:
        return write_report(directory.path)
    except ValueError as error:
        display.message(f"No report: {error}")
        return None


def _farewell(
    directory: RunDirectory,
    console: Console,
    outcome: Outcome,
    report: Location | None,
    behind: str | None,
    tracking_uri: str | None,
) -> None:
    where = shlex.quote(str(directory.path))
    if behind is not None:
        console.print(f"MLflow is behind: {behind}\n`plasticbench resume {where}` brings it up to date.", markup=False)
    if outcome == "interrupted":
        console.print(f"Interrupted. `plasticbench resume {where}` goes on.", highlight=False, markup=False)
        return
    if report is None:
        return
    for table in standings(leaderboard.leaderboard([directory.path]).rows):
        console.print(table)
    console.print(f"Report: {report}", highlight=False, markup=False, soft_wrap=True)
    pages = masked(tracking_uri, tracking_uri) if tracking_uri else f"plasticbench ui {where}"
    console.print(f"MLflow: {pages}", highlight=False, markup=False, soft_wrap=True)


def mirror(directory: RunDirectory, tracking_uri: str) -> None:
    """Sends everything committed, and the report, to a store. Raises ``ValueError`` if it cannot be reached."""
    plan = directory.plan()
    try:
        check(tracking_uri)
        target = Mirror(directory.path, tracking_uri)
        target.pump(committed_bytes(directory, plan.segments))
        target.log_report(directory.path / "report")
    except TrackingUnavailable as error:
        raise ValueError(f"--tracking-uri: {error}") from error
