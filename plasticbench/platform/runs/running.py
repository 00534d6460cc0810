"""Runs a benchmark from Python: what ``plasticbench run`` calls, and a handle on what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from plasticbench.platform import shipped
from plasticbench.platform.literal import LiteralConsole
from plasticbench.platform.terminal import INTERRUPTED, no_warning, warn

if TYPE_CHECKING:
    import os

    import pandas as pd

    from plasticbench.analysis.records_table import Loaded
    from plasticbench.analysis.runs import Run, Trial
    from plasticbench.platform.definition.benchmark import Benchmark
    from plasticbench.platform.rundir import RunDirectory
    from plasticbench.storage import Location

State = Literal["complete", "failed"]


@dataclass(frozen=True)
class FinishedRun:
    """What ``run`` left in ``directory``; everything is read from there when it is first asked for.

    ``state`` is ``failed`` if some trial lacks its end: ``plasticbench status`` says why.
    """

    directory: Location
    state: State

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All planned trials, with their settings."""
        return self.plan.trials

    @cached_property
    def plan(self) -> Run:
        """What was to be trained."""
        from plasticbench.analysis.runs import load_run

        return load_run(self.directory)

    @property
    def table(self) -> pd.DataFrame:
        """All records, as ``plasticbench.load`` gives them."""
        return self._loaded.table

    @cached_property
    def _loaded(self) -> Loaded:
        return load(self.directory)

    @cached_property
    def leaderboard(self) -> pd.DataFrame:
        """The rows of ``report/leaderboard.json``."""
        import pandas as pd

        from plasticbench.analysis.leaderboard import leaderboard
        from plasticbench.analysis.leaderboard_text import to_json

        return pd.DataFrame(to_json(leaderboard([self.directory]))["rows"])

    @property
    def report(self) -> Location:
        """The page."""
        return self.directory / "report" / "index.html"


def run(
    benchmark: str | os.PathLike[str] | Mapping[str, Any] | Benchmark,
    out: str | os.PathLike[str] | None = None,
    *,
    overrides: Sequence[str] = (),
    address: str | None = None,
    tracking_uri: str | None = None,
    quiet: bool = True,
) -> FinishedRun:
    """Trains every combination of a benchmark and reports; a run of the same trials in ``out`` is gone on with.

    An interrupt (the stop button of a notebook) lets every population commit and is then raised; the same call goes on.
    Trials that fail are told on standard error and leave the state ``failed``. Nothing else is printed while ``quiet``.

    Args:
        benchmark: a benchmark file, the name of a shipped one, what such a file holds as a mapping, in which any part
            may be a built ``Config``, or a ``Benchmark``.
        out: run directory or its URI; by default ``runs/<name>``.
        overrides: ``dotted.key=value`` with YAML values, of a file alone.
        address: the Ray cluster to join; by default RAY_ADDRESS, else a Ray of its own.
        tracking_uri: an MLflow store; by default ``mlflow.db`` in the run directory.
        quiet: whether not to show progress and results.

    Raises:
        ValueError: bad input, one line per problem, before anything starts.
        KeyboardInterrupt: after an interrupt.
    """
    from plasticbench.platform.cluster.connection import prepare_environment

    prepare_environment(address)  # before anything that the benchmark names may import Ray
    from plasticbench.platform.definition.names import folder_name
    from plasticbench.platform.planning.going_on import refusal_note
    from plasticbench.platform.planning.plan import make_plan
    from plasticbench.platform.training.ends import can_be_gone_on_from

    tell = no_warning if quiet else warn
    read = _read(benchmark, overrides, tell)
    plan = make_plan(read)
    if (note := refusal_note(read, plan)) is not None:
        tell(note)
    directory = directory_of(str(out) if out is not None else f"runs/{folder_name(read.name)}")
    directory.require_tracking(tracking_uri)
    with directory.lock():
        taken = directory.create(read, plan, partial(can_be_gone_on_from, directory))
        if taken and not quiet:
            LiteralConsole().print(f"From now on: {taken}.", highlight=False, soft_wrap=True)
        return go_on(directory, address=address, tracking_uri=tracking_uri, quiet=quiet)


def go_on(directory: RunDirectory, *, address: str | None, tracking_uri: str | None, quiet: bool) -> FinishedRun:
    """Trains what is left of a run whose lock the caller holds. Raises as ``run`` does."""
    from plasticbench.platform import session  # ray and mlflow take seconds to import: only where they are needed
    from plasticbench.platform.training.soundness import require_sound_records

    require_sound_records(directory)
    console = LiteralConsole(quiet=quiet)
    code = session.execute(directory, console, address=address, tracking_uri=tracking_uri, quiet=quiet)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    return FinishedRun(directory.path, "complete" if code == session.DONE else "failed")


def directory_of(text: str) -> RunDirectory:
    """The run directory at a path or a URI."""
    from plasticbench.platform.rundir import RunDirectory
    from plasticbench.storage import connect

    return RunDirectory(connect(text))


def load(run_dir: str | Path | Location) -> Loaded:
    """All records of a run, finished or not, and its plan.

    Texts are categorical, steps are agent steps, a value that was not a number is NaN. A trial without records has no
    rows: whoever counts trials takes them from the plan. ``run_dir`` is a path or a URI such as ``s3://BUCKET/FOLDER``.
    Raises ``ValueError`` where there is no run, for records that are not what was committed, and for a line that is no
    record, by file and number.
    """
    from plasticbench.analysis import records_table

    return records_table.load(sound_location(run_dir))


def sound_location(run_dir: str | Path | Location) -> Location:
    """The run directory at a path or a URI. Raises ``BenchmarkError`` if its records are not what was committed."""
    from plasticbench.platform.rundir import RunDirectory
    from plasticbench.platform.training.soundness import require_sound_records
    from plasticbench.storage import connect

    directory = RunDirectory(connect(run_dir))
    require_sound_records(directory)
    return directory.path


def _read(benchmark: Any, overrides: Sequence[str], warn_of: Callable[[str], None]) -> Benchmark:
    from plasticbench.envs import _own_modules
    from plasticbench.platform.definition.benchmark import Benchmark
    from plasticbench.platform.definition.reading import from_dict, load
    from plasticbench.platform.runs.built import plain

    if not isinstance(benchmark, Mapping | Benchmark):
        return load(_file(str(benchmark)), overrides, warn_of)
    if overrides:
        raise ValueError("overrides: they change a file; of a mapping or a Benchmark change its own values")
    if isinstance(benchmark, Benchmark):
        return benchmark
    with _own_modules.searching([Path.cwd()]):
        return from_dict(plain(benchmark), warn=warn_of)


def _file(given: str) -> Path:
    try:
        return shipped.resolved(given)
    except typer.BadParameter as error:  # as the command line wants it
        raise ValueError(error.message) from None
