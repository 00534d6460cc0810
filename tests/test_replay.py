"""The replay against a naive list of transitions, at episode ends, over its ring, and through its chunks."""

import numpy as np
import pytest
import torch
from replay_rows import Course, assert_same, fill, rows_of, spec

from plasticbench.agents._replay import PopulationReplay
from plasticbench.contracts.task import DiscreteActions, EnvSpec, EnvStep

CPU = torch.device("cpu")


@pytest.mark.parametrize(("members", "envs", "stack"), [(1, 1, 1), (2, 3, 1), (1, 1, 4), (3, 2, 4)])
def test_replay_holds_exactly_the_transitions_that_happened(members, envs, stack):
    replay = PopulationReplay(spec(stack), members, envs, 1000 * envs, CPU)
    expected = fill(replay, Course(members, envs, stack, seed=0), steps=60)
    for member in range(members):
        assert_same(rows_of(replay, member), expected[member])


@pytest.mark.parametrize(("envs", "stack"), [(1, 1), (2, 1), (1, 4), (3, 4)])
def test_a_full_ring_keeps_the_newest_transitions_with_whole_stacks(envs, stack):
    rows = 20
    replay = PopulationReplay(spec(stack), 2, envs, rows * envs, CPU)
    expected = fill(replay, Course(2, envs, stack, seed=1), steps=123)
    for member in range(2):
        found = rows_of(replay, member)
        assert len(found) >= (rows - stack - 1) * envs * 0.6
        assert_same(found, expected[member][-len(found) :])


@pytest.mark.parametrize("stack", [1, 4])
@pytest.mark.parametrize("expected_transitions", [0, 30, 90, 10_000])
def test_a_replay_that_takes_memory_only_for_what_comes_holds_the_same(stack, expected_transitions):
    """More courses than were expected, and a ring that begins anew after 60 rows, with chunks half-way."""
    whole, thrifty = (
        PopulationReplay(spec(stack), 2, 2, 120, CPU, expected_transitions=expected)
        for expected in (None, expected_transitions)
    )
    uniforms = np.random.default_rng(5).random((2, 40))
    for replay in (whole, thrifty):
        fill(replay, Course(2, 2, stack, seed=6), steps=45, restart_at=25)
    assert thrifty._frames.shape[1] <= max(expected_transitions + 8 * stack + 2, 120)
    again = PopulationReplay(spec(stack), 2, 2, 120, CPU, expected_transitions=expected_transitions)
    again.restore(thrifty.meta(), [(thrifty.oldest_row, thrifty.export(0))], [0, 1])
    for replay in (thrifty, again):
        for found, expected in zip(replay.sample(uniforms), whole.sample(uniforms), strict=True):
            assert torch.equal(torch.as_tensor(found), torch.as_tensor(expected))
    for replay in (whole, thrifty, again):
        fill(replay, Course(2, 2, stack, seed=7), steps=70)
    for replay in (thrifty, again):
        for found, expected in zip(replay.sample(uniforms), whole.sample(uniforms), strict=True):
            assert torch.equal(torch.as_tensor(found), torch.as_tensor(expected))


@pytest.mark.parametrize("stack", [1, 4])
def test_a_replay_larger_than_the_budget_takes_no_more_than_the_budget_fills(stack):
    replay = PopulationReplay(spec(stack), 2, 3, 3_000_000, CPU, expected_transitions=300)
    assert replay._frames.shape[:2] == (2, 3 * (100 + 4 * stack))
    fill(replay, Course(2, 3, stack, seed=0), steps=100, restart_at=50)
    assert replay._frames.shape[:2] == (2, 3 * (100 + 4 * stack))
    part, rest = replay.export(0, 40), replay.export(40)
    joined = {name: torch.cat((part[name], rest[name]), dim=1) for name in part}
    assert all(torch.equal(values, replay.export(0)[name]) for name, values in joined.items())
    assert replay.row_bytes * 40 == sum(values.nbytes for values in part.values())


def test_no_transition_crosses_a_restart_of_the_environments():
    replay = PopulationReplay(spec(4), 2, 2, 400, CPU)
    expected = fill(replay, Course(2, 2, 4, seed=2), steps=50, restart_at=25)
    for member in range(2):
        assert_same(rows_of(replay, member), expected[member])


@pytest.mark.parametrize("stack", [1, 4])
def test_an_episode_that_is_over_when_a_course_begins_leads_into_the_next_by_no_transition(stack):
    replay = PopulationReplay(spec(stack), 2, 3, 600, CPU)
    expected = fill(replay, Course(2, 3, stack, seed=2), steps=90, change_at=range(7, 90, 7))
    for member in range(2):
        assert_same(rows_of(replay, member), expected[member])


