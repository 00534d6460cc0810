"""At given fractions of the budget what was rewarded is punished, and back: inputs and world stay as they are.

What was learned of the world still holds and every value changes its sign, so the networks must learn the opposite from
what they know. Scores of flipped phases are those of the flipped returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plasticbench.contracts.task import EnvSpec, EnvStep, Scenario
from plasticbench.envs.scenarios._changes import ReplayRule, change_steps
from plasticbench.envs.scenarios._unchanged import Unchanged
from plasticbench.schedules import At, Fractions
from plasticbench.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """Rewards change their sign at each fraction of the budget.

    It is for tasks whose rewards have both signs: who is punished for each step alone learns to end its episodes.
    ``replay``: whether transitions of earlier phases, whose rewards are wrong now, stay in the replay.
    """

    at: Fractions
    replay: ReplayRule = "clear"

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        At(at=self.at)  # its order is ours

    def build(self, spec: EnvSpec, member_seeds: Sequence[int], budget_steps: int, num_envs: int) -> Scenario:
        """The same for all members."""
        return RewardFlip(change_steps(self.at, budget_steps, num_envs), clears_replay=self.replay == "clear")


class RewardFlip(Unchanged):
    """Odd phases are flipped."""

    def __init__(self, change_steps: tuple[int, ...], *, clears_replay: bool) -> None:
        self.change_steps, self.clears_replay = change_steps, clears_replay

    def reward(self, step: EnvStep, phase: int, obs: np.ndarray, action: np.ndarray) -> EnvStep:
        """Rewards with their sign of the phase; no zero becomes a negative one."""
        if phase % 2 == 0:
            return step
        return step._replace(reward=0.0 - step.reward, raw_reward=0.0 - step.raw_reward)
