"""Evaluation counts whole episodes, the same number in every environment, and reports unclipped returns."""

from dataclasses import dataclass

import numpy as np
import pytest

from plasticbench.contracts.task import DiscreteActions, EnvSpec, EnvStep
from plasticbench.envs._evaluation import evaluate

SPEC = EnvSpec(obs_shape=(1,), obs_dtype="float32", actions=DiscreteActions(count=2))


class Metronome:
    """Episodes of ``lengths[i]`` steps in environment i; each step is worth 3, clipped to 1."""

    def __init__(self, lengths: tuple[int, ...]) -> None:
        self.spec, self.num_envs = SPEC, len(lengths)
        self.lengths, self.age, self.ended = (
            np.array(lengths),
            np.zeros(len(lengths), int),
            np.zeros(len(lengths), bool),
        )

    def reset(self) -> np.ndarray:
        return np.zeros((self.num_envs, 1), np.float32)

    def step(self, actions: np.ndarray) -> EnvStep:
        starting = self.ended
        self.age = np.where(starting, 0, self.age + 1)
        self.ended = self.age == self.lengths
        clipped = np.where(starting, 0, 1).astype(np.float32)
        return EnvStep(self.reset(), clipped, 3 * clipped, self.ended, np.zeros_like(self.ended))

    def close(self) -> None:
        pass


@dataclass
class Family:
    task = "Metronome"
    lengths: tuple[int, ...]

    def build(self, seeds, num_threads):
        assert len(seeds) == len(self.lengths)
        return Metronome(self.lengths)


def _evaluate(lengths, members, episodes=None, steps=None):
    return evaluate(
        lambda obs, uniforms: np.zeros(obs.shape[:2], int),
        lambda obs: obs,
        Family(lengths),
        list(range(members)),
        at_step=0,
        num_envs=len(lengths) // members,
        episodes=episodes,
        steps=steps,
        num_threads=1,
    )


def test_short_episodes_are_not_counted_more_often_than_long_ones():
    result = _evaluate((2, 10, 4, 4), members=2, episodes=4)
    assert result.mean_return.tolist() == [3 * (2 + 10) / 2, 3 * 4]
    assert result.mean_length.tolist() == [6, 4]
    assert result.episodes.tolist() == [4, 4]


def test_a_budget_of_steps_counts_the_episodes_that_ended():
    result = _evaluate(
        (2, 10), members=1, steps=12
    )  # six steps of each: the short one ends after 2 and 5, reset between
    assert result.mean_return.tolist() == [6]
    assert result.episodes.tolist() == [2]


def test_without_any_end_the_running_episodes_are_averaged():
    result = _evaluate((50, 60), members=1, steps=8)
    assert (result.mean_return.tolist(), result.episodes.tolist()) == ([pytest.approx(12)], [0])
