"""One colour, dash and marker per method, the same in every document of a run, by the order of its plan.

Eight colours that are told apart with any colour vision: pairs differ by 13 (CIEDE2000) and more, grey included, as
seen with normal vision, protanopia, deuteranopia and tritanopia (Machado et al. 2009). From the ninth method on they
come again, lighter and then darker (dark ones lighter still), with other dashes and markers; from the twenty-fifth on
in a neighbouring hue. No two of 72 methods have the same colour, and no two of 48 that are alike the same dash.
"""

from __future__ import annotations

import colorsys
from collections.abc import Collection, Sequence
from typing import NamedTuple

CONTROL_COLOUR, CONTROL_ON_DARK = "#5b6470", "#9aa4b0"
LIGHT = ("#007ae9", "#c05700", "#24694e", "#5a0395", "#c4a402", "#3fb1e3", "#7a3b03", "#4b00ff")
DARK = ("#6796fa", "#ef3b0c", "#12c169", "#ca009a", "#ffe635", "#88e1ff", "#a06856", "#255eed")
"""The same hues on a dark page."""
DASHES: tuple[tuple[float, ...], ...] = (
    (),
    (6.0, 2.0),
    (2.0, 1.5),
    (7.0, 2.0, 1.5, 2.0),
    (12.0, 2.5),
    (5.0, 1.5, 1.5, 1.5, 1.5, 1.5),
)
"""Lengths of line and gap in points."""
_LIGHTER, _HUE, _DARKEST = (0.0, 0.16, -0.16), 0.03, 0.2
MARKERS = ("o", "s", "^", "D")


class MethodStyle(NamedTuple):
    """How a method looks; ``name`` is its class and, after ``--``, its colour's variable in a page."""

    name: str
    colour: str
    on_dark: str
    dash: tuple[float, ...]
    marker: str


def method_styles(methods: Sequence[str], controls: Collection[str]) -> dict[str, MethodStyle]:
    """Grey for controls, then the palette in turn."""
    styles, treated = {}, 0
    for position, method in enumerate(methods):
        if method in controls:
            light, dark, turn = CONTROL_COLOUR, CONTROL_ON_DARK, 0
        else:
            turn, index = divmod(treated, len(LIGHT))
            light, dark = _varied(LIGHT[index], turn), _varied(DARK[index], turn)
            treated += 1
        dash, marker = DASHES[turn % len(DASHES)], MARKERS[(turn + turn // len(MARKERS)) % len(MARKERS)]
        styles[method] = MethodStyle(f"m{position}", light, dark, dash, marker)
    return styles


def palette(methods: Sequence[str], controls: Collection[str]) -> dict[str, str]:
    """The colour of each method on a light page."""
    return {method: style.colour for method, style in method_styles(methods, controls).items()}


def _varied(colour: str, turn: int) -> str:
    """The colour itself, a lighter and a darker one, which is never nearly black; then those of a neighbouring hue."""
    if turn == 0:
        return colour
    round_, step = divmod(turn, len(_LIGHTER))
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    moved = lightness + _LIGHTER[step]
    lightness = min(lightness - 2 * _LIGHTER[step] if moved < _DARKEST else moved, 0.88)
    varied = colorsys.hls_to_rgb((hue + _HUE * round_) % 1, lightness, saturation * (0.85 if step else 1.0))
    return "#" + "".join(f"{round(255 * part):02x}" for part in varied)
