"""What PPO's policies do: choices and vectors, in training and evaluation, and what they begin as."""

import math
from dataclasses import replace

import numpy as np
import torch
from small_ppo import CONFIG, NUM_ENVS, ROLLOUT, VECTOR, Drift, built

from plasticbench.seeding import derive_generator


def test_choices_come_as_often_as_the_policy_says_and_evaluation_takes_the_likeliest():
    agent = built([0], replace(CONFIG, evaluation_policy="sampled"))
    with torch.no_grad():
        agent.trained[0].online.parameters["policy.bias"][0] = torch.tensor([0.0, 1.0, 2.0])
        agent.trained[0].online.parameters["policy.weight"].zero_()
    obs = np.zeros((1, 20_000, 3), np.float32)
    uniforms = derive_generator(0, "evaluation").random((1, 20_000, 2))
    shares = np.bincount(agent.act_in_evaluation(obs, uniforms)[0]) / 20_000
    np.testing.assert_allclose(shares, np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum(), atol=0.01)
    agent.config = CONFIG
    assert (agent.act_in_evaluation(obs, uniforms) == 2).all()


def test_vectors_are_clipped_to_what_is_allowed_and_learnt_from_as_they_were_drawn():
    agent, env = built([0, 1], spec=VECTOR), Drift(2)
    agent.begin(env.obs)
    drawn = []
    for step in range(0, ROLLOUT, NUM_ENVS):
        action = agent.act(env.obs, step)
        drawn.append(action)
        assert (np.abs(action) <= [1.0, 0.5]).all()
        agent.observe(action, env.step(action))
    raw = agent.rollouts._action.numpy()
    assert (np.abs(raw) > [1.0, 0.5]).any()
    np.testing.assert_array_equal(np.clip(raw.swapaxes(0, 1), [-1, -0.5], [1, 0.5]), np.array(drawn))


def test_first_weights_are_orthogonal_with_the_usual_gains_and_deviations_begin_at_one():
    actor, critic = (network.online for network in built([0], spec=VECTOR).trained)
    for network, name, gain in ((actor, "fc1", math.sqrt(2)), (actor, "mean", 0.01), (critic, "value", 1.0)):
        weight = network.parameters[f"{name}.weight"][0].double()
        gram = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
        torch.testing.assert_close(gram, gain**2 * torch.eye(len(gram), dtype=torch.float64), rtol=1e-5, atol=1e-6)
    assert not actor.parameters["log_std.bias"].any()
