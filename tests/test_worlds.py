"""Tasks that become others: new environments or new rewards at a phase, in training, evaluation and whole runs."""

import itertools
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control import CartPoleEnv
from small_runs import die_behind_the_last_commit, facts, offer, prepare, run_all, small

from plasticbench.agents import dqn
from plasticbench.contracts.task import EnvConfig, EnvStep
from plasticbench.envs import gymnasium as family
from plasticbench.envs._course import RLCourse
from plasticbench.envs._evaluation import evaluate
from plasticbench.envs._world import World
from plasticbench.envs.scenarios._unchanged import Unchanged
from plasticbench.learning.networks import mlp
from plasticbench.platform.definition.benchmark import Evaluation
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.segment import SegmentRun
from plasticbench.records import read_records
from plasticbench.schedules import At, Fractions
from plasticbench.seeding import Streams, derive_seed
from plasticbench.settings import Settings

TASK, OTHER_TASK = "CartPole-v1", "plasticbench/SluggishPole-v0"
SEEDS = [3, 8]
CPU = torch.device("cpu")


class SluggishPole(CartPoleEnv):
    """A cart that is pushed a tenth as hard."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.force_mag = 1.0


gymnasium.register(OTHER_TASK, entry_point=SluggishPole, max_episode_steps=25)


@dataclass(frozen=True, kw_only=True, slots=True)
class OtherTask(Settings):
    """Every second phase is another task."""

    at: Fractions

    def build(self, spec, member_seeds, budget_steps, num_envs):
        scenario = Moved()
        scenario.change_steps = At(at=self.at).steps(budget_steps)
        return scenario


class Moved(Unchanged):
    def env(self, config: EnvConfig, phase: int) -> EnvConfig:
        return replace(config, task=OTHER_TASK) if phase % 2 else config


@dataclass(frozen=True, kw_only=True, slots=True)
class FlippedRewards(Settings):
    """Every second phase punishes what was rewarded."""

    at: Fractions

    def build(self, spec, member_seeds, budget_steps, num_envs):
        scenario = Flipped()
        scenario.change_steps = At(at=self.at).steps(budget_steps)
        return scenario


class Flipped(Unchanged):
    def reward(self, step: EnvStep, phase: int, obs: np.ndarray, action: np.ndarray) -> EnvStep:
        return step._replace(reward=-step.reward, raw_reward=-step.raw_reward) if phase % 2 else step


CONFIG = family.Config(task=TASK, low_return=0.0, high_return=100.0, num_envs=2)


def _world(scenario, seeds=SEEDS):
    return World(CONFIG, scenario, seeds, num_threads=1)


def _actions(steps, members=2, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (steps, members, 2))


def _own(task, seed, at_step, actions):
    """What environments of a member's own see: first observations, then those after each action ``[T, E]``."""
    seeds = [derive_seed(seed, "environment", at_step, i) for i in range(2)]
    env = replace(CONFIG, task=task).build(seeds, 1)
    return [env.reset(), *(env.step(action).obs for action in actions)]


# -- worlds -----------------------------------------------------------------------------------------------------------


def test_a_phase_with_other_environments_begins_new_episodes_in_them_by_each_members_seed() -> None:
    world, actions = _world(Moved()), _actions(30)
    for action in actions[:10]:
        world.step(action)
    for expected, seed in zip(world.obs, SEEDS, strict=True):
        np.testing.assert_array_equal(expected, _own(TASK, seed, 0, actions[:10, SEEDS.index(seed)])[-1])
    world.change(1, at_step=20)
    seen = [world.obs, *(world.step(action).obs for action in actions[10:])]
    for member, seed in enumerate(SEEDS):
        expected = _own(OTHER_TASK, seed, 20, actions[10:, member])
        np.testing.assert_array_equal([obs[member] for obs in seen], expected)


