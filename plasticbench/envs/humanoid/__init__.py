"""HumanoidBench's 14 hand-free tasks: a Unitree H1 that walks, sits, climbs and balances, in MuJoCo.

Sferrazza et al. 2024, arXiv:2403.10506. FIRE's SAC experiment (arXiv:2602.08040, rl/sac) uses ``h1-balance_simple-v0``,
``h1-walk-v0`` and ``h1-run-v0`` with an action repeat of 2, which the preset ``fire_paper_sac`` pins.

Observations are positions and velocities; actions in [-1, 1] are joint positions for 20 ms. The task is checked
against recordings of the public package (MuJoCo 3.1.6).

``physics: published`` disables MuJoCo's newer collision routine (``nativeccd``), which moves the robot differently;
half of all steps then agree with the recordings to rounding. ``fast`` keeps the newer routine: scores are not
comparable with published ones. The foot is rebuilt from its measured profile; who has the original ankle meshes
(``left_ankle_link.stl``, ``right_ankle_link.stl``) names their folder as ``ankle_meshes``.

``backend: official`` runs the public ``humanoid_bench`` package, where it is installed, with any of its tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from plasticbench.contracts.task import BoxActions, EnvSpec, VectorEnv
from plasticbench.envs._gymnasium_ids import register_humanoids
from plasticbench.envs._scores import Reference
from plasticbench.envs.humanoid._tasks import NUM_ACTIONS, SUCCESS, TASKS, Physics
from plasticbench.settings import OneOf, PositiveInt, Settings

Backend = Literal["builtin", "official"]

_ENVIRONMENT_STEP_S = 0.02


def tasks() -> tuple[str, ...]:
    """All tasks of the family."""
    return tuple(TASKS)


@cache
def _spec(task: str) -> EnvSpec:
    return EnvSpec(
        obs_shape=(TASKS[task].obs_size,),
        obs_dtype="float32",
        actions=BoxActions(low=(-1.0,) * NUM_ACTIONS, high=(1.0,) * NUM_ACTIONS),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """A humanoid task. ``max_episode_steps`` counts environment steps of 20 ms, ``action_repeat`` to an agent step."""

    task: str
    num_envs: PositiveInt = 1
    backend: Backend = "builtin"
    physics: Physics = "published"
    ankle_meshes: str | None = None
    action_repeat: PositiveInt = 1
    max_episode_steps: PositiveInt = 1000

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        if self.backend == "official":
            from plasticbench.envs.humanoid._official import check_installed

            check_installed()
        elif (problem := OneOf(tasks()).problem(self.task)) is not None:
            raise ValueError(f"task: {problem}")
        for side in ("left", "right") if self.ankle_meshes is not None else ():
            if not (file := Path(str(self.ankle_meshes)) / f"{side}_ankle_link.stl").is_file():
                raise ValueError(f"ankle_meshes: must be a folder with {file.name}, got {self.ankle_meshes!r}")

    def inert(self) -> dict[str, str]:
        """Settings without effect, and why."""
        if self.backend == "builtin":
            return {}
        return dict.fromkeys(("physics", "ankle_meshes"), "backend is official")

    @property
    def spec(self) -> EnvSpec:
        """Shapes and actions; the official backend starts an environment to learn them."""
        if self.backend == "official":
            from plasticbench.envs.humanoid._official import official_spec

            return official_spec(self.task)
        return _spec(self.task)

    @property
    def is_restorable(self) -> bool:
        """Whether MuJoCo's state can be reached."""
        return self.backend == "builtin"

    @property
    def score_source(self) -> str:
        """Where the two reference returns come from."""
        return self._reference.source("random actions" if self.task in TASKS else "no reward at all", SUCCESS)

    def score(self, mean_return: float) -> float:
        """0 for random actions, 1 for the return that counts as success."""
        return self._reference.score(mean_return)

    @property
    def _reference(self) -> Reference:
        if self.task in TASKS:
            return TASKS[self.task].reference
        from plasticbench.envs.humanoid._official import success_return

        return Reference(0.0, success_return(self.task))

    def build(self, seeds: Sequence[int], num_threads: int) -> VectorEnv:
        """One robot per seed, stepped on up to ``num_threads`` threads; the official backend uses the caller's."""
        if self.backend == "official":
            from plasticbench.envs.humanoid._official import OfficialEnv

            return OfficialEnv(self.spec, self.task, seeds, self.action_repeat, self.max_episode_steps)
        from plasticbench.envs.humanoid._vector import HumanoidEnv  # MuJoCo: a plan or a listing must not pay for it

        return HumanoidEnv(
            self.spec,
            self.task,
            seeds,
            num_threads,
            physics=self.physics,
            ankle_meshes=None if self.ankle_meshes is None else Path(self.ankle_meshes),
            action_repeat=self.action_repeat,
            max_episode_steps=self.max_episode_steps,
        )

    @property
    def step_s(self) -> float:
        """Simulated seconds of one agent step."""
        return _ENVIRONMENT_STEP_S * self.action_repeat

    def check_pictures(self) -> None:
        """Raises ``RuntimeError`` without a graphics library, ``ValueError`` for the official backend."""
        from plasticbench.envs.humanoid.rendering import check_drawable, check_rendering

        check_drawable(self.backend)
        check_rendering()

    def render(
        self,
        act: Callable[[np.ndarray], np.ndarray],
        seed: int,
        num_steps: int,
        width: int,
        height: int,
        *,
        every: int = 1,
    ) -> np.ndarray:
        """Pictures ``[T, height, width, 3]`` uint8 of one episode; see ``rendering.render_rollout``."""
        from plasticbench.envs.humanoid.rendering import check_drawable, render_rollout

        check_drawable(self.backend)
        return render_rollout(self, act, seed, num_steps, width, height, every=every)


PRESETS = {"fire_paper_sac": Config(task="h1-walk-v0", action_repeat=2)}

register_humanoids()
