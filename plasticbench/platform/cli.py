"""The command line: parses arguments and calls, nothing else."""

# PyTorch, Ray, MLflow, pandas and whatever imports them are imported by the commands that need them.

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from plasticbench import __version__, plugins
from plasticbench.code_commit import code_commit
from plasticbench.platform import shipped
from plasticbench.platform.jobs_commands import Dashboard, follow_job, jobs_app, say_how_to_follow
from plasticbench.platform.runs.commands import RunDir, clean, export, list_runs, power
from plasticbench.platform.runs.options import (
    Address,
    AsJson,
    Config,
    Overrides,
    Quiet,
    Repair,
    SameUri,
    Uri,
    UriToo,
)
from plasticbench.platform.runs.planning import plan
from plasticbench.platform.suites.commands import run_tuned, suite_app
from plasticbench.platform.terminal import DONE, FAILED, no_warning, out, people_errors, styled, warn
from plasticbench.visible import visible

if TYPE_CHECKING:
    from plasticbench.platform.rundir import RunDirectory
    from plasticbench.platform.runs.running import FinishedRun
    from plasticbench.platform.suites.definition import Suite

LISTED = sorted([*plugins.PACKAGES, "configs", "runs"])

_HELP = "Trains, tracks and compares ways of keeping deep RL agents plastic. It begins with: plasticbench run CONFIG"
_EXAMPLES = """
Examples:

plasticbench run quickstart --out runs/first

plasticbench new mine.yaml --from quickstart, then: plasticbench plan mine.yaml --time

plasticbench run mine.yaml --set seeds=10 --set methods.shrink_perturb.keep=0.9
"""
_TRAIN, _LOOK, _KNOW, _CLUSTER = "Train", "Look at runs", "What there is, and what works", "Clusters"
app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=_HELP, epilog=_EXAMPLES
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        commit = code_commit()
        typer.echo(f"plasticbench {__version__}" + (f", commit {commit}" if commit else ""))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print version and commit.", callback=_tell_version, is_eager=True)
    ] = False,
) -> None:
    pass


app.add_typer(jobs_app, name="jobs", rich_help_panel=_CLUSTER)
app.add_typer(suite_app, name="suite", rich_help_panel=_TRAIN)


@app.command(rich_help_panel=_TRAIN)
def run(
    config: Config,
    out_dir: Annotated[str | None, typer.Option("--out", help="Run directory or its URI; default: runs/NAME.")] = None,
    set_: Overrides = None,
    address: Address = None,
    tracking_uri: Uri = None,
    quiet: Quiet = False,
) -> None:
    """Trains every combination of a benchmark file and reports."""
    _listen_to_logs()
    with people_errors():
        from plasticbench.platform.runs import running

        _require_absolute_in_job(out_dir)
        if (tuned := _tuned_suite(config, set_ or [])) is not None:
            is_whole = run_tuned(tuned, out_dir, address=address, tracking_uri=tracking_uri, quiet=quiet)
            raise typer.Exit(DONE if is_whole else FAILED)
        done = running.run(
            config, out_dir, overrides=set_ or [], address=address, tracking_uri=tracking_uri, quiet=quiet
        )
    raise typer.Exit(_exit_code(done))


def _tuned_suite(path: Path, overrides: list[str]) -> Suite | None:
    if not path.is_file() or b"tuning_seeds" not in path.read_bytes():
        return None
    from plasticbench.platform.suites.tuned_file import read_tuned_file

    return read_tuned_file(path, overrides)


@app.command(rich_help_panel=_TRAIN)
def resume(
    run_dir: RunDir,
    address: Address = None,
    tracking_uri: SameUri = None,
    repair: Repair = False,
    quiet: Quiet = False,
) -> None:
    """Goes on with a run that was interrupted or that failed."""
    _listen_to_logs()
    with people_errors():
        from plasticbench.platform.cluster.connection import prepare_environment
        from plasticbench.platform.runs import running

        prepare_environment(address)
        _require_absolute_in_job(run_dir)
        directory = _directory(run_dir)
        directory.require()
        directory.require_tracking(tracking_uri)
        with directory.lock():
            if repair:
                _repair(directory, quiet)
            done = running.go_on(directory, address=address, tracking_uri=tracking_uri, quiet=quiet)
    raise typer.Exit(_exit_code(done))


def _listen_to_logs() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")


def _exit_code(done: FinishedRun) -> int:
    return DONE if done.state == "complete" else FAILED


