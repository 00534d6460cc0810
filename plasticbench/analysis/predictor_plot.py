"""The figure of correlations: one line per probe, the strongest on top."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.ticker import FixedLocator

from plasticbench.analysis import drawing
from plasticbench.analysis.drawing import GRID, HEIGHT_INCHES, INK, MUTED, NEUTRAL
from plasticbench.analysis.rows import Estimate

_NAME_LENGTH = 32


def predictor_figure(bars: Sequence[tuple[str, Estimate]], *, key: str, label: str) -> str:
    """Correlations from -1 to 1 as dots on their intervals, with a line at none."""
    with drawing.style():
        height = max(HEIGHT_INCHES, 0.75 + 0.26 * len(bars))
        figure, axes = drawing.panel(height_inches=height, left_inches=2.65, top_inches=0.08)
        axes.axvline(0.0, color=MUTED, linewidth=1.0, zorder=1)
        for row, (_, estimate) in enumerate(bars):
            if estimate.low is not None and estimate.high is not None:
                ends = [estimate.low, estimate.high]
                axes.plot(ends, [row, row], color=NEUTRAL, linewidth=5, alpha=0.45, zorder=2, solid_capstyle="butt")
            axes.plot([estimate.value or 0.0], [row], "o", color=INK, markersize=5, markeredgewidth=0, zorder=3)
        axes.set_yticks(range(len(bars)), [drawing.shortened(name, _NAME_LENGTH) for name, _ in bars], color=INK)
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.set_xlim(-1.03, 1.03)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", color=GRID)
        axes.xaxis.set_major_locator(FixedLocator([-1.0, -0.5, 0.0, 0.5, 1.0]))
        axes.set_xlabel("rank correlation with what was lost", loc="right", labelpad=1)
        return drawing.svg(figure, key, label, {})
