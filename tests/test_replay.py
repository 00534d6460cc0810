"""The replay against a naive list of transitions, at episode ends, over its ring, and through its chunks."""

import numpy as np
import pytest
import torch

from plasticbench.agents._replay import PopulationReplay
from plasticbench.contracts.task import DiscreteActions, EnvSpec, EnvStep

CPU = torch.device("cpu")


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


def _spec(stack: int) -> EnvSpec:
    shape = (stack, 2) if stack > 1 else (2,)
    return EnvSpec(obs_shape=shape, obs_dtype="float32", actions=DiscreteActions(count=4), frame_stack=stack)


def _fill(replay: PopulationReplay, course: Course, steps: int, restart_at: int | None = None):
    """Feeds a course; returns the transitions of every member in order: (obs, action, reward, terminated, next obs)."""
    members, envs = course.shape
    expected: list[list[tuple]] = [[] for _ in range(members)]
    obs = course.reset()
    replay.begin(obs)
    for t in range(steps):
        if t == restart_at:
            obs = course.reset()
            replay.begin(obs)
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


def _all(replay: PopulationReplay, member: int) -> list[tuple]:
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


def _assert_same(found: list[tuple], expected: list[tuple]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        assert (a[1], pytest.approx(a[2]), a[3]) == (b[1], b[2], b[3])
        np.testing.assert_array_equal(a[4], b[4])


@pytest.mark.parametrize(("members", "envs", "stack"), [(1, 1, 1), (2, 3, 1), (1, 1, 4), (3, 2, 4)])
def test_replay_holds_exactly_the_transitions_that_happened(members, envs, stack):
    replay = PopulationReplay(_spec(stack), members, envs, 1000 * envs, CPU)
    expected = _fill(replay, Course(members, envs, stack, seed=0), steps=60)
    for member in range(members):
        _assert_same(_all(replay, member), expected[member])


@pytest.mark.parametrize(("envs", "stack"), [(1, 1), (2, 1), (1, 4), (3, 4)])
def test_a_full_ring_keeps_the_newest_transitions_with_whole_stacks(envs, stack):
    rows = 20
    replay = PopulationReplay(_spec(stack), 2, envs, rows * envs, CPU)
    expected = _fill(replay, Course(2, envs, stack, seed=1), steps=123)
    for member in range(2):
        found = _all(replay, member)
        assert len(found) >= (rows - stack - 1) * envs * 0.6
        _assert_same(found, expected[member][-len(found) :])


def test_no_transition_crosses_a_restart_of_the_environments():
    replay = PopulationReplay(_spec(4), 2, 2, 400, CPU)
    expected = _fill(replay, Course(2, 2, 4, seed=2), steps=50, restart_at=25)
    for member in range(2):
        _assert_same(_all(replay, member), expected[member])


def test_terminated_and_truncated_are_told_apart():
    replay = PopulationReplay(_spec(1), 1, 1, 10, CPU)
    zero = np.zeros((1, 1), dtype=bool)
    obs, reward = np.zeros((1, 1, 2), np.float32), np.zeros((1, 1), np.float32)
    replay.begin(obs)
    replay.observe(np.zeros((1, 1), int), EnvStep(obs, reward, reward, zero, ~zero))
    assert [row[3] for row in _all(replay, 0)] == [False]
    replay.observe(np.zeros((1, 1), int), EnvStep(obs, reward, reward, zero, zero))  # the autoreset step
    replay.observe(np.zeros((1, 1), int), EnvStep(obs, reward, reward, ~zero, zero))
    assert [row[3] for row in _all(replay, 0)] == [False, True]


def test_sampling_is_uniform_over_transitions():
    replay = PopulationReplay(_spec(1), 1, 1, 100, CPU)
    _fill(replay, Course(1, 1, 1, seed=3), steps=50)
    size = int(replay.sizes[0])
    batch = replay.sample(np.random.default_rng(0).random((1, 40_000)))
    _, counts = np.unique(batch.frames[0, :, 0, 0].numpy(), return_counts=True)
    assert len(counts) == size
    assert counts.min() > 0.8 * 40_000 / size
    assert counts.max() < 1.2 * 40_000 / size


def test_clear_forgets_everything_before():
    replay = PopulationReplay(_spec(4), 2, 2, 400, CPU)
    course = Course(2, 2, 4, seed=4)
    _fill(replay, course, steps=30)
    replay.clear()
    assert replay.sizes.tolist() == [0, 0]
    expected = _fill(replay, course, steps=10)
    for member in range(2):
        _assert_same(_all(replay, member), expected[member])


@pytest.mark.parametrize("cleared", [False, True])
def test_chunks_restore_the_replay_and_its_future_for_forked_members(cleared):
    spec, parents = _spec(4), [1, 0, 1]
    replay = PopulationReplay(spec, 2, 2, 60, CPU)
    course = Course(2, 2, 4, seed=5)
    chunks, saved = [], 0
    _fill(replay, course, steps=23)
    for _ in range(3):
        if cleared:
            replay.clear()
        _fill(replay, course, steps=9)
        first = max(saved - 1, replay.oldest_row, 0)
        chunks.append((first, {name: t[parents] for name, t in replay.export(first).items()}))
        saved = replay.rows
    twin = PopulationReplay(spec, 3, 2, 60, CPU)
    twin.restore(replay.meta(), chunks, parents)
    for member, parent in enumerate(parents):
        _assert_same(_all(twin, member), _all(replay, parent))
    for _ in range(25):
        action, step = course.rng.integers(0, 4, course.shape), course.step()
        replay.observe(action, step)
        twin.observe(action[parents], EnvStep(*(field[parents] for field in step)))
    for member, parent in enumerate(parents):
        _assert_same(_all(twin, member), _all(replay, parent))


def test_a_capacity_below_one_stack_is_refused():
    with pytest.raises(ValueError, match="capacity_transitions: must be at least 12"):
        PopulationReplay(_spec(4), 1, 2, 10, CPU)
