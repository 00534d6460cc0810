"""A made-up course of environments, and the list of transitions that a replay of it must hold."""

from collections.abc import Callable, Container, Sequence
from typing import NamedTuple

import numpy as np
import pytest
import torch

from plasticbench.agents._replay import PopulationReplay, observations
from plasticbench.contracts.task import DiscreteActions, EnvSpec, EnvStep


class Course:
    """A made-up course of M x E environments with frame stacks as environments deliver them."""

    frame_shape: tuple[int, ...] = (2,)

    def __init__(self, members: int, envs: int, stack: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape, self.stack = (members, envs), stack
        self.frames = np.zeros((members, envs, stack, *self.frame_shape), dtype=np.float32)
        self.ended = np.zeros(self.shape, dtype=bool)
        self.clock = 0.0

    def new_frame(self) -> np.ndarray:
        self.clock += 1
        return np.full((*self.shape, 2), self.clock, dtype=np.float32) + self.rng.random((*self.shape, 2), np.float32)

    def reset(self) -> np.ndarray:
        self.frames[:] = self.new_frame()[:, :, None]
        self.ended[:] = False
        return self.obs()

    def obs(self) -> np.ndarray:
        return self.frames.copy() if self.stack > 1 else self.frames[:, :, 0].copy()

    def step(self) -> EnvStep:
        frame = self.new_frame()
        moved = np.concatenate((self.frames[:, :, 1:], frame[:, :, None]), axis=2)
        self.frames = np.where(np.expand_dims(self.ended, tuple(range(2, moved.ndim))), frame[:, :, None], moved)
        reward = np.where(self.ended, 0, self.rng.random(self.shape)).astype(np.float32)
        terminated = ~self.ended & (self.rng.random(self.shape) < 0.15)
        truncated = ~self.ended & ~terminated & (self.rng.random(self.shape) < 0.1)
        self.ended = terminated | truncated
        return EnvStep(self.obs(), reward, reward, terminated, truncated)


def spec(stack: int) -> EnvSpec:
    shape = (stack, 2) if stack > 1 else (2,)
    return EnvSpec(obs_shape=shape, obs_dtype="float32", actions=DiscreteActions(count=4), frame_stack=stack)


class Happened(NamedTuple):
    """One step of one environment that did not lead out of an episode that was over."""

    obs: np.ndarray
    action: int
    reward: float
    terminated: bool
    next_obs: np.ndarray
    discount: float
    row: int  # of the replay
    env: int
    ended: bool
    course: int  # how often the agent had begun


def fill(
    replay: PopulationReplay,
    course: Course,
    steps: int,
    restart_at: int | None = None,
    change_at: Container[int] = (),
    discount: float = 1.0,
    observed: Callable[[list[list[Happened]]], None] = lambda happened: None,
) -> list[list[Happened]]:
    """Feeds a course; returns the one-step transitions of every member in order.

    At ``restart_at`` the environments start anew, at ``change_at`` they go on and only the agent begins anew.
    ``observed`` is called after every step with what has happened.
    """
    members, envs = course.shape
    happened: list[list[Happened]] = [[] for _ in range(members)]
    obs, begun = course.reset(), 0
    replay.begin(obs)
    for t in range(steps):
        if t == restart_at:
            obs, begun = course.reset(), begun + 1
            replay.begin(obs)
        if t in change_at:
            begun += 1
            replay.begin(obs, course.ended)
        was_ended, row = course.ended.copy(), replay.rows - 1
        action = course.rng.integers(0, 4, course.shape)
        step = course.step()
        replay.observe(action, step)
        for m, e in np.ndindex(members, envs):
            if not was_ended[m, e]:
                outcome = (step.reward[m, e], step.terminated[m, e], step.obs[m, e], discount)
                place = (row, e, course.ended[m, e], begun)
                happened[m].append(Happened(obs[m, e], action[m, e], *outcome, *place))
        obs = step.obs
        observed(happened)
    return happened


def over_steps(happened: list[Happened], n_step: int, discount: float, rows: int) -> list[Happened]:
    """What a replay with so many rows must hold of a member over ``n_step`` steps, by following each step in turn."""
    following = {(one.row, one.env): one for one in happened}
    found = []
    for first in happened:
        if first.row + n_step >= rows:
            continue
        last, reward, weight = first, first.reward, discount
        for k in range(1, n_step):
            after = following.get((first.row + k, first.env))
            if last.ended or after is None or after.course != first.course:
                break
            last, reward, weight = after, reward + weight * after.reward, weight * discount
        found.append(first._replace(reward=reward, terminated=last.terminated, next_obs=last.next_obs, discount=weight))
    return found


def rows_of(replay: PopulationReplay, member: int) -> list[tuple]:
    """Every transition that can be sampled from a member, oldest first."""
    size = int(replay.sizes[member])
    uniforms = np.zeros((replay.num_members, size))
    uniforms[member] = (np.arange(size) + 0.5) / size
    batch = replay.sample(uniforms)
    obs, next_obs = observations(batch.frames, replay._stack)
    discount = torch.as_tensor(batch.discount).expand(batch.reward.shape)
    return [
        (
            obs[member, i].numpy(),
            int(batch.action[member, i]),
            float(batch.reward[member, i]),
            bool(batch.terminated[member, i]),
            next_obs[member, i].numpy(),
            float(discount[member, i]),
        )
        for i in range(size)
    ]


def assert_same(found: Sequence[tuple], expected: Sequence[tuple]) -> None:
    """The first six fields of ``Happened`` are equal."""
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        assert (a[1], pytest.approx(a[2], rel=1e-5), a[3]) == (b[1], b[2], b[3])
        np.testing.assert_array_equal(a[4], b[4])
        assert a[5] == pytest.approx(b[5])
