"""Curves over a run's clock, all methods in one figure or each in a small one beside the control."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from plasticbench.analysis import drawing
from plasticbench.analysis.annotations import Marks, label_ends, mark, write_returns
from plasticbench.analysis.colours import MethodStyle
from plasticbench.analysis.curves import Curve
from plasticbench.analysis.drawing import MUTED, NEUTRAL, PAPER, drawable
from plasticbench.analysis.probe_facts import ProbeFacts

MAX_FAINT_LINES = 20
"""Single runs that are drawn behind a centre; more would be a grey wall."""
FEW_FAINT_LINES = 5
"""The same on a page of many figures, most of whose bytes are these lines."""
MAX_TOGETHER = 6
"""Methods that a figure shows with bands and runs; of more it shows the centres, and each has a small figure."""
MAX_LABELLED = 8
"""Lines that are named at their ends; more of them leave that to the legend."""
_MAX_MARKED_POINTS = 12
_MAX_RINGS = 10
_SMALL_WIDTH, _SMALL_HEIGHT = 2.5, 1.75


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """What all figures of one quantity share.

    ``after_reset`` are values right after resets, drawn as hollow markers. ``returns`` are those that scores 0 and 1
    stand for: they are written below the scores of the scale. With more than ``max_together`` curves their bands and
    runs are left out.
    """

    curves: Sequence[Curve]
    styles: Mapping[str, MethodStyle]
    budget_steps: int
    facts: ProbeFacts
    marks: Marks
    after_reset: Sequence[Curve] = ()
    max_faint_lines: int = MAX_FAINT_LINES
    returns: tuple[float, float] | None = None
    max_together: int = MAX_TOGETHER
    clock: str = "agent steps"

    @property
    def colours(self) -> dict[str, str]:
        """Variables of a page by the colours that they stand for."""
        return {style.colour: f"--{style.name}" for style in self.styles.values()}

    def is_logarithmic(self) -> bool:
        """By the centres: single runs may come from anywhere. Shares are read from their whole range."""
        return not self.facts.is_share and drawing.is_logarithmic(
            drawable(np.concatenate([curve.centre for curve in self.curves]))
        )


def curve_figure(picture: Picture, *, key: str, label: str) -> str:
    """Centres with bands, runs as faint lines, and each line's method at its end where there are few.

    ``key`` makes the ids of the figure unique within a page; ``label`` is its text for readers who do not see it.
    """
    with drawing.style():
        is_labelled = 1 < len(picture.curves) <= MAX_LABELLED
        figure, axes = drawing.panel(
            right_inches=1.2 if is_labelled else 0.16, left_inches=0.72 if picture.returns else 0.62
        )
        shared = shared_points(picture.curves)
        begun: set[bytes] = set()
        for curve, num_shared in zip(picture.curves, shared, strict=True):
            _draw(axes, curve, picture, num_shared)
            if num_shared and (begin := curve.runs[:, :num_shared].tobytes()) not in begun:
                _draw_shared(axes, curve, num_shared)
                begun.add(begin)
        for points in picture.after_reset:
            _rings(axes, points, picture.styles[points.method])
        _scale(axes, picture)
        mark(axes, picture.marks, picture.styles, picture.budget_steps)
        drawing.count_steps(axes, picture.budget_steps)
        axes.set_xlabel(picture.clock, loc="right", labelpad=1)
        if is_labelled:
            label_ends(axes, picture.curves, picture.styles)
        return drawing.svg(figure, key, label, picture.colours, axes)


def small_figures(picture: Picture, controls: Sequence[str], *, key: str, label: str) -> Iterator[tuple[str, str]]:
    """Each method by itself over the control in grey, or over all others where there is none; on one scale."""
    alone = replace(picture, max_together=len(picture.curves), returns=None)
    behind = [curve for curve in picture.curves if curve.method in controls] or list(picture.curves)
    for number, curve in enumerate(picture.curves):
        if curve.method in controls:
            continue
        with drawing.style():
            figure, axes = drawing.panel(
                width_inches=_SMALL_WIDTH, height_inches=_SMALL_HEIGHT, left_inches=0.55, top_inches=0.1
            )
            for other in behind:
                if other.method != curve.method:
                    axes.plot(other.steps, drawable(other.centre), color=NEUTRAL, linewidth=1.3, zorder=2)
            _draw(axes, curve, alone, 0)
            for points in picture.after_reset:
                if points.method == curve.method:
                    _rings(axes, points, picture.styles[points.method])
            _scale(axes, alone)
            for step, _ in picture.marks.lines:
                axes.axvline(step, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1.5)
            axes.yaxis.set_major_locator(MaxNLocator(3)) if axes.get_yscale() == "linear" else None
            drawing.count_steps(axes, picture.budget_steps, num_ticks=2)
            own = f"{label}, {curve.method}"
            yield curve.method, drawing.svg(figure, f"{key}-{number}", own, picture.colours, axes)


def shared_points(curves: Sequence[Curve]) -> list[int]:
    """Of each curve, how many of its first points equal another's in all runs: one training, before a fork."""
    found = [0] * len(curves)
    for i, a in enumerate(curves):
        for j, b in enumerate(curves[:i]):
            if a.runs.shape[0] == b.runs.shape[0]:
                length = min(len(a.steps), len(b.steps))
                same = (a.runs[:, :length] == b.runs[:, :length]).all(axis=0) & (a.steps[:length] == b.steps[:length])
                count = int(np.argmin(same)) if not same.all() else length
                if count < max(len(a.steps), len(b.steps)):  # the same to the end are two methods that do the same
                    found[i], found[j] = max(found[i], count), max(found[j], count)
    return [count if count > 1 else 0 for count in found]


