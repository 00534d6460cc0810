"""Figures from finished numbers, as inline SVG: no statistics here, and the same bytes for the same numbers.

A figure is small (5 x 3 inches) and says its title, unit and legend in the HTML around it, so that its own text stays
readable at the width of a phone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import StringIO

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from plasticbench.analysis.curves import Curve

MAX_FAINT_LINES = 20
"""Single runs that are drawn behind a centre; more would be a grey wall."""
FEW_FAINT_LINES = 5
"""The same on a page of many figures, most of whose bytes are these lines."""
_MAX_MARKED_POINTS = 12
LARGEST = 1e100
"""No axis reaches farther."""
CONTROL_COLOUR = "#5b6470"
_MAX_EVENT_LINES = 6
"""With more events the stretches between them are bands, every second one shaded."""
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b0419a", "#e69f00", "#56b4e9", "#8c6d46", "#3f3fbf")
"""Told apart with any colour vision (Okabe and Ito 2008), a dark purple and three more added."""
_INK, _MUTED, _GRID = "#1c2733", "#5b6470", "#e6e9ed"
_WIDTH_INCHES, _HEIGHT_INCHES = 5.0, 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """A step that a vertical line marks."""

    step: int
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """One method's runs in a distribution; bounds are ``None`` where there is no interval."""

    method: str
    values: np.ndarray
    centre: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """One method's performance profile over thresholds."""

    method: str
    thresholds: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray


def palette(methods: Sequence[str], controls: Collection[str]) -> dict[str, str]:
    """A colour per method, the same in every figure: grey for the control, then the palette in turn."""
    treated = [method for method in methods if method not in controls]
    colours = {method: _COLOURS[i % len(_COLOURS)] for i, method in enumerate(treated)}
    return {method: colours.get(method, CONTROL_COLOUR) for method in methods}


def curve_figure(
    curves: Sequence[Curve],
    colours: Mapping[str, str],
    *,
    key: str,
    label: str,
    budget_steps: int,
    max_faint_lines: int = MAX_FAINT_LINES,
    events: Sequence[Event] = (),
    after_reset: Sequence[Curve] = (),
    clock: str = "agent steps",
) -> str:
    """Centres with bands, runs as faint lines; ``after_reset`` are the values right after resets, drawn as rings.

    ``key`` makes the ids of the figure unique within a page; ``label`` is its text for readers who do not see it.
    """
    with _style():
        figure, axes = _panel()
        for curve in curves:
            colour, order = colours[curve.method], 2 if colours[curve.method] == CONTROL_COLOUR else 3
            axes.plot(*_as_one_line(curve, max_faint_lines), color=colour, linewidth=0.7, alpha=0.25, zorder=1)
            low, high = _drawable(curve.low), _drawable(curve.high)
            axes.fill_between(curve.steps, low, high, color=colour, alpha=0.18, linewidth=0, zorder=order)
            marker = "o" if len(curve.steps) <= _MAX_MARKED_POINTS else None
            centre = _drawable(curve.centre)
            axes.plot(curve.steps, centre, color=colour, linewidth=2.0, marker=marker, markersize=4, zorder=order + 2)
        for points in after_reset:
            (ring,) = axes.plot(points.steps, _drawable(points.centre), "o", markersize=6, color="white", zorder=6)
            ring.set_markeredgecolor(colours[points.method])
            ring.set_markeredgewidth(1.8)
        axes.set_xlim(0, budget_steps)
        _mark_events(axes, events)
        axes.xaxis.set_major_formatter(FuncFormatter(_short_steps))
        axes.xaxis.set_major_locator(MaxNLocator(5, min_n_ticks=3))
        axes.set_xlabel(clock, loc="right", labelpad=1)
        return _svg(figure, key, label)


def distribution_figure(
    strips: Sequence[Strip], colours: Mapping[str, str], *, key: str, label: str, quantity: str
) -> str:
    """Every run as a dot, the IQM as a tick on its 95% interval; one line per method, the first on top."""
    with _style():
        height = max(_HEIGHT_INCHES, 0.75 + 0.42 * len(strips))
        figure, axes = _panel(height_inches=height, left_inches=1.45, top_inches=0.08)
        for row, strip in enumerate(strips):
            colour = colours[strip.method]
            offsets = 0.16 + 0.07 * (np.arange(len(strip.values)) % 3)
            axes.plot(
                _drawable(strip.values),
                row + offsets,
                "o",
                markersize=4,
                color=colour,
                alpha=0.6,
                markeredgewidth=0,
                zorder=3,
            )
            if strip.low is not None and strip.high is not None:
                axes.plot(
                    _drawable(np.array([strip.low, strip.high])),
                    [row - 0.1] * 2,
                    color=colour,
                    linewidth=6,
                    alpha=0.35,
                    zorder=2,
                )
            axes.plot(
                _drawable(np.array([strip.centre] * 2)), [row - 0.26, row + 0.06], color=colour, linewidth=2.5, zorder=4
            )
        axes.set_yticks(range(len(strips)), [_shortened(strip.method) for strip in strips], color=_INK)
        axes.set_ylim(len(strips) - 0.45, -0.55)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", color=_GRID)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(quantity, loc="right", labelpad=1)
        return _svg(figure, key, label)


