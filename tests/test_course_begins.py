"""What an agent stores where its task changes and the environments go on."""

import numpy as np
import pytest
import torch
from replay_rows import Happened, assert_same, rows_of

from plasticbench.agents import dqn
from plasticbench.contracts.learner import Population
from plasticbench.envs import classic
from plasticbench.envs._course import RLCourse
from plasticbench.envs.scenarios import observation_permutation
from plasticbench.platform.definition.benchmark import Evaluation

BUDGET, ENVS = 1_200, 6


def _course(replay_rule):
    population = Population(
        agent=dqn.Config(batch_rows=16, learning_starts_steps=BUDGET, capacity_transitions=4_000),
        seeds=[0, 1],
        parts=[(), ()],
        budget_steps=BUDGET,
        evaluation=Evaluation(every_steps=100, episodes=1),
        device=torch.device("cpu"),
        num_threads=1,
    )
    scenario = observation_permutation.Config(at=(0.25, 0.5, 0.75), replay=replay_rule)
    return RLCourse.build(classic.Config(task="CartPole-v1", num_envs=ENVS), scenario, population)


@pytest.mark.parametrize("replay_rule", ["keep", "clear"])
def test_every_row_is_a_transition_within_one_episode_and_one_phase(replay_rule):
    course, happened, ended_at_changes = _course(replay_rule), [[], []], 0
    world, agent = course.world, course.learner
    course.begin()
    for step in range(0, BUDGET, ENVS):
        phase = sum(change <= step for change in course.change_steps)
        course.set_phase(phase, step)
        if step in course.change_steps:
            ended_at_changes += world.ended.sum()
            if course.clears_replay:
                agent.replay.clear()
                happened = [[], []]
            course.begin()
        obs, ended, action = world.obs, world.ended.copy(), agent.act(world.obs, step)
        followed = world.step(action)
        agent.observe(action, followed)
        for member, env in zip(*np.nonzero(~ended), strict=True):
            at = (member, env)
            outcome = (followed.reward[at], followed.terminated[at], followed.obs[at], 0.99)
            happened[member].append(Happened(obs[at], action[at], *outcome, step, env, False, phase))
    assert ended_at_changes > 0
    for member in range(2):
        assert_same(rows_of(agent.replay, member), happened[member])
