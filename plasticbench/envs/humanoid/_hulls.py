"""What collisions see of the robot's meshes, so that physics is fast and as it was when results were published.

MuJoCo collides the convex hulls of meshes. Two things follow from keeping hulls alone in the model that is stepped:

* At each step MuJoCo clears a flag per node of every mesh's bounding volume hierarchy: 590,000 for the full meshes, 435
  for hulls. Steps are 1.4 times as fast.
* The collision routine starts its search at the origin of the mesh's frame, and where contacts are ambiguous rounding
  of that frame decides. So frames are those that MuJoCo 3.1.6 computed, with which HumanoidBench was published. Median
  errors against it are 1e-15 in place of 1e-8 with the frames that MuJoCo 3.3.7 computes.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import mujoco
import numpy as np
from scipy.spatial import KDTree

from plasticbench.envs.humanoid._foot import foot_points
from plasticbench.envs.humanoid._robot import menagerie_file, robot_spec


class _Frame(NamedTuple):
    position: tuple[float, float, float]  # in the link's frame, metres
    quaternion: tuple[float, float, float, float]

    @property
    def axes(self) -> np.ndarray:
        """Rotation matrix ``[3, 3]`` from this frame to the link's."""
        matrix = np.empty(9)
        mujoco.mju_quat2Mat(matrix, np.array(self.quaternion))
        return matrix.reshape(3, 3)


_FRAMES = {
    "pelvis": _Frame(
        (1.4959405632707801e-06, 2.0513455181467814e-06, -0.041260087616238554),
        (0.5000481034529656, 0.5000556255824111, -0.49994852032899956, 0.49994773984619606),
    ),
    "left_hip_roll_link": _Frame(
        (-0.02022723345930266, -0.009204677160326911, 3.911886040010677e-06),
        (0.5579675626403737, 0.5577179327210102, 0.4345284983581845, 0.43452029949951065),
    ),
    "left_hip_pitch_link": _Frame(
        (0.012151024610338276, -0.019641246958443218, -0.13053720474396213),
        (0.9818058515484053, 0.05227810792077086, -0.020560102079721785, -0.18138784826996157),
    ),
    "left_knee_link": _Frame(
        (0.007670897452471529, -0.0017604112837048816, -0.16003208893900445),
        (0.6729996786027767, -0.016273427966156166, -0.01950850806538189, 0.7392063489012074),
    ),
    "left_foot": _Frame(
        (0.03925831299581698, -1.3187830216296037e-07, -0.04388209182155313),
        (0.4820686297744073, 0.517311097465587, 0.5173077082906645, 0.4820703263730682),
    ),
    "right_hip_roll_link": _Frame(
        (-0.02022710986627426, 0.009202720922438774, 1.7128593649445827e-06),
        (0.4344494518441417, 0.4345291929855812, 0.5577123458270346, 0.5580277713050943),
    ),
    "right_hip_pitch_link": _Frame(
        (0.01215169604776592, 0.019638979612184117, -0.1305484999574923),
        (0.98178566065675, -0.05227873201952033, -0.02055404400448005, 0.18149760875086612),
    ),
    "right_knee_link": _Frame(
        (0.00767142532528786, 0.0017608821040231335, -0.16004091333477433),
        (0.7392074235256446, -0.019502710485232236, -0.016281127206720494, 0.6729984800764318),
    ),
    "right_foot": _Frame(
        (0.03925831299581698, -1.3187830216296037e-07, -0.04388209182155313),
        (0.4820686297744073, 0.517311097465587, 0.5173077082906645, 0.4820703263730682),
    ),
    "torso_link": _Frame(
        (0.01556399977778003, 2.5296021986131663e-06, 0.38950976739293075),
        (0.9991445141901114, 9.05940579270483e-08, 0.041354652274114084, 0.00018027502626426022),
    ),
    "left_shoulder_pitch_link": _Frame(
        (-0.005670230189841148, 0.0495107536401554, -0.014470953343089853),
        (0.8103417292353109, 0.5847719309465264, 0.02733016108086847, 0.02532060292118679),
    ),
    "left_shoulder_roll_link": _Frame(
        (0.013247874423511233, -0.001250273000138514, -0.08504227160458698),
        (0.9747517795177849, -0.01893146872967437, 0.21951097949221626, 0.036269790473851475),
    ),
    "left_shoulder_yaw_link": _Frame(
        (0.009968683812481659, 0.0004950409564597795, -0.1334700116602632),
        (0.7036800942767084, -0.04013959967360825, -0.04703062458418775, 0.7078214872465992),
    ),
    "left_elbow_link": _Frame(
        (0.1696862990679694, 6.118328933918446e-05, -0.015091080461590056),
        (-0.01139823988829941, 0.723852520574167, -0.010725995954442347, 0.6897771825717784),
    ),
    "right_shoulder_pitch_link": _Frame(
        (-0.005670577539544385, -0.049511926125541034, -0.01447086522790126),
        (0.5847590342152781, 0.8103509085563975, -0.025327420197281552, -0.027327617744474005),
    ),
    "right_shoulder_roll_link": _Frame(
        (0.013244586015850384, 0.001251084755783312, -0.08504390110939382),
        (0.974748845440559, 0.0188274041231058, 0.2194919405411639, -0.036517190523867),
    ),
    "right_shoulder_yaw_link": _Frame(
        (0.009967149824498873, -0.0004951314137619748, -0.13347332462091943),
        (0.7078272000878303, -0.047020998121388435, -0.04012337907384435, 0.7036759161739081),
    ),
    "right_elbow_link": _Frame(
        (0.16968614841155819, -6.167553126538357e-05, -0.01509109802776985),
        (0.011433187124393562, 0.7238512373020686, 0.010761781766124301, 0.6897773934695619),
    ),
}
"""Frames of the meshes that collide, by mesh."""