def profile_figure(profiles: Sequence[Profile], colours: Mapping[str, str], *, key: str, label: str) -> str:
    """Share of runs above each score, with bands."""
    with _style():
        figure, axes = _panel()
        for profile in profiles:
            colour = colours[profile.method]
            axes.fill_between(
                profile.thresholds, profile.low, profile.high, color=colour, alpha=0.15, linewidth=0, step="post"
            )
            axes.step(profile.thresholds, profile.share, color=colour, linewidth=2.0, where="post")
        axes.set_ylim(0, 1.03)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f}%"))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("final score", loc="right", labelpad=1)
        return _svg(figure, key, label)


def _style() -> AbstractContextManager[None]:
    return matplotlib.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "plasticbench",
            "text.parse_math": False,  # a method may have a dollar sign in its name
            "font.size": 11,
            "text.color": _INK,
            "axes.edgecolor": "#aab2bc",
            "axes.linewidth": 0.8,
            "axes.labelcolor": _MUTED,
            "xtick.color": _MUTED,
            "ytick.color": _MUTED,
            "path.simplify_threshold": 0.3,
        }
    )


def _panel(
    height_inches: float = _HEIGHT_INCHES, left_inches: float = 0.62, top_inches: float = 0.26
) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH_INCHES, height_inches))
    figure.patch.set_visible(False)
    bottom, right = 0.52, 0.16
    axes = figure.add_axes(
        (
            left_inches / _WIDTH_INCHES,
            bottom / height_inches,
            1 - (left_inches + right) / _WIDTH_INCHES,
            1 - (bottom + top_inches) / height_inches,
        )
    )
    axes.patch.set_visible(False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, pad=5)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    return figure, axes


def _mark_events(axes: Axes, events: Sequence[Event]) -> None:
    seen: set[str] = set()
    are_bands = len(events) > _MAX_EVENT_LINES
    for begin, end in zip(events[::2], [*events[1::2], None], strict=False) if are_bands else ():
        last = axes.get_xlim()[1] if end is None else end.step
        axes.axvspan(begin.step, last, color=_MUTED, alpha=0.1, linewidth=0, zorder=0)
    for event in events:
        if not are_bands:
            axes.axvline(event.step, color=_MUTED, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1.5)
        if event.label not in seen:  # a periodic event is named once
            axes.annotate(
                event.label,
                (event.step, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 4),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=10,
                color=_MUTED,
            )
        seen.add(event.label)


def _as_one_line(curve: Curve, max_runs: int) -> tuple[np.ndarray, np.ndarray]:
    """Runs as one line with gaps between them: one artist is drawn several times as fast as many."""
    runs = _drawable(curve.runs[:max_runs])
    gap = np.full((len(runs), 1), np.nan)
    return np.tile(np.append(curve.steps, np.nan), len(runs)), np.hstack([runs, gap]).ravel()


def _drawable(values: np.ndarray) -> np.ndarray:
    """Without what is not finite or beyond any axis: matplotlib cannot invert the scale of 1e308."""
    return np.where(np.abs(values) < LARGEST, values, np.nan)


def _short_steps(steps: float, _: int) -> str:
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(steps) >= size:
            return f"{steps / size:g}{unit}"
    return f"{steps:g}"


def _shortened(name: str, length: int = 16) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def _svg(figure: Figure, key: str, label: str) -> str:
    """The figure as an inline element: no namespaces, no fonts, one decimal, unique ids, and a text label."""
    buffer = StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    view_box = re.search(r'viewBox="[^"]*"', svg)
    assert view_box is not None
    body = svg[svg.index(">") + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href", "href")
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda m: f' id="{key}-{m[1]}"' if m[1] in used else "", body)
    body = re.sub(r'(url\(|href=")#', rf"\g<1>#{key}-", body)
    body = re.sub(r' ?font-family: [^;"]*;?', "", body)
    body = re.sub(r' transform="rotate\(-?0 [^"]*"', "", body)
    body = re.sub(r' (?:d|x|y|width|height|transform)="[^"]*"', _with_one_decimal, body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    return f'<svg {view_box[0]} role="img" aria-label="{_escaped(label)}">{body.strip()}'


def _with_one_decimal(attribute: re.Match[str]) -> str:
    return re.sub(r"-?\d+\.\d{2,}", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), attribute[0])


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
