"""Live progress on a terminal, plain lines elsewhere, nothing when asked to be quiet."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console, RenderableType
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.status import Status
from rich.table import Column, Table
from rich.text import Text

from plasticbench.analysis.headline import answer
from plasticbench.analysis.leaderboard import Leaderboard
from plasticbench.analysis.leaderboard_text import by_raw_return, diverged_text, left_out, not_finite_text, rank_text
from plasticbench.analysis.plasticity_text import plasticity_answer
from plasticbench.analysis.rows import ALL, Estimate, Row
from plasticbench.platform.heartbeat import Pace, duration
from plasticbench.platform.literal import LiteralConsole
from plasticbench.visible import visible

if TYPE_CHECKING:
    from plasticbench.platform.training.segment import Progress

_PLAIN_PERIOD_S = 15.0
_SPEED_PERIOD_S = 300.0  # the time that is left should not jump with every evaluation
_MAX_ROWS = 20  # populations that fit a screen


class TrialCounts(NamedTuple):
    """How many trials of a run are in each state; they wait for a place, or for the shared training they start from."""

    done: int
    running: int
    waiting: int
    failed: int

    @classmethod
    def of(cls, trials: set[str], *, done: set[str], running: Iterable[str], failed: set[str]) -> TrialCounts:
        """Those among ``trials``; who failed is neither done nor running."""
        lost = trials & failed
        ended, under_way = trials & done - lost, trials.intersection(running) - lost
        waiting = len(trials) - len(lost) - len(ended) - len(under_way)
        return cls(done=len(ended), running=len(under_way), waiting=waiting, failed=len(lost))

    def __str__(self) -> str:
        told = [f"{count} {state}" for state, count in self._asdict().items() if count]
        return f"{sum(self)} {'trial' if sum(self) == 1 else 'trials'}: {', '.join(told)}"


class Display:
    """Shows running segments. This one shows nothing but problems, as ``--quiet`` asks."""

    def __init__(self) -> None:
        self._errors = LiteralConsole(stderr=True)

    def start(self) -> None:
        """Takes over the terminal."""

    def update(self, running: Sequence[Progress], member_steps_left: int) -> None:
        """Shows the segments that run now; ``member_steps_left`` counts those and all that wait."""

    def trials(self, counts: TrialCounts) -> None:
        """What stands beside the lines of the next ``update``."""

    def message(self, text: str) -> None:
        """A line that stays and must not be missed."""

    def problem(self, text: str) -> None:
        """What went wrong, on standard error whatever else is shown."""
        self._errors.print(text, highlight=False, markup=False, soft_wrap=True)

    def waiting(self, text: str) -> None:
        """What the driver waits for when nothing trains any more; the newest text is what counts."""

    def stop(self) -> None:
        """Gives the terminal back."""


def make_display(console: Console, quiet: bool) -> Display:
    """The display that suits where output goes."""
    if quiet:
        return Display()
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)


class _Bars(Bars):
    """Lines below one of text."""

    counts: TrialCounts | None = None

    def get_renderables(self) -> Iterator[RenderableType]:
        """What is drawn."""
        if self.counts is not None:
            yield Text(str(self.counts))
        yield from super().get_renderables()


class LiveDisplay(Display):
    """A line for everything and one for each population, redrawn in place and never wider than the terminal."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._bars = _Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            TextColumn("{task.fields[speed]}", justify="right", table_column=Column(width=14, no_wrap=True)),
            TextColumn("{task.fields[evaluation]}", justify="right", table_column=Column(width=16, no_wrap=True)),
            TimeRemainingColumn(table_column=Column(width=9, justify="right", no_wrap=True)),
            TextColumn("left", style="progress.remaining"),
            console=console,
            auto_refresh=False,
            transient=True,
            expand=True,
            speed_estimate_period=_SPEED_PERIOD_S,
        )
        self._all = self._bars.add_task(self._name("all populations"), total=None, speed="", evaluation="")
        self._began_s = time.monotonic()
        self._running: set[str] = set()
        self._num_ended = 0
        self._populations: dict[str, TaskID] = {}
        self._total: int | None = None
        self._status: Status | None = None

    def start(self) -> None:
        """Takes over the terminal."""
        self._bars.start()

    def update(self, running: Sequence[Progress], member_steps_left: int) -> None:
        """Redraws all lines at once."""
        shown = running[: min(_MAX_ROWS, max(self._console.height - 3, 0))]
        now = {progress.segment for progress in running}
        self._num_ended += len(self._running - now)
        self._running = now
        self._show_all(len(running) - len(shown), member_steps_left)
        for progress in shown:
            if progress.segment not in self._populations:
                self._populations[progress.segment] = self._add(progress)
        for segment in self._populations.keys() - {progress.segment for progress in shown}:
            self._bars.remove_task(self._populations.pop(segment))
        for progress in shown:
            self._show(progress)
        self._bars.refresh()

    def trials(self, counts: TrialCounts) -> None:
        """A line above all others."""
        self._bars.counts = counts

    def _add(self, progress: Progress) -> TaskID:
        """A line that is not seen yet, as this draws at once; what was done before is no measure of its speed."""
        span, done = progress.to_step - progress.from_step, progress.step - progress.from_step
        return self._bars.add_task("", total=span, completed=done, visible=False)

    def _show_all(self, num_hidden: int, member_steps_left: int) -> None:
        self._total = total = member_steps_left if self._total is None else self._total
        done = total - member_steps_left
        self._bars.update(
            self._all,
            total=total,
            completed=done,
            description=self._name(f"all, {num_hidden} not shown" if num_hidden else "all populations"),
            speed=f"{done / max(total, 1):.0%} {duration(time.monotonic() - self._began_s)}",
            evaluation=f"{self._num_ended} done" if self._num_ended else "",
        )

    def _show(self, progress: Progress) -> None:
        self._bars.update(
            self._populations[progress.segment],
            completed=progress.step - progress.from_step,
            visible=True,
            description=self._name(progress.segment.rpartition("--")[0]),  # without its steps, which the bar shows
            speed=f"{progress.steps_per_s:,.0f} steps/s",
            evaluation=_outcome(progress),
        )

    def _name(self, name: str) -> str:
        """Three tenths of the terminal; what is too long loses its middle, as its ends tell task and seed."""
        width = self._console.width * 3 // 10
        return name.ljust(width) if len(name) <= width else f"{name[: (width - 1) // 2]}…{name[-(width // 2) :]}"

    def message(self, text: str) -> None:
        """Prints above the lines."""
        self._console.print(text, highlight=False, markup=False)

    def problem(self, text: str) -> None:
        """Above the lines where standard error is the same terminal."""
        if self._errors.is_terminal:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            super().problem(text)

    def waiting(self, text: str) -> None:
        """A line that is redrawn in place until ``stop``."""
        if self._status is None:
            self._status = self._console.status("")
            self._status.start()
        self._status.update(Text(text))

    def stop(self) -> None:
        """Removes the lines."""
        self._bars.stop()
        if self._status is not None:
            self._status.stop()
            self._status = None


