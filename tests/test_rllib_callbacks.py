"""The callbacks for RLlib scripts."""

from functools import partial

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

from plasticbench.agents.rllib import learner
from plasticbench.agents.rllib.learner import ask
from plasticbench.rllib import ProbeCallback, ResetCallback

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.usefixtures("own_ray"),
    pytest.mark.filterwarnings("ignore"),  # RLlib's own
]


def dqn(*callbacks, model=None, **training):
    settings = {
        "dueling": False,
        "num_steps_sampled_before_learning_starts": 20,
        "replay_buffer_config": {"type": "EpisodeReplayBuffer", "capacity": 500},
    }
    return (
        DQNConfig()
        .environment("CartPole-v1")
        .env_runners(rollout_fragment_length=10)
        .training(**settings | training)
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[8, 8], **model or {}))
        .reporting(min_sample_timesteps_per_iteration=40)
        .debugging(seed=1)
        .callbacks(list(callbacks))
    )


def test_a_callback_resets_where_a_multiple_is_reached_and_the_runner_acts_with_the_result():
    algorithm = dqn(partial(ResetCallback, "full_reset", every_steps=80)).build_algo()
    first = ask(algorithm, learner.weights)["q"]
    steps = []
    for _ in range(3):
        algorithm.train()
        adam = ask(algorithm, learner.export)[0]
        steps.append(max(float(v.max()) for k, v in adam.items() if k.startswith("optimizer/") and k.endswith("step")))
        learned = ask(algorithm, learner.weights)["q"]
        runner = algorithm.env_runner.module.state_dict()
        for name, value in learned.items():
            own = name.replace("head.", "af.")
            torch.testing.assert_close(runner[own], value, rtol=0, atol=0)
    assert steps[0] > 0
    assert steps[1] == 0  # the reset at step 80 also forgets the moments
    assert steps[2] > 0
    assert not torch.equal(first["head.net.mlp.0.weight"], learned["head.net.mlp.0.weight"])
    algorithm.stop()


def test_a_dueling_network_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match="Set dueling=False, num_atoms=1"):
        dqn(partial(ResetCallback, "fire", every_steps=80), dueling=True).build_algo()


LSTM = {"use_lstm": True, "lstm_cell_size": 8, "max_seq_len": 10}


def test_a_reset_renews_every_gate_of_an_lstm_and_a_probe_refuses_it():
    algorithm = dqn(partial(ResetCallback, "full_reset", every_steps=80), model=LSTM).build_algo()
    algorithm.train()
    before = ask(algorithm, learner.weights)["q"]
    algorithm.train()
    after = ask(algorithm, learner.weights)["q"]
    gates = {name for name in before if ".lstm." in name}
    assert len(gates) == 4
    changes = {name: (after[name] - before[name]).abs().mean() for name in gates}
    assert all(change > 0.1 for change in changes.values())  # forty updates move them by a few hundredths
    algorithm.stop()
    with pytest.raises(ValueError, match="use_lstm: probes look at single rows of a replay"):
        dqn(ProbeCallback, model=LSTM).build_algo()


def test_probes_stand_in_the_result_and_leave_the_training_alone():
    weights = []
    for callbacks in ([], [ProbeCallback]):
        algorithm = dqn(*callbacks).build_algo()
        algorithm.local_replay_buffer.rng = np.random.default_rng(0)  # RLlib leaves it unseeded
        for _ in range(3):
            result = algorithm.train()
        weights.append(ask(algorithm, learner.weights)["q"])
        algorithm.stop()
    assert {"dormant_ratio", "gradient_norm", "weight_distance"} <= result["plasticity"]["online"].keys()
    assert "gradient_norm" not in result["plasticity"]["target"]
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fyre", 10), "Did you mean 'fire'"),
        (("fire", 0), "every_steps: must be at least 1, got 0"),
        (("fire", 1.5), "every_steps: must be a whole number of environment steps, got 1.5"),
        (("fire", True), "every_steps: must be a whole number of environment steps, got True"),
    ],
)
def test_a_callback_that_could_never_work_is_refused_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        ResetCallback(*arguments)
