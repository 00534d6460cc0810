"""Records what dm_control does, for ``tests/data/dm_control.json.gz``; neither package needs the other's environment.

``python -m benchmarks.dm_control_recordings starts STARTS`` where EnvPool is installed, then, where dm_control is,
``python benchmarks/dm_control_recordings.py record STARTS OUT``. EnvPool shows no state, but the first observations of
half of the suite tell it: there dm_control starts from EnvPool's state and takes the same actions, so that both courses
can be compared step by step. Of the other tasks the returns and observations of random actions are kept. MuJoCo must be
of the version that EnvPool contains, 3.6.0, and have a renderer, which one task asks for: ``MUJOCO_GL=osmesa``.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

SEED, STEPS = 3, 1000
EPISODES, EPISODE_STEPS = 6, 150
ROWS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
DIGITS = 10
_LEGS = {
    f"{side}_{joint}": (f"{side}_{upper}", f"{side}_{lower}" if lower != "torso" else "torso")
    for side in ("right", "left")
    for joint, upper, lower in (("hip", "thigh", "torso"), ("knee", "leg", "thigh"), ("ankle", "foot", "leg"))
}
"""Walker's joints: the body that each of them turns, and the one that it is fixed to."""


def camel(domain: str, task: str) -> str:
    """``ball_in_cup`` and ``catch`` are ``BallInCupCatch-v1`` to EnvPool."""
    return "".join(word[0].upper() + word[1:] for word in re.split("_", f"{domain}_{task}")) + "-v1"


def actions(low: Any, high: Any, seed: int, steps: int) -> np.ndarray:
    """``[steps, dimensions]``, uniform, in the single precision in which agents act."""
    return np.random.default_rng(seed).uniform(low, high, (steps, len(low))).astype(np.float32)


def starts() -> dict[str, dict[str, list[float]]]:
    """The first observations of EnvPool's tasks, by part."""
    import envpool

    found = {}
    for task, (module, *_) in envpool.registration.registry.specs.items():
        if module == "envpool.mujoco.dmc":
            obs, _ = envpool.make(task, env_type="gymnasium", num_envs=1, seed=[SEED]).reset()
            found[task] = {name: np.ravel(values).tolist() for name, values in obs.items()}
    for task in ("HumanoidStand-v1", "HumanoidWalk-v1", "HumanoidRun-v1"):
        found[task]["position"] = found["HumanoidRunPureState-v1"]["position"]  # the same state for the same seed
    return found


def set_state(task: str, physics: Any, obs: dict[str, np.ndarray]) -> bool:
    """Puts dm_control into the state that ``obs`` tells; ``False`` where it does not tell all of it."""
    position = _position(task, physics, obs)
    if position is None:
        return False
    with physics.reset_context():
        physics.data.qpos[:] = position
        physics.data.qvel[:] = obs["velocity"]
        if task.startswith("Reacher"):
            physics.forward()
            finger = physics.named.data.geom_xpos["finger", :2]
            physics.named.model.geom_pos["target", :2] = finger + obs["to_target"]
        if task.startswith("FingerTurn"):
            hinge = physics.named.data.xanchor["hinge", ["x", "z"]]
            physics.named.model.site_pos["target", ["x", "z"]] = hinge + obs["target_position"]
    return True


def _position(task: str, physics: Any, obs: dict[str, np.ndarray]) -> np.ndarray | None:
    zeros = np.zeros_like(physics.data.qpos)
    if task.startswith(("BallInCup", "PointMassEasy", "Reacher", "Humanoid")) and "CMU" not in task:
        return obs["position"]
    if task.startswith(("Cheetah", "Hopper")):  # nothing depends on where they are
        return np.concatenate([[0.0], obs["position"]])
    if task.startswith("Acrobot"):
        upper, lower = np.arctan2(*obs["orientations"].reshape(2, 2))
        return np.array([upper, lower - upper])
    if task.startswith("Cartpole"):
        cosines, sines = obs["position"][1:].reshape(-1, 2).T
        return np.concatenate([obs["position"][:1], np.diff(np.arctan2(sines, cosines), prepend=0.0)])
    if task.startswith("Pendulum"):
        return np.array([np.arctan2(obs["orientation"][1], obs["orientation"][0])])
    if task.startswith("Finger"):
        proximal, distal, x, z = obs["position"]
        return np.array([proximal, distal, np.arctan2(-x, z)])
    return _walker_position(physics, obs, zeros) if task.startswith("Walker") else None