def test_a_phase_with_the_same_environments_goes_on_in_them() -> None:
    changing, steady = _world(Moved()), _world(Unchanged())
    for world in (changing, steady):
        world.change(2, at_step=0)
    for action in _actions(30):
        assert all(map(np.array_equal, changing.step(action), steady.step(action)))
    changing.change(4, at_step=60)
    np.testing.assert_array_equal(changing.obs, steady.obs)
    assert changing.episodes.state_dict()["running_length"].any()


def test_running_episodes_end_uncounted_where_the_environments_are_others() -> None:
    world = _world(Moved())
    world.step(_actions(1)[0])
    world.change(1, at_step=2)
    assert not world.episodes.state_dict()["running_length"].any()
    _, lengths, counts = world.episodes.drain(2)
    assert (lengths.tolist(), counts.tolist()) == ([0, 0], [0, 0])


def test_the_rewards_of_a_phase_reach_the_agent_and_the_sums_over_episodes() -> None:
    world, always_left = _world(Flipped()), np.zeros((2, 2), int)
    assert (world.step(always_left).reward == 1).all()
    world.change(1, at_step=2)
    step = world.step(always_left)
    assert (step.reward == -1).all()
    assert (step.raw_reward == -1).all()
    while not world.episodes.state_dict()["counts"].all():
        world.step(always_left)
    returns, lengths, counts = world.episodes.drain(2)
    assert (counts >= 2).all()
    np.testing.assert_array_equal(returns, 4 - lengths)  # in each of two environments one step was worth 1, not -1


