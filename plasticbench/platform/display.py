"""Live progress on a terminal, plain lines elsewhere, nothing when asked to be quiet."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from plasticbench.analysis.leaderboard import ALL, Row, diverged_text
from plasticbench.platform.training.segment import Progress

_PLAIN_PERIOD_S = 15.0
_MAX_ROWS = 20  # populations that fit a screen


class Display(Protocol):
    """Shows running segments; ``message`` is for what must not be missed."""

    def start(self) -> None:
        """Takes over the terminal."""
        ...

    def update(self, running: Sequence[Progress], member_steps_left: int) -> None:
        """Shows the segments that run now; ``member_steps_left`` counts those and all that wait."""
        ...

    def message(self, text: str) -> None:
        """A line that stays."""
        ...

    def stop(self) -> None:
        """Gives the terminal back."""
        ...


def make_display(console: Console, quiet: bool) -> Display:
    """The display that suits where output goes."""
    if quiet:
        return QuietDisplay()
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)


class _Speed:
    """Member-steps per second over the whole run, for the time that is left."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def seconds_left(self, member_steps_left: int) -> float | None:
        """``None`` until something can be said."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, member_steps_left)
            return None
        done, seconds = self._first[1] - member_steps_left, now - self._first[0]
        return member_steps_left * seconds / done if done > 0 and seconds > 3 else None


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"


def _segment_seconds_left(progress: Progress) -> float | None:
    return (progress.to_step - progress.step) / progress.steps_per_s if progress.steps_per_s > 0 else None


def _evaluation(progress: Progress) -> str:
    shown = "-" if progress.last_evaluation is None else f"{progress.last_evaluation:.1f}"
    diverged = f", values diverged in {progress.num_overvalued} of {progress.num_members} members"
    return shown + (diverged if progress.num_overvalued else "")


def _others(running: Sequence[Progress]) -> str:
    hidden = len(running) - _MAX_ROWS
    return f"and {hidden} more populations; " if hidden > 0 else ""


class LiveDisplay:
    """A table that is redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4, transient=True)
        self._speed = _Speed()

    def start(self) -> None:
        """Takes over the terminal."""
        self._live.start()

    def update(self, running: Sequence[Progress], member_steps_left: int) -> None:
        """Redraws the table."""
        table = Table(box=None, pad_edge=False, expand=True)
        for heading in ("population", "members", "progress", "step", "steps/s", "left", "last return"):
            table.add_column(heading, justify="left" if heading in ("population", "progress") else "right")
        for p in running[:_MAX_ROWS]:
            span, done = p.to_step - p.from_step, p.step - p.from_step
            table.add_row(
                p.segment,
                str(p.num_members),
                ProgressBar(total=span, completed=done, width=24),
                f"{p.step:,}/{p.to_step:,}",
                f"{p.steps_per_s:,.0f}",
                _duration(_segment_seconds_left(p)),
                _evaluation(p),
            )
        left = _duration(self._speed.seconds_left(member_steps_left))
        table.caption = f"{_others(running)}{member_steps_left:,} member-steps to go, about {left}"
        self._live.update(table)

    def message(self, text: str) -> None:
        """Prints above the table."""
        self._live.console.print(text, highlight=False)

    def stop(self) -> None:
        """Removes the table."""
        self._live.stop()


class PlainDisplay:
    """One line per population every few seconds, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._speed = _Speed()
        self._last_print = 0.0

    def start(self) -> None:
        """Nothing to take over."""

    def update(self, running: Sequence[Progress], member_steps_left: int) -> None:
        """Prints if the last lines are old enough."""
        left = self._speed.seconds_left(member_steps_left)
        if time.monotonic() - self._last_print < _PLAIN_PERIOD_S:
            return
        self._last_print = time.monotonic()
        if len(running) > _MAX_ROWS:
            self.message(
                f"{len(running)} populations run: {member_steps_left:,} member-steps to go, about {_duration(left)}"
            )
            return
        for p in running:
            self.message(
                f"{p.segment}: step {p.step:,} of {p.to_step:,}, {p.num_members} members, {p.steps_per_s:,.0f} steps/s,"
                f" last return {_evaluation(p)}, all done in about {_duration(left)}"
            )

    def message(self, text: str) -> None:
        """Prints a line at once."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Nothing to give back."""


def standings(rows: Sequence[Row]) -> Iterator[Table]:
    """The leaderboard for a terminal: one table per task, and one for all if there are several."""
    tasks = list(dict.fromkeys(row.task for row in rows))
    for task in [task for task in tasks if task != ALL] if len(tasks) == 2 else tasks:
        own = [row for row in rows if row.task == task]
        table = Table(title=f"\n{'all tasks' if task == ALL else task}", title_justify="left", box=None, pad_edge=False)
        headings = ["rank", "method", "agent", "final score", "after the reset", "return", "seeds"]
        if tells_divergence := any(row.diverged_trials for row in own):
            headings.append("values diverged")
        for heading in headings:
            table.add_column(heading, justify="left" if heading in ("method", "agent") else "right")
        for row in own:
            table.add_row(
                "-" if row.rank is None else str(row.rank),
                row.method,
                row.agent,
                _estimate(row.iqm, row.iqm_low, row.iqm_high),
                _estimate(row.after_reset_iqm, row.after_reset_low, row.after_reset_high),
                "-" if row.mean_return is None else f"{row.mean_return:.1f}",
                str(row.n_seeds),
                *([diverged_text(row)] if tells_divergence else []),
            )
        table.caption = "; ".join(["IQM of scores [95% interval]", *sorted({row.note for row in own if row.note})])
        table.caption = table.caption.replace("[", r"\[")
        yield table


def _estimate(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if low is None or high is None else rf"{value:.3f} \[{low:.3f}, {high:.3f}]"


class QuietDisplay:
    """Says nothing."""

    def start(self) -> None:
        """Nothing."""

    def update(self, running: Sequence[Progress], member_steps_left: int) -> None:
        """Nothing."""

    def message(self, text: str) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""
