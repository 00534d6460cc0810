"""A figure's frame, axes and text, and its inline SVG: the same bytes for the same numbers.

A figure is small (5 x 3 inches) and says its title, unit and direction in the HTML around it, so that its own text, of
one size in all figures, stays readable at the width of a phone. Colours are variables of the page, for dark schemes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from io import StringIO

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from plasticbench.analysis.probe_facts import short_number

LARGEST = 1e100
"""No axis reaches farther."""
FONT_POINTS = 11
WIDTH_INCHES, HEIGHT_INCHES = 5.0, 3.0
INK, MUTED, GRID, PAPER, NEUTRAL = "#1c2733", "#5b6471", "#e6e9ed", "#fefefe", "#8a929c"
_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--line", PAPER: "--paper", NEUTRAL: "--neutral"}
_LOG_FROM = 100.0
"""How often the largest value is the smallest one where a scale is logarithmic: two decades."""


def style() -> AbstractContextManager[None]:
    """In which figures are made."""
    return matplotlib.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "plasticbench",
            "text.parse_math": False,  # a method may have a dollar sign in its name
            "font.size": FONT_POINTS,
            "text.color": INK,
            "axes.edgecolor": "#aab2bc",
            "axes.linewidth": 0.8,
            "axes.labelcolor": MUTED,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
            "path.simplify_threshold": 0.3,
        }
    )


def panel(
    *,
    width_inches: float = WIDTH_INCHES,
    height_inches: float = HEIGHT_INCHES,
    left_inches: float = 0.62,
    top_inches: float = 0.26,
    right_inches: float = 0.16,
) -> tuple[Figure, Axes]:
    """A figure with one pair of axes."""
    figure = Figure(figsize=(width_inches, height_inches))
    figure.patch.set_visible(False)
    bottom = 0.52
    axes = figure.add_axes(
        (
            left_inches / width_inches,
            bottom / height_inches,
            1 - (left_inches + right_inches) / width_inches,
            1 - (bottom + top_inches) / height_inches,
        )
    )
    axes.patch.set_visible(False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, pad=5)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    return figure, axes


def drawable(values: np.ndarray) -> np.ndarray:
    """Without what is not finite or beyond any axis: matplotlib cannot invert the scale of 1e308."""
    return np.where(np.abs(values) < LARGEST, values, np.nan)


def is_logarithmic(values: np.ndarray) -> bool:
    """Whether values span more than two decades, none below zero."""
    known = values[np.isfinite(values)]
    positive = known[known > 0.0]
    return bool(len(positive) > 1 and known.min() >= 0.0 and positive.max() > _LOG_FROM * positive.min())


def use_logarithm(axes: Axes, axis: str) -> None:
    """Decades as ticks; what is not above zero is left out."""
    along = axes.yaxis if axis == "y" else axes.xaxis
    (axes.set_yscale if axis == "y" else axes.set_xscale)("log", nonpositive="mask")
    along.set_major_locator(LogLocator(numticks=6))
    along.set_major_formatter(FuncFormatter(_decade))
    along.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", length=0)


def _decade(value: float, _: int) -> str:
    return f"{value:.0e}".replace("e+0", "e").replace("e+", "e") if value >= 1e6 else short_number(value)


def count_steps(axes: Axes, budget_steps: int, num_ticks: int = 5) -> None:
    """The horizontal axis of agent steps."""
    axes.set_xlim(0, budget_steps)
    axes.xaxis.set_major_formatter(FuncFormatter(short_steps))
    axes.xaxis.set_major_locator(MaxNLocator(num_ticks, min_n_ticks=2))
    last = axes.get_xticklabels()
    if last:
        last[-1].set_horizontalalignment("right")  # else the page's edge clips it


def short_steps(steps: float, _: int = 0) -> str:
    """``20k``."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(steps) >= size:
            return f"{steps / size:g}{unit}"
    return f"{steps:g}"


def shortened(name: str, length: int) -> str:
    """A name that is too long loses its middle, as its ends tell it from others."""
    if len(name) <= length:
        return name
    return f"{name[: (length - 1) // 2 + 1]}…{name[-((length - 2) // 2) :]}"


def svg(figure: Figure, key: str, label: str, colours: Mapping[str, str], scales: Axes | None = None) -> str:
    """The figure as an inline element: no namespaces, no fonts, one decimal, unique ids, and a text label.

    ``colours`` maps colours to variables of the page, beside those of ink and grid. An artist whose gid is
    ``series-m3 line`` has the classes ``m3`` and ``line``. ``scales`` are the axes whose scale a
    script may read values from.
    """
    buffer = StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    view_box = re.search(r'viewBox="[^"]*"', text)
    assert view_box is not None
    body = text[text.index(">") + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href", "href")
    body = re.sub(r' id="series-([^"]*)"', r' class="\1"', body)
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda m: f' id="{key}-{m[1]}"' if m[1] in used else "", body)
    body = re.sub(r'(url\(|href=")#', rf"\g<1>#{key}-", body)
    body = re.sub(r' ?font-family: [^;"]*;?', "", body)
    body = re.sub(r' transform="rotate\(-?0 [^"]*"', "", body)
    body = re.sub(r' (?:d|x|y|width|height|transform)="[^"]*"', _with_one_decimal, body)
    variables = {**_VARIABLES, **colours}
    body = re.sub(r"#[0-9a-f]{6}", lambda m: f"var({variables[m[0]]})" if m[0] in variables else m[0], body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    shown = f" data-scales='{_scales(figure, scales)}'" if scales is not None else ""
    return f'<svg {view_box[0]} role="img" aria-label="{_escaped(label)}"{shown}>{body.strip()}'


def _scales(figure: Figure, axes: Axes) -> str:
    """Where the ends of both axes lie in the figure's points, and what they stand for."""
    box = axes.get_position()
    width, height = 72 * figure.get_figwidth(), 72 * figure.get_figheight()
    y_low, y_high = axes.get_ylim()
    (x_low, x_high), is_log = axes.get_xlim(), axes.get_yscale() == "log"
    ends = {
        "x": [round(box.x0 * width, 1), round(box.x1 * width, 1), x_low, x_high],
        "y": [round((1 - box.y0) * height, 1), round((1 - box.y1) * height, 1), y_low, y_high],
    }
    return json.dumps(ends | {"log": is_log}, separators=(",", ":"))


def _with_one_decimal(attribute: re.Match[str]) -> str:
    return re.sub(r"-?\d+\.\d{2,}", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), attribute[0])


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
