"""Colours of methods: told apart with any colour vision, unique, and the same in every document."""

import numpy as np
import pytest

from plasticbench.analysis.colours import CONTROL_COLOUR, CONTROL_ON_DARK, DARK, LIGHT, method_styles

VISIONS = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""Of linear RGB, severity 1 (Machado, Oliveira, Fernandes 2009, IEEE TVCG 15(6), supplement)."""
TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
WHITE = [0.95047, 1.0, 1.08883]


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    xyz = np.array(TO_XYZ) @ np.clip(rgb, 0, 1) / WHITE
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """CIEDE2000 (Sharma, Wu, Dalal 2005, Color Research and Application 30)."""
    (l1, a1, b1), (l2, a2, b2) = one, other
    mean = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    scale = 1.5 - 0.5 * np.sqrt(mean**7 / (mean**7 + 25**7))
    c1, c2 = np.hypot(a1 * scale, b1), np.hypot(a2 * scale, b2)
    h1, h2 = (np.degrees(np.arctan2(b, a * scale)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + 180) % 360 - 180
    hue = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2))
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    h = (h1 + h2 + (360 if abs(h1 - h2) > 180 else 0)) / 2
    t = 1 - 0.17 * np.cos(np.radians(h - 30)) + 0.24 * np.cos(np.radians(2 * h))
    t += 0.32 * np.cos(np.radians(3 * h + 6)) - 0.2 * np.cos(np.radians(4 * h - 63))
    s_l = 1 + 0.015 * (lightness - 50) ** 2 / np.sqrt(20 + (lightness - 50) ** 2)
    s_c, s_h = 1 + 0.045 * chroma, 1 + 0.015 * chroma * t
    turned = -2 * np.sqrt(chroma**7 / (chroma**7 + 25**7)) * np.sin(np.radians(60 * np.exp(-(((h - 275) / 25) ** 2))))
    parts = (l2 - l1) / s_l, (c2 - c1) / s_c, hue / s_h
    return float(np.sqrt(sum(part**2 for part in parts) + turned * parts[1] * parts[2]))


def test_the_difference_is_that_of_a_published_pair():
    published = difference(np.array([50.0, 2.6772, -79.7751]), np.array([50.0, 0.0, -82.7485]))
    assert published == pytest.approx(2.0425, abs=1e-4)


@pytest.mark.parametrize("colours", [(CONTROL_COLOUR, *LIGHT), (CONTROL_ON_DARK, *DARK)], ids=["light", "dark"])
@pytest.mark.parametrize("vision", VISIONS)
def test_any_two_colours_of_the_palette_are_told_apart_with_any_colour_vision(colours, vision):
    seen = [lab(np.array(VISIONS[vision]) @ linear(colour)) for colour in colours]
    assert min(difference(a, b) for i, a in enumerate(seen) for b in seen[:i]) > 12.9


def test_no_two_of_seventy_two_methods_have_the_same_colour_and_any_two_of_forty_eight_can_be_seen_to_differ():
    methods = [f"method {i}" for i in range(72)]
    styles = method_styles(["none", *methods], {"none"})
    for colours in ([style.colour for style in styles.values()], [style.on_dark for style in styles.values()]):
        assert len(set(colours)) == 73
        seen = [lab(linear(colour)) for colour in colours[:49]]
        assert min(difference(a, b) for i, a in enumerate(seen) for b in seen[:i]) > 2


def test_twenty_four_methods_have_looks_of_their_own():
    methods = [f"method {i}" for i in range(24)]
    styles = method_styles(["none", *methods], {"none"})
    assert len({style.colour for style in styles.values()}) == len({s.on_dark for s in styles.values()}) == 25
    assert styles["none"].colour == CONTROL_COLOUR
    assert [styles[m].dash for m in methods[:8]] == [()] * 8
    assert len({(styles[m].dash, styles[m].marker) for m in (methods[0], methods[8], methods[16])}) == 3