def test_terminated_and_truncated_are_told_apart():
    replay = PopulationReplay(spec(1), 1, 1, 10, CPU)
    zero = np.zeros((1, 1), dtype=bool)
    obs, reward = np.zeros((1, 1, 2), np.float32), np.zeros((1, 1), np.float32)
    replay.begin(obs)
    replay.observe(np.zeros((1, 1), int), EnvStep(obs, reward, reward, zero, ~zero))
    assert [row[3] for row in rows_of(replay, 0)] == [False]
    replay.observe(np.zeros((1, 1), int), EnvStep(obs, reward, reward, zero, zero))  # the autoreset step
    replay.observe(np.zeros((1, 1), int), EnvStep(obs, reward, reward, ~zero, zero))
    assert [row[3] for row in rows_of(replay, 0)] == [False, True]


def test_sampling_is_uniform_over_transitions():
    replay = PopulationReplay(spec(1), 1, 1, 100, CPU)
    fill(replay, Course(1, 1, 1, seed=3), steps=50)
    size = int(replay.sizes[0])
    batch = replay.sample(np.random.default_rng(0).random((1, 40_000)))
    _, counts = np.unique(batch.frames[0, :, 0, 0].numpy(), return_counts=True)
    assert len(counts) == size
    assert counts.min() > 0.8 * 40_000 / size
    assert counts.max() < 1.2 * 40_000 / size


@pytest.mark.parametrize("stack", [1, 4])
def test_steps_are_counted_from_the_last_clear_and_the_rows_that_a_course_begins_with_are_none(stack):
    replay, course = PopulationReplay(spec(stack), 2, 3, 300, CPU), Course(2, 3, stack, seed=0)
    replay.begin(course.reset())
    assert replay.steps_since_clear == 0
    assert not replay.has(0)
    fill(replay, course, steps=2, change_at=[1])
    assert (replay.steps_since_clear, replay.has(6), replay.has(7)) == (6, True, False)
    replay.clear()
    replay.begin(course.obs(), course.ended)
    assert replay.steps_since_clear == 0
    replay.observe(course.rng.integers(0, 4, course.shape), course.step())
    assert (replay.steps_since_clear, replay.has(3)) == (3, False), "all of its episodes may have been over"
    replay.observe(course.rng.integers(0, 4, course.shape), course.step())
    assert replay.has(6)


def test_clear_forgets_everything_before():
    replay = PopulationReplay(spec(4), 2, 2, 400, CPU)
    course = Course(2, 2, 4, seed=4)
    fill(replay, course, steps=30)
    replay.clear()
    assert replay.sizes.tolist() == [0, 0]
    expected = fill(replay, course, steps=10)
    for member in range(2):
        assert_same(rows_of(replay, member), expected[member])


@pytest.mark.parametrize("cleared", [False, True])
def test_chunks_restore_the_replay_and_its_future_for_forked_members(cleared):
    stacked, parents = spec(4), [1, 0, 1]
    replay = PopulationReplay(stacked, 2, 2, 60, CPU)
    course = Course(2, 2, 4, seed=5)
    chunks, saved = [], 0
    fill(replay, course, steps=23)
    for _ in range(3):
        if cleared:
            replay.clear()
        fill(replay, course, steps=9)
        first = max(saved - 1, replay.oldest_row, 0)
        chunks.append((first, {name: t[parents] for name, t in replay.export(first).items()}))
        saved = replay.rows
    twin = PopulationReplay(stacked, 3, 2, 60, CPU)
    twin.restore(replay.meta(), chunks, parents)
    assert twin.steps_since_clear == replay.steps_since_clear
    for member, parent in enumerate(parents):
        assert_same(rows_of(twin, member), rows_of(replay, parent))
    for _ in range(25):
        action, step = course.rng.integers(0, 4, course.shape), course.step()
        replay.observe(action, step)
        twin.observe(action[parents], EnvStep(*(field[parents] for field in step)))
    for member, parent in enumerate(parents):
        assert_same(rows_of(twin, member), rows_of(replay, parent))


def test_a_capacity_below_one_stack_is_refused():
    with pytest.raises(ValueError, match="capacity_transitions: must be at least 12"):
        PopulationReplay(spec(4), 1, 2, 10, CPU)


def test_rows_that_no_action_followed_hold_one_that_values_know() -> None:
    spec = EnvSpec(obs_shape=(4, 3, 3), obs_dtype="uint8", frame_stack=4, actions=DiscreteActions(count=3))
    obs = np.zeros((1, 1, 4, 3, 3), np.uint8)
    torch.use_deterministic_algorithms(True)  # memory that is not written holds the largest numbers
    try:
        replay = PopulationReplay(spec, 1, 1, 100, CPU, expected_transitions=1)
        replay.begin(obs)
        for _ in range(20):
            replay.observe(
                np.full((1, 1), 2), EnvStep(obs, *np.zeros((2, 1, 1), np.float32), *np.zeros((2, 1, 1), bool))
            )
    finally:
        torch.use_deterministic_algorithms(False)
    actions = replay.transitions(np.arange(24)[None]).action  # three rows of the first stack, and the open one
    assert actions.tolist() == [[0, 0, 0, *[2] * 20, 0]]
