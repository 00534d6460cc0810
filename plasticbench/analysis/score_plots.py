"""Figures of final scores: all runs of each method, performance profiles, and probes against scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from plasticbench.analysis import drawing
from plasticbench.analysis.colours import MethodStyle
from plasticbench.analysis.curve_plots import MAX_TOGETHER
from plasticbench.analysis.drawing import GRID, HEIGHT_INCHES, INK, drawable
from plasticbench.analysis.probe_facts import ProbeFacts

_NAME_LENGTH = 22


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


Styles = Mapping[str, MethodStyle]


def distribution_figure(
    strips: Sequence[Strip], styles: Styles, limits: tuple[float, float], *, key: str, label: str, quantity: str
) -> str:
    """Every run as a dot, the IQM as a tick on its 95% interval; one line per method, the first on top."""
    with drawing.style():
        height = max(HEIGHT_INCHES, 0.75 + 0.36 * len(strips))
        figure, axes = drawing.panel(height_inches=height, left_inches=1.75, top_inches=0.08)
        for row, strip in enumerate(strips):
            _strip(axes, row, strip, styles[strip.method])
        names = [drawing.shortened(strip.method, _NAME_LENGTH) for strip in strips]
        axes.set_yticks(range(len(strips)), names, color=INK)
        axes.set_ylim(len(strips) - 0.45, -0.55)
        axes.set_xlim(*limits)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", color=GRID)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel(quantity, loc="right", labelpad=1)
        return drawing.svg(figure, key, label, _variables(styles))


def _strip(axes: Axes, row: int, strip: Strip, style: MethodStyle) -> None:
    offsets = 0.16 + 0.07 * (np.arange(len(strip.values)) % 3)
    dots: dict[str, Any] = {
        "markersize": 4,
        "color": style.colour,
        "alpha": 0.6,
        "markeredgewidth": 0,
        "zorder": 3,
        "clip_on": False,
    }
    axes.plot(drawable(strip.values), row + offsets, style.marker, gid=f"series-{style.name}", **dots)
    if strip.low is not None and strip.high is not None:
        ends = drawable(np.array([strip.low, strip.high]))
        axes.plot(
            ends, [row - 0.1] * 2, color=style.colour, linewidth=6, alpha=0.35, zorder=2, gid=f"series-{style.name}"
        )
    tick = drawable(np.array([strip.centre] * 2))
    axes.plot(tick, [row - 0.26, row + 0.06], color=style.colour, linewidth=2.5, zorder=4, gid=f"series-{style.name}")


def profile_figure(profiles: Sequence[Profile], styles: Styles, *, key: str, label: str) -> str:
    """Share of runs above each score, with bands where there are few methods."""
    with drawing.style():
        figure, axes = drawing.panel()
        for profile in profiles:
            style = styles[profile.method]
            if len(profiles) <= MAX_TOGETHER:
                ends: dict[str, Any] = {"color": style.colour, "alpha": 0.15, "linewidth": 0, "step": "post"}
                axes.fill_between(profile.thresholds, profile.low, profile.high, gid=f"series-{style.name}", **ends)
            dashes: dict[str, Any] = {"dashes": style.dash} if style.dash else {}
            line: dict[str, Any] = {
                "color": style.colour,
                "linewidth": 2.0,
                "where": "post",
                "gid": f"series-{style.name} line",
            }
            axes.step(profile.thresholds, profile.share, **line, **dashes)
        axes.set_ylim(0, 1.03)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f}%"))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("final score", loc="right", labelpad=1)
        return drawing.svg(figure, key, label, _variables(styles))


def scatter_figure(
    points: Mapping[str, tuple[np.ndarray, np.ndarray]],
    styles: Styles,
    facts: ProbeFacts,
    *,
    key: str,
    label: str,
    quantity: str,
    measure: str,
) -> str:
    """Each trial's probe and final score as a dot, each method's means as a large marker."""
    with drawing.style():
        figure, axes = drawing.panel()
        for method, (x, y) in points.items():
            style = styles[method]
            dots: dict[str, Any] = {"color": style.colour, "markeredgewidth": 0, "gid": f"series-{style.name}"}
            axes.plot(drawable(x), drawable(y), style.marker, markersize=4.5, alpha=0.5, zorder=3, **dots)
            (mean,) = axes.plot(drawable(x).mean(), drawable(y).mean(), style.marker, markersize=10, zorder=4, **dots)
            mean.set_markeredgecolor(drawing.PAPER)
            mean.set_markeredgewidth(1.5)
        values = np.concatenate([drawable(x) for x, _ in points.values()])
        if drawing.is_logarithmic(values):
            drawing.use_logarithm(axes, "x")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4))
            if facts.is_share:
                axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.3g}%"))
        axes.set_xlabel(quantity, loc="right", labelpad=1)
        axes.annotate(
            f"final {measure}", (0, 1), xycoords="axes fraction", xytext=(0, 4), textcoords="offset points",
            va="bottom", ha="left", color=drawing.MUTED,
        )  # fmt: skip
        return drawing.svg(figure, key, label, _variables(styles))


def _variables(styles: Styles) -> dict[str, str]:
    return {style.colour: f"--{style.name}" for style in styles.values()}
