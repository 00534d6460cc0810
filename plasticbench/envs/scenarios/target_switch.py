"""The pendulum must be held at another angle: world and inputs stay, and what they are worth is new.

The reward is that of Gymnasium's ``Pendulum-v1`` with the angle measured from the phase's target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import numpy as np

from plasticbench.contracts.task import EnvConfig, EnvSpec, EnvStep, Scenario
from plasticbench.envs.scenarios._changes import ReplayRule, equal_phases
from plasticbench.envs.scenarios._unchanged import Unchanged
from plasticbench.settings import Ge, Le, MinLen, Settings

_TASK = "Pendulum-v1"
_MAX_SINE = 0.4  # gravity turns it by 15 times the sine of its angle, the motor by 6 at most
_MAX_TORQUE = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``angles_degrees`` of phases of equal length, from upright (0); 180 hangs down, and 24 to 156 cannot be held.

    Scores are measured between the returns of the task as it is published, whatever the target.
    ``replay``: whether transitions of earlier phases, whose rewards are wrong now, stay in the replay.
    """

    angles_degrees: Annotated[tuple[Annotated[float, Ge(-180, "degrees"), Le(180, "degrees")], ...], MinLen(2, "angle")]
    replay: ReplayRule = "clear"

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        angles = self.angles_degrees
        if heavy := [angle for angle in angles if abs(np.sin(np.radians(angle))) > _MAX_SINE]:
            raise ValueError(
                f"angles_degrees: the motor cannot hold it at {heavy[0]:g}; up to 23 and from 157 on it can"
            )
        if again := [angle for angle, following in pairwise(angles) if angle == following]:
            raise ValueError(f"angles_degrees: each must differ from that before, got {again[0]:g} twice in a row")

    def check(self, config: EnvConfig) -> None:
        """Raises ``ValueError`` for tasks without such a target."""
        if config.task != _TASK or config.spec.obs_shape != (3,):
            raise ValueError(f"kind: target_switch moves the target of {_TASK}, got {config.task}. Choose reward_flip")

    def build(self, spec: EnvSpec, member_seeds: Sequence[int], budget_steps: int, num_envs: int) -> Scenario:
        """The same targets for all members."""
        steps = equal_phases(len(self.angles_degrees), budget_steps, num_envs)
        targets = np.radians(self.angles_degrees)
        return TargetSwitch(targets, steps, clears_replay=self.replay == "clear")


class TargetSwitch(Unchanged):
    """Phase k has the k-th target, in radians."""

    def __init__(self, targets: np.ndarray, change_steps: tuple[int, ...], *, clears_replay: bool) -> None:
        self.change_steps, self.clears_replay = change_steps, clears_replay
        self._targets = targets

    def reward(self, step: EnvStep, phase: int, obs: np.ndarray, action: np.ndarray) -> EnvStep:
        """Minus the squares of angle, speed and torque, weighed 1, 0.1 and 0.001, before the step."""
        cosine, sine, speed = np.moveaxis(obs.astype(np.float64), -1, 0)
        angle = np.arctan2(sine, cosine) - self._targets[phase]
        angle = (angle + np.pi) % (2 * np.pi) - np.pi
        torque = np.clip(action[..., 0], -_MAX_TORQUE, _MAX_TORQUE)
        own = -(angle**2 + 0.1 * speed**2 + 0.001 * torque**2)
        # Its own reward is exactly 0 only where a step begins an episode.
        reward = np.where(step.raw_reward == 0, 0.0, own).astype(np.float32)
        return step._replace(reward=reward, raw_reward=reward)
