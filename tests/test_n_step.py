"""Transitions over several steps against one-step transitions that are followed one by one."""

import numpy as np
import pytest
import torch
from replay_rows import Course, assert_same, fill, over_steps, rows_of, spec

from plasticbench.agents._replay import PopulationReplay
from plasticbench.contracts.task import EnvStep

CPU = torch.device("cpu")
GAMMA = 0.9


def _replay(stack, members, envs, rows, n_step):
    """Its memory is full of what must never be read."""
    replay = PopulationReplay(spec(stack), members, envs, rows * envs, CPU, n_step=n_step, discount=GAMMA)
    replay._outcome.fill_(torch.nan)
    replay._frames.fill_(torch.nan)
    return replay


def _step(obs, reward, terminated=False, truncated=False):
    flags = (np.array([[flag]]) for flag in (terminated, truncated))
    return EnvStep(np.full((1, 1, 2), obs, np.float32), *(np.array([[reward]], np.float32),) * 2, *flags)


def test_rewards_and_discounts_of_an_episode_worked_out_by_hand():
    replay = _replay(1, 1, 1, 20, 3)
    replay.begin(np.zeros((1, 1, 2), np.float32))
    for t in range(5):  # rewards 1, 2, 4, 8, 16, the last of them terminates
        replay.observe(np.array([[t % 4]]), _step(t + 1, 2**t, terminated=t == 4))
    replay.observe(np.array([[0]]), _step(100, 0))  # into the next episode
    replay.observe(np.array([[0]]), _step(101, 32))
    found = [(row[0][0], row[2], row[3], row[4][0], row[5]) for row in rows_of(replay, 0)]
    assert [row[0] for row in found] == [0, 1, 2, 3, 4]
    assert [row[1] for row in found] == pytest.approx([1 + 1.8 + 3.24, 2 + 3.6 + 6.48, 4 + 7.2 + 12.96, 8 + 14.4, 16])
    assert [row[2] for row in found] == [False, False, True, True, True]
    assert [row[3] for row in found] == [3, 4, 5, 5, 5]
    assert [row[4] for row in found] == pytest.approx([0.729, 0.729, 0.729, 0.81, 0.9])


@pytest.mark.parametrize("n_step", [1, 2, 3, 7])
@pytest.mark.parametrize(("members", "envs", "stack"), [(1, 1, 1), (2, 3, 1), (1, 1, 4), (3, 2, 4)])
def test_every_row_follows_its_episode_to_its_end_over_changes_and_restarts(members, envs, stack, n_step):
    replay = _replay(stack, members, envs, 400, n_step)
    course, checked = Course(members, envs, stack, seed=n_step), []

    def check(happened):
        checked.append(replay.rows)
        for member in range(members):
            assert_same(rows_of(replay, member), over_steps(happened[member], n_step, GAMMA, replay.rows))

    fill(replay, course, 90, restart_at=31, change_at=range(11, 90, 13), discount=GAMMA, observed=check)
    assert len(checked) == 90


@pytest.mark.parametrize("n_step", [2, 5])
@pytest.mark.parametrize(("envs", "stack"), [(1, 1), (2, 1), (1, 4), (3, 4)])
def test_a_full_ring_keeps_the_newest_rows_with_all_that_they_need(envs, stack, n_step):
    rows = 20
    replay = _replay(stack, 2, envs, rows, n_step)

    def check(happened):
        for member in range(2):
            found = rows_of(replay, member)
            expected = over_steps(happened[member], n_step, GAMMA, replay.rows)
            oldest = replay.rows - rows + stack - 1
            assert_same(found, [one for one in expected if one.row >= oldest])

    fill(replay, Course(2, envs, stack, seed=1), 123, change_at=[40, 41, 77], discount=GAMMA, observed=check)


def test_clear_forgets_the_rows_that_were_still_waiting():
    replay, course = _replay(4, 2, 2, 100, 3), Course(2, 2, 4, seed=4)
    fill(replay, course, 30, discount=GAMMA)
    replay.clear()
    assert replay.sizes.tolist() == [0, 0]
    happened = fill(replay, course, 12, discount=GAMMA)
    for member in range(2):
        assert_same(rows_of(replay, member), over_steps(happened[member], 3, GAMMA, replay.rows))


def test_a_cleared_replay_has_a_transition_once_it_says_so_whatever_had_ended():
    replay = _replay(1, 1, 1, 30, 3)
    replay.begin(np.zeros((1, 1, 2), np.float32))
    replay.observe(np.array([[0]]), _step(1, 1, truncated=True))
    replay.clear()
    replay.begin(np.zeros((1, 1, 2), np.float32), np.array([[True]]))
    for t in range(4):
        assert (replay.has(1), int(replay.sizes[0])) == (False, 0)
        replay.observe(np.array([[0]]), _step(t, 1))
    assert (replay.has(1), int(replay.sizes[0])) == (True, 1)


@pytest.mark.parametrize("cleared", [False, True])
def test_chunks_restore_waiting_rows_and_their_future_for_forked_members(cleared):
    stacked, parents, n_step = spec(4), [1, 0, 1], 3
    replay, course = _replay(4, 2, 2, 30, n_step), Course(2, 2, 4, seed=5)
    chunks, saved = [], 0
    fill(replay, course, 23, discount=GAMMA)
    for _ in range(3):
        if cleared:
            replay.clear()
        fill(replay, course, 9, change_at=[4], discount=GAMMA)
        first = max(saved - 1, replay.oldest_row, 0)
        chunks.append((first, {name: t[parents] for name, t in replay.export(first).items()}))
        saved = replay.rows
    twin = PopulationReplay(stacked, 3, 2, 60, CPU, n_step=n_step, discount=GAMMA)
    twin.restore(replay.meta(), chunks, parents)
    for _ in range(25):
        for member, parent in enumerate(parents):
            assert_same(rows_of(twin, member), rows_of(replay, parent))
        action, step = course.rng.integers(0, 4, course.shape), course.step()
        replay.observe(action, step)
        twin.observe(action[parents], EnvStep(*(field[parents] for field in step)))


def test_a_capacity_below_one_path_is_refused():
    with pytest.raises(ValueError, match=r"capacity_transitions: must be at least 20 .* over 5 steps, got 18"):
        PopulationReplay(spec(4), 1, 2, 18, CPU, n_step=5)
