import numpy as np
import pytest

from plasticbench.contracts.task import EnvStep
from plasticbench.envs._episodes import EpisodeStatistics


def _step(raw_rewards: list[float], ends: list[bool], truncated: bool = False) -> EnvStep:
    raw = np.array(raw_rewards, np.float32)
    flags, none = np.array(ends), np.zeros(len(ends), bool)
    return EnvStep(
        obs=np.zeros((len(raw), 1), np.float32),
        reward=np.sign(raw),
        raw_reward=raw,
        terminated=none if truncated else flags,
        truncated=flags if truncated else none,
    )


def test_returns_and_lengths_match_a_hand_worked_course() -> None:
    statistics = EpisodeStatistics(2)
    statistics.update(_step([2.0, 1.0], [False, False]))
    statistics.update(_step([3.0, 1.0], [True, False]))
    statistics.update(_step([0.0, 1.0], [False, False]))  # environment 0 resets
    statistics.update(_step([7.0, 1.0], [True, True], truncated=True))
    returns, lengths, counts = statistics.drain(members=2)
    assert returns.tolist() == [5.0 + 7.0, 4.0]
    assert lengths.tolist() == [2 + 1, 4]
    assert counts.tolist() == [2, 1]


def test_drain_forgets_finished_episodes_and_keeps_running_ones() -> None:
    statistics = EpisodeStatistics(1)
    statistics.update(_step([1.0], [True]))
    statistics.update(_step([0.0], [False]))
    statistics.update(_step([4.0], [False]))
    statistics.drain(members=1)
    statistics.update(_step([5.0], [True]))
    returns, lengths, counts = statistics.drain(members=1)
    assert (returns.tolist(), lengths.tolist(), counts.tolist()) == ([9.0], [2], [1])
    assert statistics.drain(members=1)[2].tolist() == [0]


def test_environments_are_summed_per_member() -> None:
    statistics = EpisodeStatistics(4)
    statistics.update(_step([1.0, 2.0, 3.0, 4.0], [True, True, True, False]))
    returns, lengths, counts = statistics.drain(members=2)
    assert (returns.tolist(), lengths.tolist(), counts.tolist()) == ([3.0, 3.0], [2, 1], [2, 1])


def test_restart_drops_running_episodes_only() -> None:
    statistics = EpisodeStatistics(2)
    statistics.update(_step([1.0, 2.0], [True, False]))
    statistics.restart()
    statistics.update(_step([10.0, 10.0], [True, True]))
    returns, lengths, counts = statistics.drain(members=2)
    assert (returns.tolist(), lengths.tolist(), counts.tolist()) == ([11.0, 10.0], [2, 1], [2, 1])


def test_select_copies_running_and_finished_episodes() -> None:
    statistics = EpisodeStatistics(2)
    statistics.update(_step([1.0, 2.0], [True, False]))
    statistics.select([1, 0, 1])
    statistics.update(_step([5.0, 0.0, 6.0], [True, False, True]))
    returns, lengths, counts = statistics.drain(members=3)
    assert (returns.tolist(), lengths.tolist(), counts.tolist()) == ([7.0, 1.0, 8.0], [2, 1, 2], [1, 1, 1])


@pytest.mark.parametrize("steps_before", [0, 1, 2, 3])
def test_a_restored_copy_continues_alike(steps_before: int) -> None:
    course = [_step([1.0], [False]), _step([2.0], [True]), _step([0.0], [False]), _step([3.0], [True])]
    original, copy = EpisodeStatistics(1), EpisodeStatistics(1)
    for step in course[:steps_before]:
        original.update(step)
    state = original.state_dict()
    copy.load_state_dict(state)
    for step in course[steps_before:]:
        original.update(step)
        copy.update(step)
    for ours, theirs in zip(original.drain(1), copy.drain(1), strict=True):
        assert ours.tolist() == theirs.tolist()
    assert state["counts"].tolist() == [int(steps_before >= 2)]
