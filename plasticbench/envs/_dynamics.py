"""MuJoCo models of EnvPool with other dynamics, for the moment in which a pool reads them."""

from __future__ import annotations

import os
import xml.etree.ElementTree as xml
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

_MUJOCO_FRICTION = "1 0.005 0.0001"  # sliding, torsional, rolling, where a model says nothing
_MUJOCO_GRAVITY = "0 0 -9.81"


class Dynamics(NamedTuple):
    """Factors: sliding friction of all bodies and the ground, gravity, and the force of the motors for an action."""

    friction: float = 1.0
    gravity: float = 1.0
    action_scale: float = 1.0


def changed(model: str, dynamics: Dynamics) -> str:
    """A MuJoCo model (XML) with these dynamics."""
    root = xml.fromstring(model)
    geom = _below(_below(root, "default"), "geom")
    geom.set("friction", geom.get("friction", _MUJOCO_FRICTION))  # of all that have no own
    for geom in root.iter("geom"):
        if (friction := geom.get("friction")) is not None:
            sliding, *others = friction.split()
            geom.set("friction", " ".join([repr(float(sliding) * dynamics.friction), *others]))
    option = _below(root, "option")
    gravity = option.get("gravity", _MUJOCO_GRAVITY).split()
    option.set("gravity", " ".join(repr(float(part) * dynamics.gravity) for part in gravity))
    for motor in root.iter("motor"):
        if "joint" in motor.attrib:
            gear = motor.get("gear", "1").split()
            motor.set("gear", " ".join(repr(float(part) * dynamics.action_scale) for part in gear))
    return xml.tostring(root, encoding="unicode")


def _below(parent: xml.Element, tag: str) -> xml.Element:
    found = parent.find(tag)
    return xml.SubElement(parent, tag) if found is None else found


@contextmanager
def model_file(task: str, name: str, dynamics: Dynamics) -> Iterator[str]:
    """The file with the changed model of a task, as EnvPool's ``xml_file`` names it, until the pool is made."""
    import envpool

    folder = Path(envpool.make_spec(task).config.base_path) / "mujoco" / "assets_gym"
    model = (folder / name).read_text(encoding="utf-8")
    with TemporaryDirectory() as made:
        file = Path(made) / name
        file.write_text(changed(model, dynamics), encoding="utf-8")
        yield os.path.relpath(file.resolve(), folder.resolve())
