"""A made-up course of environments, and the list of transitions that a replay of it must hold."""

from collections.abc import Container

import numpy as np
import pytest

from plasticbench.agents._replay import PopulationReplay
from plasticbench.contracts.task import DiscreteActions, EnvSpec, EnvStep


class Course:
    """A made-up course of M x E environments with frame stacks as environments deliver them."""

    def __init__(self, members: int, envs: int, stack: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape, self.stack = (members, envs), stack
        self.frames = np.zeros((members, envs, stack, 2), dtype=np.float32)
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
        self.frames = np.where(self.ended[..., None, None], frame[:, :, None], moved)
        reward = np.where(self.ended, 0, self.rng.random(self.shape)).astype(np.float32)
        terminated = ~self.ended & (self.rng.random(self.shape) < 0.15)
        truncated = ~self.ended & ~terminated & (self.rng.random(self.shape) < 0.1)
        self.ended = terminated | truncated
        return EnvStep(self.obs(), reward, reward, terminated, truncated)


def spec(stack: int) -> EnvSpec:
    shape = (stack, 2) if stack > 1 else (2,)
    return EnvSpec(obs_shape=shape, obs_dtype="float32", actions=DiscreteActions(count=4), frame_stack=stack)


def fill(
    replay: PopulationReplay,
    course: Course,
    steps: int,
    restart_at: int | None = None,
    change_at: Container[int] = (),
):
    """Feeds a course; returns the transitions of every member in order: (obs, action, reward, terminated, next obs).

    At ``restart_at`` the environments start anew, at ``change_at`` they go on and only the agent begins anew.
    """
    members, envs = course.shape
    expected: list[list[tuple]] = [[] for _ in range(members)]
    obs = course.reset()
    replay.begin(obs)
    for t in range(steps):
        if t == restart_at:
            obs = course.reset()
            replay.begin(obs)
        if t in change_at:
            replay.begin(obs, course.ended)
        was_ended = course.ended.copy()
        action = course.rng.integers(0, 4, course.shape)
        step = course.step()
        replay.observe(action, step)
        for m in range(members):
            for e in range(envs):
                if not was_ended[m, e]:
                    row = (obs[m, e], action[m, e], step.reward[m, e], step.terminated[m, e], step.obs[m, e])
                    expected[m].append(row)
        obs = step.obs
    return expected


def rows_of(replay: PopulationReplay, member: int) -> list[tuple]:
    """Every transition that can be sampled from a member, oldest first."""
    size = int(replay.sizes[member])
    uniforms = np.zeros((replay.num_members, size))
    uniforms[member] = (np.arange(size) + 0.5) / size
    batch = replay.sample(uniforms)
    frames = batch.frames[member].numpy()
    one = frames.shape[1] == 2
    return [
        (
            frames[i, 0] if one else frames[i, :-1],
            int(batch.action[member, i]),
            float(batch.reward[member, i]),
            bool(batch.terminated[member, i]),
            frames[i, 1] if one else frames[i, 1:],
        )
        for i in range(size)
    ]


def assert_same(found: list[tuple], expected: list[tuple]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        assert (a[1], pytest.approx(a[2]), a[3]) == (b[1], b[2], b[3])
        np.testing.assert_array_equal(a[4], b[4])