def _repair(directory: RunDirectory, quiet: bool) -> None:
    from plasticbench.platform.training.soundness import go_back

    for name in go_back(directory):
        if not quiet:
            out.print(f"{name} goes back to the last commit whose records are sound.", highlight=False, soft_wrap=True)


def _require_absolute_in_job(out_dir: str | None) -> None:
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:  # Ray sets it for the drivers of jobs
        _require_absolute(out_dir or "")


def _require_absolute(out_dir: str) -> None:
    if not (out_dir.startswith("/") or re.match(r"[a-z0-9]+:/", out_dir)):
        raise ValueError(
            "--out: a job needs an absolute path or a URI on storage that all nodes share, because a relative one lies "
            f"in a temporary folder of one node, got {out_dir or 'none'!r}"
        )


def _directory(text: str) -> RunDirectory:
    from plasticbench.platform.runs.running import directory_of

    return directory_of(text)


app.command(rich_help_panel=_TRAIN)(plan)


@app.command(rich_help_panel=_LOOK)
def report(run_dir: RunDir, tracking_uri: UriToo = None) -> None:
    """Rebuilds the report from the run's own files; with --tracking-uri also brings that MLflow store up to date."""
    with people_errors():
        directory = _directory(run_dir)
        from plasticbench.analysis.report import write_report
        from plasticbench.platform.training.soundness import require_sound_records

        require_sound_records(directory)
        out.print(str(write_report(directory.path)), highlight=False, soft_wrap=True)
        if tracking_uri is not None:
            from plasticbench.platform import session

            session.mirror(directory, tracking_uri)


@app.command(rich_help_panel=_LOOK)
def status(run_dir: RunDir, as_json: AsJson = False) -> None:
    """Says what is done, running or failed and why, and the time left: also of a run on another machine."""
    with people_errors():
        from plasticbench.platform import status as standing

        found = standing.status(_directory(run_dir))
    if as_json:
        typer.echo(json.dumps(standing.to_json(found), indent=2))
    else:
        for line in standing.to_text(found):
            out.print(line, highlight=False, markup=False, soft_wrap=True)


@app.command(rich_help_panel=_LOOK)
def leaderboard(
    run_dirs: Annotated[list[str], typer.Argument(help="Run directories or their URIs, compared in one table.")],
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(help="Also write the table to this HTML file.")] = None,
) -> None:
    """Ranks methods over one or more runs."""
    with people_errors():
        from plasticbench.analysis.leaderboard import leaderboard as rank
        from plasticbench.analysis.leaderboard_text import to_json, to_markdown
        from plasticbench.platform.runs.running import sound_location

        board = rank([sound_location(run_dir) for run_dir in run_dirs])
        if html is not None:
            from plasticbench.analysis.report import write_leaderboard_html

            write_leaderboard_html(board, html)
        typer.echo(json.dumps(to_json(board), indent=2, allow_nan=False) if as_json else to_markdown(board.rows))


app.command(rich_help_panel=_LOOK)(power)
app.command(rich_help_panel=_LOOK)(export)
app.command(rich_help_panel=_LOOK)(clean)


@app.command(rich_help_panel=_TRAIN)
def new(
    path: Annotated[Path, typer.Argument(help="Where to write it.")],
    from_: Annotated[
        str, typer.Option("--from", help="A shipped benchmark: plasticbench list configs.")
    ] = "quickstart",
) -> None:
    """Starts a benchmark file of your own from a shipped one."""
    with people_errors():
        shipped.start_new(path, from_)
    typer.echo(f"Wrote {path}. Next: plasticbench plan {shlex.quote(str(path))}")