class PlainDisplay(Display):
    """One line per population every few seconds, for logs."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._pace = Pace()
        self._counts: TrialCounts | None = None
        self._last_print = 0.0

    def update(self, running: Sequence[Progress], member_steps_left: int) -> None:
        """Prints if the last lines are old enough."""
        left = duration(self._pace.seconds_left(member_steps_left))
        if time.monotonic() - self._last_print < _PLAIN_PERIOD_S:
            return
        self._last_print = time.monotonic()
        if self._counts is not None:
            self.message(str(self._counts))
        if len(running) > _MAX_ROWS:
            self.message(f"{len(running)} populations run: {member_steps_left:,} member-steps to go, about {left}")
            return
        for p in running:
            diverged = f", values diverged in {p.num_overvalued} of {p.num_members} members" if p.num_overvalued else ""
            if p.num_not_finite:
                diverged += f", not finite: {p.num_not_finite} of {p.num_members} members"
            self.message(
                f"{p.segment}: step {p.step:,} of {p.to_step:,}, {p.num_members} members, {p.steps_per_s:,.0f} steps/s,"
                f" last return {_evaluation(p)}{diverged}, all done in about {left}"
            )

    def trials(self, counts: TrialCounts) -> None:
        """Printed with the next lines."""
        self._counts = counts

    def waiting(self, text: str) -> None:
        """Prints if the last line is old enough."""
        if time.monotonic() - self._last_print >= _PLAIN_PERIOD_S:
            self._last_print = time.monotonic()
            self.message(text)

    def message(self, text: str) -> None:
        """Prints a line at once."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def _evaluation(progress: Progress) -> str:
    return "-" if progress.last_evaluation is None else f"{progress.last_evaluation:.1f}"


