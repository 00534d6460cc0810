"""What surrounds the robot: obstacles and furniture of each task, and which contacts count against it.

Numbers of HumanoidBench's scenes (Sferrazza et al. 2024, arXiv:2403.10506; MIT licence), in metres and kilograms.
Boxes are given by centre and half sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import mujoco
import numpy as np

_BOX, _CYLINDER = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER
_GREY, _GLASS, _WOOD = (0.7, 0.7, 0.7, 1.0), (0.5, 0.5, 0.5, 0.3), (0.76, 0.6, 0.42, 1.0)

Triple = tuple[float, float, float]


def _add_boxes(body: Any, name: str, boxes: tuple[tuple[Triple, Triple], ...], rgba: tuple[float, ...]) -> None:
    for number, (center, half_sizes) in enumerate(boxes):
        body.add_geom(name=f"{name}_{number}", type=_BOX, pos=center, size=half_sizes, rgba=rgba)


def _tunnel(spec: Any) -> None:
    walls = tuple(((10.2, y, 0.775), (8.0, 0.2, 0.775)) for y in (-1.35, 1.35))
    _add_boxes(spec.worldbody, "tunnel", (*walls, ((10.2, 0.0, 1.35), (8.0, 1.15, 0.2))), _GLASS)


def _hurdles(spec: Any) -> None:
    sides = tuple(((35.0, y, 1.0), (35.5, 0.275, 1.0)) for y in (-4.725, 4.725))
    _add_boxes(spec.worldbody, "barrier", (*sides, ((-0.525, 0.0, 1.0), (0.05, 5.0, 1.0))), _GLASS)
    hurdles = tuple(((7.0 * (i + 1), 0.0, 0.1875), (0.03, 5.0, 0.1875)) for i in range(10))
    _add_boxes(spec.worldbody, "hurdle", hurdles, _GREY)


_MAZE = (
    "#######",
    "#     #",
    "### # #",
    "#     #",
    "# # ###",
    "#     #",
    "#######",
)
"""Blocks of 1.5 m seen from above, x to the right and y upwards; the robot starts in the lower left corner."""


def _maze(spec: Any) -> None:
    blocks = tuple(
        ((1.5 * column - 1.5, 7.5 - 1.5 * row, 0.6), (0.75, 0.75, 0.6))
        for row, line in enumerate(_MAZE)
        for column, cell in enumerate(line)
        if cell == "#"
    )
    _add_boxes(spec.worldbody, "block", blocks, _GLASS)


def _poles(spec: Any) -> None:
    sides = tuple(((20.0, y, 1.0), (20.75, 0.15, 1.0)) for y in (-3.15, 3.15))
    _add_boxes(spec.worldbody, "barrier", (*sides, ((-0.6, 0.0, 1.0), (0.15, 3.0, 1.0))), _GLASS)
    for row in range(1, 42):
        for y in (2.25, 0.75, -0.75, -2.25) if row % 2 else (1.5, 0.0, -1.5):
            spec.worldbody.add_geom(
                name=f"pole_{row}_{y}", type=_CYLINDER, pos=(row, y, 1), size=(0.05, 1, 0), rgba=_GREY
            )


def _stairs(spec: Any) -> None:
    steps = tuple(
        ((x, 0.0, 0.09 + 0.18 * layer), (2.7 - 0.6 * layer, 5.0, 0.09))
        for x in (3.2, 9.2, 15.2, 21.2)
        for layer in range(5)
    )
    _add_boxes(spec.worldbody, "step", steps, (0.8, 0.8, 0.83, 1.0))
    sides = tuple(((13.5, y, 2.0), (15.5, 0.1, 2.0)) for y in (-5.05, 5.05))
    _add_boxes(spec.worldbody, "wall", (*sides, ((-2.1, 0.0, 2.0), (0.1, 7.25, 2.0))), _GLASS)


def _slides(spec: Any) -> None:
    ridge = [(x, y, z) for x, z in ((0.3, 0.0), (5.3, 1.75), (10.3, 0.0)) for y in (5.0, -5.0)]
    spec.add_mesh(name="ridge", uservert=np.ravel(ridge))
    for number in range(9):
        spec.worldbody.add_geom(
            name=f"ridge_{number}",
            type=mujoco.mjtGeom.mjGEOM_MESH,
            meshname="ridge",
            pos=(10 * number, 0, 0),
            rgba=_GREY,
        )
    sides = tuple(((48.85, y, 4.0), (53.0, 0.15, 4.0)) for y in (-5.15, 5.15))
    _add_boxes(spec.worldbody, "wall", (*sides, ((-4.0, 0.0, 4.0), (0.15, 5.15, 4.0))), _GLASS)


_CHAIR_PARTS: tuple[tuple[Triple, Triple], ...] = (
    *(((x, y, 0.225), (0.02, 0.02, 0.225)) for x in (0.19, -0.19) for y in (0.19, -0.19)),
    ((0.0, 0.0, 0.45), (0.21, 0.21, 0.025)),
    *(((-0.23, y, 0.6375), (0.02, 0.02, 0.2125)) for y in (0.19, -0.19)),
    ((-0.23, 0.0, 0.77), (0.02, 0.21, 0.08)),
)
"""Legs, seat and back: what is seen, and what has mass."""
_CHAIR_SHAPE: tuple[tuple[Triple, Triple], ...] = (
    ((-0.23, 0.0, 0.65), (0.02, 0.21, 0.2)),
    ((0.0, 0.0, 0.2375), (0.21, 0.21, 0.2375)),
)
"""What collides."""


def _chair(spec: Any) -> Any:
    body = spec.worldbody.add_body(name="chair", pos=(-0.25, 0, 0))
    for center, half_sizes in _CHAIR_PARTS:
        body.add_geom(type=_BOX, pos=center, size=half_sizes, rgba=_WOOD, contype=0, conaffinity=0)
    for center, half_sizes in _CHAIR_SHAPE:
        body.add_geom(spec.find_default("collision"), type=_BOX, pos=center, size=half_sizes)
    return body


def _free_chair(spec: Any) -> None:
    _chair(spec).add_freejoint()


def _board_on_sphere(spec: Any) -> Any:
    board = spec.worldbody.add_body(name="board", pos=(0, 0, 0.37))
    board.add_freejoint()
    board.add_geom(name="board", type=_BOX, size=(0.15, 0.55, 0.03), rgba=_GREY)
    sphere = spec.worldbody.add_body(name="sphere", pos=(0, 0, 0.17))
    sphere.add_geom(name="sphere", type=mujoco.mjtGeom.mjGEOM_SPHERE, size=(0.17, 0, 0), rgba=(0.3, 0.3, 0.3, 1))
    return sphere


def _board_on_free_sphere(spec: Any) -> None:
    _board_on_sphere(spec).add_freejoint()


def _touching(prefix: str) -> Callable[[list[str]], np.ndarray]:
    """All contacts of geoms whose name begins so."""

    def forbidden(names: list[str]) -> np.ndarray:
        is_obstacle = np.array([name.startswith(prefix) for name in names])
        pairs: np.ndarray = np.logical_or.outer(is_obstacle, is_obstacle)
        return pairs

    return forbidden


def _off_board(names: list[str]) -> np.ndarray:
    """The sphere may touch floor and board alone, and the floor the sphere alone."""
    floor, board, sphere = (names.index(name) for name in ("floor", "board", "sphere"))
    forbidden = np.zeros((len(names), len(names)), bool)
    for geom, allowed in ((sphere, (floor, board)), (floor, (sphere,))):
        forbidden[geom] = forbidden[:, geom] = True
        for other in allowed:
            forbidden[geom, other] = forbidden[other, geom] = False
    return forbidden


class Scene(NamedTuple):
    """``add`` builds the surroundings; ``forbidden`` maps geom names to the pairs ``[ngeom, ngeom]`` that count."""

    add: Callable[[Any], object] | None = None
    forbidden: Callable[[list[str]], np.ndarray] | None = None


SCENES = {
    "h1-hurdle-v0": Scene(_hurdles, _touching("barrier")),
    "h1-crawl-v0": Scene(_tunnel),
    "h1-maze-v0": Scene(_maze, _touching("block")),
    "h1-sit_simple-v0": Scene(_chair),
    "h1-sit_hard-v0": Scene(_free_chair),
    "h1-balance_simple-v0": Scene(_board_on_sphere, _off_board),
    "h1-balance_hard-v0": Scene(_board_on_free_sphere, _off_board),
    "h1-stair-v0": Scene(_stairs),
    "h1-slide-v0": Scene(_slides),
    "h1-pole-v0": Scene(_poles, _touching("pole")),
}
"""Tasks that are not here have a floor and nothing else."""


def add_floor(spec: Any) -> None:
    """A checkered floor under a bright sky."""
    spec.visual.headlight.ambient, spec.visual.headlight.diffuse = (0.4, 0.4, 0.4), (0.6, 0.6, 0.6)
    spec.add_texture(
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        width=100,
        height=600,
        rgb1=(0.95, 0.97, 1.0),
        rgb2=(0.8, 0.85, 0.9),
    )
    spec.add_texture(
        name="floor",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        width=100,
        height=100,
        rgb1=(0.9, 0.9, 0.9),
        rgb2=(0.7, 0.7, 0.7),
    )
    floor = spec.add_material(name="floor", texrepeat=(20, 20))
    floor.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "floor"
    spec.worldbody.add_geom(name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=(20, 20, 1), material="floor")