@app.command("list", rich_help_panel=_KNOW)
def list_(
    group: Annotated[str, typer.Argument(help=f"One of: {', '.join(LISTED)}.")],
    name: Annotated[
        str | None,
        typer.Argument(
            help="One of the group, to see its settings; after runs: the folder where they are, by default runs."
        ),
    ] = None,
    family: Annotated[
        str | None, typer.Option(help="After treatments: one of treatments, structures, optimizers; default: all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Lists plug-ins or shipped files in a line each, one plug-in with its settings, or the runs in a folder."""
    with people_errors():
        if group not in LISTED:
            raise ValueError(f"there is no group {group!r}. {plugins.did_you_mean(group, LISTED)}")
        if group == "runs":
            list_runs(name or "runs", as_json)
            return
        from plasticbench.platform import explain as explanations

        rows: Any = explanations.rows(group, family)
        if name is not None and group == "configs":
            raise ValueError(
                f"NAME: shipped files have no settings of their own, got {name!r}. plasticbench plan {name}"
            )
        if name is not None:
            rows = [explanations.with_settings(group, name)]
        elif group == "configs":
            rows = [{"name": name, "summary": shipped.summary(name)} for name in shipped.names()]
        elif not rows:
            rows = [explanations.plugin_row(group, name) for name in plugins.names(group)]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        _show_row(row)


def _show_row(row: Any) -> None:
    from plasticbench.platform import explain as explanations

    out.print(styled(str(row["name"]), "bold", f"  {row['summary']}"), highlight=False)
    if row.get("presets"):
        out.print(f"    presets: {', '.join(row['presets'])}", highlight=False)
    if row.get("hooks"):
        about = f"acts at {', '.join(row['hooks'])}; {row['citation'] or 'no source'}"
        out.print(f"    {about}", highlight=False, markup=False, soft_wrap=True)
    for line in explanations.setting_lines(row.get("settings", {})):
        out.print(f"    {line}".replace("`", ""), highlight=False, soft_wrap=True)
    for task, source in row.get("references", {}).items():
        out.print(f"    {task}  {source}", highlight=False, soft_wrap=True)
    for title, tasks in row.get("groups", {}).items():
        out.print(f"    {title}: {len(tasks)}, such as {tasks[0]}", highlight=False)


_MARKS = {"works": "green", "absent": "yellow", "broken": "red"}


@app.command(rich_help_panel=_KNOW)
def explain(
    kind: Annotated[
        str, typer.Argument(help="Any kind that a file may name: plasticbench list treatments, list probes...")
    ],
) -> None:
    """Says what a kind does, where it comes from, and what it can be given; of a treatment also where it works."""
    with people_errors():
        from plasticbench.platform import explain as explanations

        typer.echo(explanations.explain(kind))


@app.command(rich_help_panel=_KNOW)
def doctor(
    as_json: AsJson = False,
    address: Annotated[
        str | None, typer.Option(help="Also look at this Ray cluster: http://HOST:8265 or HOST:6379.")
    ] = None,
) -> None:
    """Says what works on this machine, and which command mends what does not."""
    from plasticbench.platform.doctor import cluster, examine, gpu

    findings = examine() + ([] if address is None else [cluster(address)])
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(finding) for finding in [*findings, gpu()]], indent=2))
    else:
        for finding in [*findings, gpu()]:
            mark = "works" if finding.works else "absent" if finding.optional else "broken"
            line = Text.assemble(f"{finding.name:<11} ", (mark, _MARKS[mark]), f"  {visible(finding.detail)}")
            out.print(line, highlight=False)
            if not finding.works and finding.mend:
                out.print(f"            mend: {finding.mend}", highlight=False)
    if not all(finding.works or finding.optional for finding in findings):
        raise typer.Exit(FAILED)


@app.command(rich_help_panel=_CLUSTER)
def submit(
    config: Config,
    out_dir: Annotated[str, typer.Option("--out", help="Run directory on storage that all nodes share.")],
    address: Dashboard = None,
    set_: Overrides = None,
    tracking_uri: Uri = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors and the job's id.")] = False,
    wait: Annotated[bool, typer.Option(help="Follow the job and exit with its code.")] = True,
) -> None:
    """Runs a benchmark file as a job on a Ray cluster; submit it again with the same --out to go on with it."""
    with people_errors():
        from plasticbench.platform.definition.reading import load

        _require_absolute(out_dir)
        benchmark = load(config, set_ or [], no_warning if quiet else warn)
        options = [part for setting in set_ or [] for part in ("--set", setting)]
        options += ["--quiet"] if quiet else []
        from plasticbench.platform.cluster import jobs

        with jobs.job_server(address) as client:
            from plasticbench.envs import _own_modules

            modules = _own_modules.archive(benchmark.modules)
            job_id = jobs.submit(
                client, config, benchmark.name, out_dir, options, tracking_uri=tracking_uri, modules=modules
            )
    out.print(f"Submitted {job_id}.", highlight=False, soft_wrap=True)
    if wait:
        follow_job(address, job_id)
    elif not quiet:
        say_how_to_follow(address, job_id)


@app.command(rich_help_panel=_LOOK)
def ui(
    run_dir: RunDir,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.", min=1, max=65535)] = 5000,
) -> None:
    """Serves MLflow's pages for a run's own store on this machine, until interrupted."""
    with people_errors():
        directory = _directory(run_dir)
        directory.require()
        from plasticbench.platform.tracking.pages import serve

        serve(directory, port, lambda text: out.print(text, highlight=False, markup=False, soft_wrap=True))


def main() -> None:
    """Entry point of the ``plasticbench`` command."""
    app()