_BOX_CORNERS = np.array([(x, y, z) for x in (-1, 1) for y in (-2, 2) for z in (-4, 4)]) / 1024
_BOX_FACES = np.array(
    [
        *((0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5), (0, 4, 5), (0, 5, 1)),
        *((2, 3, 7), (2, 7, 6), (0, 2, 6), (0, 6, 4), (1, 5, 7), (1, 7, 3)),
    ]
)
"""A box of a few millimetres in powers of two: as the only faces of a mesh it gives it exactly its own frame."""


class Hull(NamedTuple):
    """A convex hull in its frame. ``graph`` is MuJoCo's: counts, offsets, corners, neighbours and faces."""

    vertices: np.ndarray  # [n, 3] float32
    graph: np.ndarray  # [2 + 3 n + 6 faces] int32, corners numbered from 0


def _mesh_points(mesh_name: str, ankle_meshes: Path | None) -> np.ndarray:
    """All points ``[n, 3]`` of a mesh in its link's frame."""
    path = menagerie_file().parent / "assets" / f"{mesh_name}.stl"
    if mesh_name.endswith("_foot"):
        if ankle_meshes is None:
            return foot_points()
        path = ankle_meshes / f"{mesh_name.replace('foot', 'ankle_link')}.stl"
    triangle = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    triangles = np.frombuffer(path.read_bytes(), triangle, offset=84)  # after the binary STL's header and count
    return triangles["corners"].reshape(-1, 3).astype(float)


