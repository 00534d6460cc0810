"""``plasticbench suite``: a fixed set of tasks, tuned and reported by one protocol, beside what was published."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plasticbench.platform.runs.options import Address, AsJson, Quiet
from plasticbench.platform.terminal import FAILED, err, out, people_errors

if TYPE_CHECKING:
    from plasticbench.platform.suites.definition import Suite
    from plasticbench.platform.suites.entries import Entries, Entry
    from plasticbench.platform.suites.running import SuiteRun

Name = Annotated[
    str, typer.Argument(help="A suite such as quick or lite-v1 (the newest version without one), or its folder.")
]
Results = Annotated[
    Path | None, typer.Option("--results", help="Published results; default: those that come with the package.")
]

suite_app = typer.Typer(
    no_args_is_help=True, help="Suites: tasks that tell methods apart, one protocol, published results."
)


@suite_app.command("list")
def list_suites(as_json: AsJson = False) -> None:
    """Lists the suites that come with the package, with their tasks and methods, and what is published."""
    from plasticbench.platform.suites.definition import find_suite, suite_names
    from plasticbench.platform.suites.publishing import published

    with people_errors():
        rows: list[dict[str, Any]] = [
            {
                "name": suite.label,
                "summary": suite.description,
                "tasks": [task.name for task in suite.tasks],
                "methods": [method.name for method in suite.methods],
                "num_published": len(published(suite)),
            }
            for suite in map(find_suite, suite_names())
        ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        out.print(f"{row['name']}  {row['summary']}", highlight=False, soft_wrap=True)
        for name in ("tasks", "methods"):
            out.print(f"    {name}: {', '.join(row[name])}", highlight=False, soft_wrap=True)
        out.print(
            f"    published: {row['num_published']} of {len(row['tasks']) * len(row['methods'])}", highlight=False
        )


@suite_app.command()
def run(
    name: Name,
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Folder for the runs; default: runs/NAME-vVERSION.")
    ] = None,
    method: Annotated[
        list[Path] | None,
        typer.Option("--method", help="File with methods of your own, each with its tune. Repeatable."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Of the suite's methods this one. Repeatable.")
    ] = None,
    again: Annotated[
        list[str] | None, typer.Option("--again", help="Train this published method anew, and compare. Repeatable.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option("--task", help="On this task alone. Repeatable.")] = None,
    results: Results = None,
    address: Address = None,
    quiet: Quiet = False,
) -> None:
    """Tunes and runs what has no published result yet, and ranks it beside what has; the same command goes on."""
    with people_errors():
        from plasticbench.platform.cluster.connection import prepare_environment

        prepare_environment(address)
        from plasticbench.platform.runs import running
        from plasticbench.platform.suites import publishing
        from plasticbench.platform.suites.definition import find_suite, read_methods
        from plasticbench.platform.suites.running import SuiteRun, left_out, methods_to_run, tasks_to_run

        suite = find_suite(name)
        known = publishing.published(suite, results or publishing.FOLDER)
        own = [one for path in method or [] for one in read_methods(path, suite)]
        tasks = tasks_to_run(suite, known, only=task or [], again=again or [])
        wanted = methods_to_run(suite, known, own=own, only=only or [], again=again or [], tasks=tasks)
        runs = SuiteRun(
            suite, out_dir or Path("runs") / suite.label, partial(running.run, address=address, quiet=quiet)
        )
        made = runs.run(wanted, tasks, left_out(tasks, wanted, known, is_again=bool(again)))
        is_whole = _told(runs, known, made, quiet)
    if not is_whole:
        raise typer.Exit(FAILED)


def _told(runs: SuiteRun, known: Entries, made: Sequence[Entry], quiet: bool) -> bool:
    """Writes and shows the tables; whether all trials of what was made came to their ends."""
    from plasticbench.platform.suites import publishing
    from plasticbench.platform.suites.entries import is_whole, read_entries
    from plasticbench.platform.suites.running import RECORDS

    suite, folder = runs.suite, runs.out
    tasks = {task.name for task in suite.tasks}  # a file that tunes may have lost one since
    own = {key: entry for key, entry in read_entries(folder / RECORDS).items() if key[0] in tasks}
    publishing.write_tables(suite, {**known, **own}, folder)
    if not quiet:
        typer.echo((folder / "leaderboard.md").read_text(encoding="utf-8"))
        for line in publishing.compared(suite, known, made):
            out.print(line, highlight=False, soft_wrap=True)
        out.print(f"{folder / 'leaderboard.html'}", highlight=False, soft_wrap=True)
    is_all_there = all(is_whole(entry, suite) for entry in made)
    if not is_all_there:
        err.print("Some trials failed: the same command tries them again.", highlight=False)
    return is_all_there


def run_tuned(suite: Suite, out_dir: str | None, *, address: str | None, tracking_uri: str | None, quiet: bool) -> bool:
    """Runs a benchmark file that tunes; whether all of its trials came to their ends. Raises ``ValueError``."""
    from plasticbench.platform.cluster.connection import prepare_environment

    prepare_environment(address)
    from plasticbench.platform.rundir import RunDirectory
    from plasticbench.platform.runs import running
    from plasticbench.platform.suites.running import SuiteRun

    if out_dir is not None and "://" in out_dir:
        raise ValueError(f"--out: a file that tunes needs a local folder, got {out_dir!r}")
    folder = Path(out_dir or Path("runs") / suite.label)
    if RunDirectory(folder).plan_file.exists():
        raise ValueError(f"--out: {folder} holds a run that tunes nothing. Choose another directory")
    train = partial(running.run, address=address, tracking_uri=tracking_uri, quiet=quiet)
    runs = SuiteRun(suite, folder, train)
    return _told(runs, {}, runs.run(suite.methods), quiet)


@suite_app.command()
def add(
    result: Annotated[Path, typer.Argument(help="What `suite run` left: its folder, or the records in it.")],
    to: Annotated[
        str | None, typer.Option("--to", help="Another suite, for the tasks that it shares with that of the result.")
    ] = None,
    results: Results = None,
) -> None:
    """Checks results against their suite, publishes them, and makes the tables anew."""
    with people_errors():
        from plasticbench.platform.suites import adding, publishing

        suite, added = adding.add(result, results or publishing.FOLDER, to)
    for task, method in added:
        out.print(f"Added {method} on {task}.", highlight=False, soft_wrap=True)
    out.print(f"{suite.label}: {len(added)} results added, tables made anew.", highlight=False)


@suite_app.command()
def table(
    name: Name,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether the tables are what the records give.")
    ] = False,
    results: Results = None,
) -> None:
    """Makes the published tables of a suite anew, from its published records alone."""
    with people_errors():
        from plasticbench.platform.suites import publishing
        from plasticbench.platform.suites.definition import find_suite

        suite, folder = find_suite(name), results or publishing.FOLDER
        if not check:
            publishing.write_tables(suite, publishing.published(suite, folder), folder / suite.label)
        elif wrong := publishing.differing(suite, folder):
            raise ValueError(
                f"{suite.label}: {', '.join(wrong)} are not what the records give: `plasticbench suite table {name}`"
            )
