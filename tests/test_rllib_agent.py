"""RLlib's own algorithms under the platform's resets, probes, clock and checkpoints."""

from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import facts, prepare, run_all, small

from plasticbench.platform.benchmark import from_dict
from plasticbench.platform.segment import SegmentRun

pytestmark = [pytest.mark.ray, pytest.mark.slow]

DQN = {
    "kind": "rllib",
    "algorithm": "DQN",
    "config": {
        "rollout_fragment_length": 4,
        "num_steps_sampled_before_learning_starts": 40,
        "target_network_update_freq": 60,
        "epsilon": [[0, 1.0], [200, 0.1]],
        "replay_buffer_config": {"capacity": 150},
    },
    "model": {"fcnet_hiddens": [16, 16]},
}
SAC = {
    "kind": "rllib",
    "algorithm": "SAC",
    "config": {
        "rollout_fragment_length": 4,
        "num_steps_sampled_before_learning_starts": 40,
        "train_batch_size_per_learner": 32,
        "initial_alpha": 0.5,
        "alpha_lr": 0.01,
        "replay_buffer_config": {"capacity": 500},
    },
    "model": {"fcnet_hiddens": [16, 16], "fusionnet_hiddens": [16]},
}
TASKS = {"DQN": "CartPole-v1", "SAC": "Pendulum-v1"}


@pytest.fixture(scope="module", autouse=True)
def ray_cluster():
    """One Ray for all tests of this file."""
    import logging

    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


def benchmark(agent=DQN, **changes):
    scenario = {"kind": "observation_permutation", "at": [0.75], "replay": "clear"}
    environment = {"kind": "classic", "task": TASKS[agent["algorithm"]], "scenario": scenario}
    changes = {"seeds": 1, "environments": [environment], "methods": {"fire": {"kind": "fire"}}} | changes
    return small(agent=agent, budget_steps=240, resets={"at": [0.5]}, **changes) | {
        "evaluation": {"every_steps": 80, "episodes": 1},
        "probes": {"every_steps": 80, "batch_rows": 32, "kinds": ["dormant_ratio", "gradient_norm", "dfi"]},
        "records": {"every_steps": 20},
    }


def run_with_interruptions(path: Path, data, every_rounds: int):
    """Stops every segment again and again; each part builds everything anew from the last commit."""
    plan = prepare(path, data)
    for segment in plan.segments:
        while True:
            rounds = count(1)
            if SegmentRun(path, segment.id).run(lambda rounds=rounds: next(rounds) % every_rounds == 0):
                break
    return plan


@pytest.mark.parametrize("agent", [DQN, SAC, DQN | {"num_learners": 1}], ids=["DQN", "SAC", "remote DQN"])
def test_a_run_that_is_interrupted_again_and_again_equals_one_that_is_not(tmp_path, agent):
    data = benchmark(agent)
    whole = run_all(tmp_path / "whole", data)
    parts = run_with_interruptions(tmp_path / "parts", data, every_rounds=13)
    expected, found = facts(tmp_path / "whole", whole), facts(tmp_path / "parts", parts)
    assert len(expected["fire", 0]) > 50
    assert expected == found


@pytest.fixture(params=[(DQN, 0), (SAC, 0), (DQN, 1)], ids=["DQN", "SAC", "remote DQN"])
def trained(request, tmp_path):
    """An agent that has learned, halfway through its budget."""
    agent, num_learners = request.param
    plan = prepare(tmp_path / "run", benchmark(agent | {"num_learners": num_learners}))
    run = SegmentRun(tmp_path / "run", plan.segments[0].id)
    for _ in run._trainer.advance():
        pass
    yield run._trainer
    run._close()


def learner_state(agent):
    from plasticbench.agents import _rllib_learner

    return _rllib_learner.ask(agent._algorithm, _rllib_learner.export)[0]


@pytest.mark.parametrize("kind", ["full_reset", "shrink_perturb", "fire"])
def test_after_a_reset_the_runner_acts_with_the_learners_weights(trained, kind):
    agent = trained.agent
    before = learner_state(agent)
    config = from_dict(benchmark(methods={"m": {"kind": kind}})).method("m").policy
    agent.reset([0], config, agent.probe_batch(np.random.default_rng(0).random((1, 8))))
    after = learner_state(agent)
    shared = {name: value for name, value in after.items() if f"{name}".startswith("module/")}
    runner = agent._runner.module.state_dict()
    assert runner
    assert any(not torch.equal(before[name], after[name]) for name in shared)
    for name, value in runner.items():
        torch.testing.assert_close(value, after[f"module/{name}"], rtol=0, atol=0)
    assert any(not torch.equal(value, before[f"module/{name}"]) for name, value in runner.items())