@pytest.mark.parametrize("scenario", [Moved(), Flipped()], ids=["environments", "rewards"])
@pytest.mark.parametrize("phase", [0, 1, 2])
@pytest.mark.parametrize("parents", [[0, 1], [1], [1, 0, 1]])
def test_a_world_that_was_saved_in_any_phase_goes_on_bit_for_bit_also_for_chosen_members(scenario, phase, parents):
    world = _world(scenario)
    for step, action in enumerate(_actions(45)):
        world.change(min(step // 15, phase), at_step=2 * step)
        world.step(action)
    twin = _world(scenario, [SEEDS[parent] for parent in parents])
    twin.load_state_dict(world.state_dict(), parents, phase=phase, replay=True)
    np.testing.assert_array_equal(twin.obs, world.obs[parents])
    for action in _actions(60, seed=1):
        for ours, theirs in zip(twin.step(action[parents]), world.step(action), strict=True):
            np.testing.assert_array_equal(ours, theirs[parents])
    rows = [2 * parent + i for parent in parents for i in range(2)]
    for name, values in twin.episodes.state_dict().items():
        np.testing.assert_array_equal(values, world.episodes.state_dict()[name][rows])


# -- evaluation -------------------------------------------------------------------------------------------------------


def _course(scenario):
    config = dqn.Config(network=mlp.Config(hidden=(8,)), evaluation_epsilon=0.3, capacity_transitions=100)
    streams = [Streams(seed) for seed in SEEDS]
    agent = config.build(spec=CONFIG.spec, num_envs=2, streams=streams, budget_steps=100, device=CPU)
    course = RLCourse(
        config=CONFIG,
        scenario=scenario,
        learner=agent,
        seeds=SEEDS,
        evaluation=Evaluation(every_steps=100, episodes=4, steps=None, num_envs=2),
        stride_steps=2,
        num_threads=1,
    )
    course.begin()
    return course


def _evaluated(course, config):
    return evaluate(
        course.learner.act_in_evaluation,
        lambda obs: obs,
        config,
        SEEDS,
        at_step=40,
        num_envs=2,
        episodes=4,
        steps=None,
        num_threads=1,
    )


def test_evaluation_in_a_phase_is_evaluation_in_its_environments() -> None:
    course, other = _course(Moved()), replace(CONFIG, task=OTHER_TASK)
    for phase, config in enumerate((CONFIG, other, CONFIG)):
        found, expected = course.evaluate(40, phase), _evaluated(course, config)
        np.testing.assert_array_equal(found["eval/return"], expected.mean_return)
        np.testing.assert_array_equal(found["eval/length"], expected.mean_length)
        np.testing.assert_allclose(found["eval/score"], expected.mean_return / 100)
    assert (course.evaluate(40, 0)["eval/return"] != course.evaluate(40, 1)["eval/return"]).any()


def test_evaluation_in_a_phase_counts_its_rewards() -> None:
    course = _course(Flipped())
    rewarded, punished = course.evaluate(40, 0), course.evaluate(40, 1)
    np.testing.assert_array_equal(rewarded["eval/return"], rewarded["eval/length"])
    np.testing.assert_array_equal(punished["eval/return"], -rewarded["eval/return"])
    np.testing.assert_array_equal(punished["eval/score"], -rewarded["eval/score"])
    np.testing.assert_array_equal(punished["eval/length"], rewarded["eval/length"])


@pytest.mark.parametrize("scenario", [Moved(), Flipped()], ids=["environments", "rewards"])
def test_evaluation_in_another_phase_leaves_no_trace(scenario) -> None:
    course = _course(scenario)
    before = course.state_dict()
    course.evaluate(40, 1)
    after = course.state_dict()
    assert all(np.array_equal(after[name], value) for name, value in before.items())
    assert course.world.phase == 0


# -- whole runs -------------------------------------------------------------------------------------------------------


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "scenarios", other_task=OtherTask, flipped_rewards=FlippedRewards)


def _run(kind, at):
    environment = {"kind": "gymnasium", "task": TASK, "low_return": 0.0, "high_return": 100.0, "num_envs": 2}
    return small(environments=[environment | {"scenario": {"kind": kind, "at": at}}])


KINDS = ["other_task", "flipped_rewards"]
CHANGES = [[0.5], [0.25, 0.75], [0.2, 0.4, 0.6]]  # the methods fork at half the budget


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("at", CHANGES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_stopped_and_goes_on_or_dies_keeps_every_record(tmp_path, kind, at) -> None:
    data = _run(kind, at)
    plan = run_all(tmp_path / "whole", data)
    expected = facts(tmp_path / "whole", plan)
    prepare(tmp_path / "stopped", data)
    prepare(tmp_path / "dead", data)
    for segment in plan.segments:
        for _ in itertools.count():
            rounds = itertools.count(1)
            if SegmentRun(tmp_path / "stopped", segment.id).run(lambda rounds=rounds: next(rounds) >= 23):
                break
        die_behind_the_last_commit(tmp_path / "dead", segment.id)
        assert SegmentRun(tmp_path / "dead", segment.id).run()
    assert facts(tmp_path / "stopped", plan) == expected
    assert facts(tmp_path / "dead", plan) == expected
    assert len(expected) == 4


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("kind", KINDS)
def test_records_show_the_change_and_nothing_before_it(tmp_path, kind) -> None:
    changed, steady = run_all(tmp_path / "changed", _run(kind, [0.5])), run_all(tmp_path / "steady", _run(kind, [0.9]))
    ours, theirs = facts(tmp_path / "changed", changed)["fire", 0], facts(tmp_path / "steady", steady)["fire", 0]

    def until(step, found):
        return [fact for fact in found if fact[0] <= step and not fact[1].startswith("reset/")]

    assert until(200, ours) == until(200, theirs)
    assert until(300, ours) != until(300, theirs)
    trial = next(trial for trial in changed.trials if (trial.method, trial.seed) == ("fire", 0))
    records = list(read_records(RunDirectory(tmp_path / "changed").record_file(trial.id)))
    returns = {record.step: record.value for record in records if record.name == "eval/return"}
    lengths = {record.step: record.value for record in records if record.name == "eval/length"}
    assert [returns[step] == lengths[step] for step in (100, 200)] == [True, True]
    if kind == "flipped_rewards":
        assert [returns[step] == -lengths[step] for step in (300, 400)] == [True, True]
    else:
        assert [lengths[step] <= 25 for step in (300, 400)] == [True, True]
