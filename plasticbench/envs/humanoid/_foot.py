"""The shape of H1's foot, for machines that do not have the original ankle meshes.

HumanoidBench's ankle differs from Menagerie's and is on no package index. Measured of it: two convex profiles in the
plane y = 0, extruded along y, with edges rounded by quarter circles: the sole (half width 15 mm, radius 3 mm) and the
hub around the joint (half width 11 mm, radius 1 mm). Collisions see the convex hull of both.
"""

from __future__ import annotations

import numpy as np

_SOLE_MM = (
    (-98.93, -59.43),
    (-99.3, -59.8),
    (-99.6, -60.23),
    (-99.82, -60.71),
    (-99.95, -61.21),
    (-100, -61.73),
    (-100, -66.53),
    (-99.96, -67.04),
    (-99.83, -67.53),
    (-99.62, -68),
    (-99.33, -68.42),
    (-98.97, -68.79),
    (-98.56, -69.09),
    (-98.1, -69.32),
    (-97.61, -69.46),
    (-95.3, -69.94),
    (-95, -69.98),
    (-94.7, -70),
    (194.4, -70),
    (194.79, -69.97),
    (195.18, -69.9),
    (195.55, -69.77),
    (198.17, -68.67),
    (198.61, -68.44),
    (199.01, -68.14),
    (199.35, -67.77),
    (199.63, -67.35),
    (199.83, -66.89),
    (199.96, -66.41),
    (200, -65.91),
    (200, -61.73),
    (199.95, -61.21),
    (199.82, -60.71),
    (199.6, -60.23),
    (199.3, -59.8),
    (198.93, -59.43),
    (198.5, -59.13),
    (175.88, -46.07),
    (174.94, -45.61),
    (174.61, -45.48),
)
_HUB_MM = (
    (2.85, 10.63),
    (0.96, 10.96),
    (-0.96, 10.96),
    (-2.85, 10.63),
    (-4.65, 9.97),
    (-6.31, 9.01),
)
"""Side views ``(x, z)`` in the ankle's frame, in millimetres; one after the other they run counter-clockwise."""

_ROUNDING_STEPS = 9  # per quarter circle, as in the original


def _normals(profile: np.ndarray) -> np.ndarray:
    """Displacements ``[n, 2]`` of the corners that move both edges of each corner outwards by 1."""
    edges = np.roll(profile, -1, axis=0) - profile
    after = np.stack([edges[:, 1], -edges[:, 0]], axis=1) / np.linalg.norm(edges, axis=1, keepdims=True)
    before = np.roll(after, 1, axis=0)
    displacements: np.ndarray = (before + after) / (1 + (before * after).sum(axis=1, keepdims=True))
    return displacements


def _extrude(profile: np.ndarray, normals: np.ndarray, half_width: float, radius: float) -> np.ndarray:
    """Both rounded sides of an extruded profile, ``[points, 3]`` in metres."""
    points = []
    for angle in np.linspace(0.0, np.pi / 2, _ROUNDING_STEPS + 1):
        ring = profile - radius * (1 - np.cos(angle)) * normals
        y = np.full(len(ring), half_width - radius * (1 - np.sin(angle)))
        points += [np.stack([ring[:, 0], side * y, ring[:, 1]], axis=1) for side in (-1, 1)]
    return np.concatenate(points)


def foot_points() -> np.ndarray:
    """Points ``[n, 3]``, in metres in the ankle's frame, whose convex hull is the foot."""
    sole, hub = np.array(_SOLE_MM) / 1000, np.array(_HUB_MM) / 1000
    normals = _normals(np.concatenate([sole, hub]))
    return np.concatenate(
        [
            _extrude(sole, normals[: len(sole)], half_width=0.015, radius=0.003),
            _extrude(hub, normals[len(sole) :], half_width=0.011, radius=0.001),
        ]
    )