def _walker_position(physics: Any, obs: dict[str, np.ndarray], zeros: np.ndarray) -> np.ndarray:
    names = [physics.model.id2name(i, "body") for i in range(1, physics.model.nbody)]
    cosines, sines = obs["orientations"].reshape(-1, 2).T
    angles = dict(zip(names, np.arctan2(sines, cosines), strict=True))
    with physics.reset_context():
        physics.data.qpos[:] = zeros
        physics.named.data.qpos["rooty"] = angles["torso"]
        for joint, (body, parent) in _LEGS.items():
            physics.named.data.qpos[joint] = (angles[parent] - angles[body] + np.pi) % (2 * np.pi) - np.pi
    physics.named.data.qpos["rootz"] = obs["height"][0] - physics.torso_height()
    return physics.data.qpos.copy()


def _vector(observation: Any) -> np.ndarray:
    return np.concatenate([np.ravel(values) for values in observation.values()])


def _rounded(values: Any) -> Any:
    text = json.dumps(np.asarray(values).tolist())
    return json.loads(text, parse_float=lambda number: float(f"{float(number):.{DIGITS}g}"))


def course(env: Any, spec: Any) -> dict[str, Any]:
    """Observations and sums of rewards after ``ROWS`` steps."""
    observations, rewards = [_vector(env.task.get_observation(env.physics))], [0.0]
    for action in actions(spec.minimum, spec.maximum, SEED, STEPS):
        step = env.step(action)
        observations.append(_vector(step.observation))
        rewards.append(rewards[-1] + step.reward)
    return {"observations": _rounded([observations[i] for i in ROWS]), "rewards": _rounded([rewards[i] for i in ROWS])}


def chance(env: Any, spec: Any) -> dict[str, Any]:
    """Means and deviations over beginnings of episodes: of returns, and of what observations are on average."""
    returns, observations = [], []
    for episode in range(EPISODES):
        env.reset()
        steps = [env.step(action) for action in actions(spec.minimum, spec.maximum, episode, EPISODE_STEPS)]
        returns.append(sum(step.reward for step in steps))
        observations.append(np.mean([_vector(step.observation) for step in steps], axis=0))
    found = {"returns": np.array(returns)[:, None], "observations": np.array(observations)}
    return {
        name: {"mean": _rounded(values.mean(axis=0)), "sd": _rounded(values.std(axis=0, ddof=1))}
        for name, values in found.items()
    }


def record(first: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """All bounded tasks of the suite."""
    from dm_control import suite

    return {
        camel(domain, name): record_task(
            suite.load(domain, name, task_kwargs={"random": SEED}), camel(domain, name), first
        )
        for domain, name in suite.ALL_TASKS
        if domain != "lqr"
    }


def record_task(env: Any, task: str, first: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Parts of observations, bounds of actions, and a course from EnvPool's state where that can be told."""
    spec = env.action_spec()
    parts = {part: int(np.prod(array.shape)) for part, array in env.observation_spec().items()}
    env.reset()
    told = set_state(task, env.physics, {part: np.array(values) for part, values in first[task].items()})
    found = {"course": course(env, spec)} if told else {"chance": chance(env, spec)}
    return {"parts": parts, "low": spec.minimum.tolist(), "high": spec.maximum.tolist(), **found}


def main() -> None:
    if sys.argv[1] == "starts":
        Path(sys.argv[2]).write_text(json.dumps(starts()))
        return
    versions = {package: version(package) for package in ("dm_control", "mujoco")}
    tasks = record(json.loads(Path(sys.argv[2]).read_text()))
    recordings = {"versions": versions, "seed": SEED, "rows": ROWS, "tasks": tasks}
    Path(sys.argv[3]).write_bytes(gzip.compress(json.dumps(recordings).encode(), mtime=0))


if __name__ == "__main__":
    main()