def _draw(axes: Axes, curve: Curve, picture: Picture, num_shared: int) -> None:
    style = picture.styles[curve.method]
    order = 2 if style.dash == () and style.name == "m0" else 3
    x, centre = curve.steps, drawable(curve.centre)
    own = slice(max(num_shared - 1, 0), None)
    if len(picture.curves) <= picture.max_together:
        _draw_spread(axes, curve, picture, own)
    marker = style.marker if len(x) <= _MAX_MARKED_POINTS else None
    line: dict[str, Any] = {
        "color": style.colour,
        "linewidth": 2.0,
        "marker": marker,
        "markersize": 4,
        "zorder": order + 2,
    }
    dashes: dict[str, Any] = {"dashes": style.dash} if style.dash else {}
    axes.plot(x[own], centre[own], gid=f"series-{style.name} line", **line, **dashes)


def _draw_shared(axes: Axes, curve: Curve, num_shared: int) -> None:
    """What no method did alone, in no method's colour."""
    before = slice(None, num_shared)
    x, low, high = curve.steps[before], drawable(curve.low)[before], drawable(curve.high)[before]
    axes.fill_between(x, low, high, color=NEUTRAL, alpha=0.2, linewidth=0, zorder=1)
    axes.plot(x, drawable(curve.centre)[before], color=NEUTRAL, linewidth=2.0, zorder=2)


def _draw_spread(axes: Axes, curve: Curve, picture: Picture, own: slice) -> None:
    """Single runs and the band."""
    style, x = picture.styles[curve.method], curve.steps
    low, high = drawable(curve.low), drawable(curve.high)
    if picture.is_logarithmic():
        low = np.where(low > 0.0, low, np.where(curve.centre > 0.0, curve.centre / 1e3, np.nan))  # below the figure
    axes.plot(
        *_as_one_line(curve, picture.max_faint_lines, own), color=style.colour, linewidth=0.7, alpha=0.3, zorder=1,
        gid=f"series-{style.name}",
    )  # fmt: skip
    band = axes.fill_between(x[own], low[own], high[own], color=style.colour, alpha=0.16, linewidth=0, zorder=2)
    band.set_gid(f"series-{style.name}")


def _rings(axes: Axes, points: Curve, style: MethodStyle) -> None:
    thinned = slice(None, None, -(-len(points.steps) // _MAX_RINGS))
    (ring,) = axes.plot(
        points.steps[thinned], drawable(points.centre[thinned]), style.marker, markersize=6, color=PAPER, zorder=6
    )
    ring.set_markeredgecolor(style.colour)
    ring.set_markeredgewidth(1.8)
    ring.set_gid(f"series-{style.name}")


def _scale(axes: Axes, picture: Picture) -> None:
    """The vertical axis: as far as runs and centres reach; bands are cut where they reach farther."""
    reach = [drawable(curve.centre) for curve in picture.curves]
    reach += [drawable(points.centre) for points in picture.after_reset]
    reach += [drawable(curve.runs[: picture.max_faint_lines]).ravel() for curve in picture.curves]
    values = np.concatenate(reach)
    if picture.is_logarithmic():
        drawing.use_logarithm(axes, "y")
        values = values[values > 0.0]
        axes.set_ylim(float(np.nanmin(values)) / 1.3, float(np.nanmax(values)) * 1.3)
        return
    if picture.facts.is_whole:
        axes.set_ylim(picture.facts.low, picture.facts.high)
    elif np.isfinite(values).any():
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        room = 0.06 * (high - low) or 0.06 * max(abs(low), 1e-3)
        axes.set_ylim(low - room, high + room)
    if picture.facts.is_share:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.3g}%"))
    if picture.returns:
        write_returns(axes, *picture.returns)


def _as_one_line(curve: Curve, max_runs: int, own: slice) -> tuple[np.ndarray, np.ndarray]:
    """Runs as one line with gaps between them: one artist is drawn several times as fast as many."""
    runs = drawable(curve.runs[:max_runs, own])
    gap = np.full((len(runs), 1), np.nan)
    return np.tile(np.append(curve.steps[own], np.nan), len(runs)), np.hstack([runs, gap]).ravel()