def _extract(model: Any, mesh: int, ankle_meshes: Path | None) -> Hull:
    name, frame = model.mesh(mesh).name, _FRAMES[model.mesh(mesh).name]
    graph = model.mesh_graph[model.mesh_graphadr[mesh] :]
    count, faces = graph[:2]
    graph = graph[: 2 + 3 * count + 6 * faces].copy()
    corners = graph[2 + count : 2 + 2 * count]
    rounded = model.mesh_vert[model.mesh_vertadr[mesh] :][np.sort(corners)]
    compiled = _Frame(model.mesh_pos[mesh], model.mesh_quat[mesh])
    points = _mesh_points(name, ankle_meshes)
    exact = points[KDTree(points).query(rounded @ compiled.axes.T + compiled.position)[1]]
    rank = np.empty(corners.max() + 1, np.int32)
    rank[np.sort(corners)] = np.arange(count)
    graph[2 + count : 2 + 2 * count] = rank[corners]
    graph[2 + 3 * count + 3 * faces :] = rank[graph[2 + 3 * count + 3 * faces :]]
    centred = (exact - frame.position).astype(np.float32)  # MuJoCo 3.1.6 rounded after each of the two steps
    return Hull((centred.astype(float) @ frame.axes).astype(np.float32), graph)


@cache
def hulls(ankle_meshes: Path | None) -> dict[str, Hull]:
    """Hulls of the meshes that collide, as MuJoCo computes them, by mesh."""
    model = robot_spec(ankle_meshes).compile()
    return {
        model.mesh(mesh).name: _extract(model, mesh, ankle_meshes)
        for mesh in range(model.nmesh)
        if model.mesh(mesh).name in _FRAMES
    }


def _stand_in(vertices: np.ndarray) -> np.ndarray:
    """As many points ``[n, 3]`` as the hull has corners, on an ellipsoid with the hull's extent: all are corners."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    number = np.arange(len(vertices) - 6) + 0.5
    z, angle = 1 - 2 * number / len(number), np.pi * (3 - np.sqrt(5)) * number
    radius = np.sqrt(1 - z**2)
    spiral = np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)
    points: np.ndarray = (low + high) / 2 + np.concatenate([spiral, np.eye(3), -np.eye(3)]) * (high - low) / 2
    return points


def compile_with_hulls(spec: Any, ankle_meshes: Path | None) -> Any:
    """Compiles a robot's spec to an ``MjModel`` for stepping, with hulls in place of meshes.

    MuJoCo cannot be given a hull, and another one that it computes from the hull's rounded corners differs in flat
    places. So stand-ins with as many corners are compiled, and the hulls written over them.
    """
    known = hulls(ankle_meshes)
    for geom in spec.geoms:
        if geom.type == mujoco.mjtGeom.mjGEOM_MESH and geom.meshname in known:
            geom.pos, geom.quat = _FRAMES[geom.meshname]
        elif geom.classname.name == "visual":
            spec.delete(geom)
    for mesh in spec.meshes:
        if mesh.name in known:
            mesh.file = ""
            points = np.concatenate([_BOX_CORNERS, _stand_in(known[mesh.name].vertices.astype(float))])
            mesh.uservert, mesh.userface = points.ravel(), _BOX_FACES.ravel()
        elif mesh.file:
            spec.delete(mesh)
    for unseen in (*spec.cameras, *spec.lights):
        spec.delete(unseen)
    model = spec.compile()
    for name, hull in known.items():
        _write(model, model.mesh(name).id, hull)
    return model


def _write(model: Any, mesh: int, hull: Hull) -> None:
    start, count = model.mesh_graphadr[mesh], len(hull.vertices)
    if tuple(model.mesh_graph[start : start + 2]) != tuple(hull.graph[:2]):
        raise RuntimeError(f"MuJoCo dropped corners of {model.mesh(mesh).name}'s stand-in")
    first = model.mesh_vertadr[mesh] + len(_BOX_CORNERS)
    model.mesh_vert[first : first + count] = hull.vertices
    faces = hull.graph[1]
    graph = hull.graph.copy()
    graph[2 + count : 2 + 2 * count] += len(_BOX_CORNERS)
    graph[2 + 3 * count + 3 * faces :] += len(_BOX_CORNERS)
    model.mesh_graph[start : start + len(graph)] = graph