def _outcome(progress: Progress) -> str:
    """What fits a line: where values diverged or ended, a return means little."""
    if progress.num_not_finite:
        return f"{progress.num_not_finite}/{progress.num_members} not finite"
    if progress.num_overvalued:
        return f"{progress.num_overvalued}/{progress.num_members} diverged"
    return f"return {_evaluation(progress)}"


def standings(rows: Sequence[Row]) -> Iterator[Table]:
    """The leaderboard for a terminal: one table per task, and one for all if there are several."""
    tasks = list(dict.fromkeys(row.task for row in rows))
    for task in [task for task in tasks if task != ALL] if len(tasks) == 2 else tasks:
        own = [row for row in rows if row.task == task]
        title = Text("\n" + ("all tasks" if task == ALL else visible(task)), style="table.title")
        table = Table(title=title, title_justify="left", box=None, pad_edge=False)
        columns = _columns(own)
        for heading in columns:
            is_text = heading in ("rank", "method", own[0].trained)
            table.add_column(
                heading, justify="left" if is_text else "right", no_wrap=heading not in ("method", own[0].trained)
            )
            table.columns[-1].overflow = "fold"
        for cells in zip(*columns.values(), strict=True):
            table.add_row(*(Text(cell) for cell in cells))
        remark = left_out(rows) if task == ALL else by_raw_return(own)
        agents = {row.agent for row in own}
        trained = f"{own[0].trained} {visible(own[0].agent)}, {_seeds(own[0].n_seeds)}" if len(agents) == 1 else ""
        notes = sorted({row.note for row in own if row.note}) + [remark] * bool(remark) + [trained] * bool(trained)
        table.caption = Text(
            visible("; ".join([f"IQM of {own[0].measure}s [95% interval]", *notes])), style="table.caption"
        )
        yield table


def _seeds(count: int) -> str:
    return f"{count} seed{'s' * (count != 1)}"


def _columns(own: Sequence[Row]) -> dict[str, list[str]]:
    """Cells by heading; what all methods have in common needs no column, and is said below the table."""
    has_one_agent = len({(row.agent, row.n_seeds) for row in own}) == 1
    columns = {
        "rank": ["-" if row.final.rank is None else rank_text(row.final) for row in own],
        "method": [visible(row.method) for row in own],
        own[0].trained: [visible(row.agent) for row in own],
        f"final {own[0].measure}": [_estimate(row.final.iqm) for row in own],
        "after the event": [_estimate(row.after.iqm) for row in own],
        "return": ["-" if row.summary.mean_return is None else f"{row.summary.mean_return:.1f}" for row in own],
        "seeds": [str(row.n_seeds) for row in own],
    }
    if has_one_agent:
        del columns[own[0].trained], columns["seeds"]
    if any(row.diverged_trials for row in own):
        columns["values diverged"] = [diverged_text(row) for row in own]
    if any(row.not_finite_trials for row in own):
        columns["not finite"] = [not_finite_text(row) for row in own]
    return columns


def closing_lines(board: Leaderboard) -> Iterator[str]:
    """What a run has come to: the answer, and how many trials it took."""
    tasks = list(dict.fromkeys(row.task for row in board.rows))
    own = [row for row in board.rows if row.task == tasks[-1 if len(tasks) == 2 else 0]]
    (source,) = board.provenance["runs"]
    yield from (visible(sentence) for sentence in answer(own))
    yield from (visible(sentence) for sentence in plasticity_answer(board.probes, next(iter(source["controls"]), None)))
    failed = sum(row.n_incomplete for row in board.rows if row.task != ALL)
    took = f", {duration(source['wall_s'])} from the first record to the last" if source["wall_s"] else ""
    yield f"{source['num_trials']} trials, {failed} incomplete{took}"


def _estimate(estimate: Estimate) -> str:
    bounds = "" if estimate.low is None else f" [{estimate.low:.2f}, {estimate.high:.2f}]"
    return "-" if estimate.value is None else f"{estimate.value:.3f}{bounds}"
