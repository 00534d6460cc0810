"""What stands in a figure of curves beside the curves: events, names at the ends of lines, returns below scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from plasticbench.analysis import drawing
from plasticbench.analysis.colours import MethodStyle
from plasticbench.analysis.curves import Curve
from plasticbench.analysis.drawing import FONT_POINTS, MUTED, drawable

_MAX_TICKS = 100  # of a rug
_LABEL_LENGTH = 14


@dataclass(frozen=True, kw_only=True, slots=True)
class Marks:
    """Which steps a figure marks.

    ``lines`` are named events of the task; ``rugs`` are steps at which single methods, or all of them very often,
    reset, by colour; ``note`` says what a rug means.
    """

    lines: Sequence[tuple[int, str]] = ()
    rugs: Mapping[str, Sequence[int]] = field(default_factory=dict)
    note: str = ""


def mark(axes: Axes, marks: Marks, styles: Mapping[str, MethodStyle], budget_steps: int) -> None:
    """Lines and rugs at the steps that a figure marks."""
    seen: set[str] = set()
    for step, text in marks.lines:
        axes.axvline(step, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1.5)
        if text not in seen:  # a periodic event is named once
            _write_above(axes, step / budget_steps, text)
        seen.add(text)
    for row, (colour, steps) in enumerate(marks.rugs.items()):
        thinned = list(steps)[:: -(-len(steps) // _MAX_TICKS)]
        heights = np.tile([0.012 + 0.03 * row, 0.034 + 0.03 * row, np.nan], len(thinned))
        places = np.repeat(np.array(thinned, dtype=float), 3)
        name = next((s.name for s in styles.values() if s.colour == colour), None)
        axes.plot(
            places,
            heights,
            color=colour,
            linewidth=1.0,
            transform=axes.get_xaxis_transform(),
            gid=name and f"series-{name}",
            zorder=1.6,
        )
    if marks.note and not marks.lines:
        _write_above(axes, 0.5, marks.note)


def _write_above(axes: Axes, place: float, text: str) -> None:
    side = "left" if place < 0.2 else "right" if place > 0.8 else "center"
    axes.annotate(
        text, (place, 1.0), xycoords="axes fraction", xytext=(0, 4), textcoords="offset points",
        ha=side, va="bottom", fontsize=FONT_POINTS, color=MUTED,
    )  # fmt: skip


def write_returns(axes: Axes, zero: float, one: float) -> None:
    """Below each score of the scale the return that it is."""
    low, high = axes.get_ylim()
    places = [float(place) for place in MaxNLocator(5).tick_values(low, high) if low <= place <= high]
    axes.set_yticks(places)
    for place, tick in zip(places, axes.get_yticklabels(), strict=True):
        tick.set_verticalalignment("bottom")
        axes.annotate(
            f"({zero + place * (one - zero):.3g})".replace("-", "\N{MINUS SIGN}"), (0.0, place),
            xycoords=("axes fraction", "data"), xytext=(-5, 0), textcoords="offset points", ha="right", va="top",
            fontsize=FONT_POINTS, color=MUTED, annotation_clip=False,
        )  # fmt: skip


def label_ends(axes: Axes, curves: Sequence[Curve], styles: Mapping[str, MethodStyle]) -> None:
    """Names beside the ends of lines, moved apart where they would cover each other."""
    ends = []
    for curve in curves:
        centre = drawable(curve.centre)
        if np.isfinite(centre).any():
            _, end = axes.transLimits.transform(axes.transScale.transform((0.0, centre[np.isfinite(centre)][-1])))
            ends.append((float(end), curve.method))
    height = 72 * drawing.HEIGHT_INCHES * axes.get_position().height
    places = spread([end for end, _ in sorted(ends)], (FONT_POINTS + 2) / height, 0.0, 1.0)
    for place, (_, method) in zip(places, sorted(ends), strict=True):
        style = styles[method]
        axes.annotate(
            drawing.shortened(method, _LABEL_LENGTH), (1.0, place), xycoords="axes fraction", xytext=(5, 0),
            textcoords="offset points", va="center", fontsize=FONT_POINTS, color=style.colour,
            gid=f"series-{style.name}", annotation_clip=False,
        )  # fmt: skip


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Ascending places at least ``gap`` apart, within the bounds where they fit, as near to where they were as that."""
    moved = list(places)
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + gap)
    if moved and moved[-1] > high:
        moved[-1] = high
        for i in range(len(moved) - 2, -1, -1):
            moved[i] = min(moved[i], moved[i + 1] - gap)
    return [max(place, low + i * gap) if len(moved) * gap <= high - low else place for i, place in enumerate(moved)]
