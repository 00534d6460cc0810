"""DQN on CartPole: environment steps per second of plasticbench, RLlib, stable-baselines3 and a CleanRL-style loop.

    python -m benchmarks.peers                       # needs `pip install stable-baselines3`

All of them train two layers of 64 on batches of 32 from a uniform replay, one update per environment step, on one
thread, in turn within one process, so that a busy machine slows all of them. Ours is the whole trainer, as a benchmark
file runs it. Rates are per CPU second, the best of the rounds; an update of a population counts once per member.
Prints one JSON object. "machine" is one population on each core.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator

import gymnasium
import numpy as np
import torch
from torch import nn

from examples.cleanrl_style_dqn import Replay
from plasticbench.platform.cluster.connection import start_own_node
from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.training.trainer import Trainer

TASK = "CartPole-v1"
HIDDEN = (64, 64)
BATCH_ROWS = 32
CAPACITY = 20_000
LEARNING_STARTS = 500
TARGET_PERIOD = 500
LEARNING_RATE = 1e-3
EPSILON = 0.05

Run = Callable[[int], int]
"""Trains for about this many environment steps and returns how many it were, all members together."""


def native(members: int) -> Run:
    agent = {
        "kind": "dqn",
        "network": {"kind": "mlp", "hidden": list(HIDDEN)},
        "batch_rows": BATCH_ROWS,
        "learning_rate": LEARNING_RATE,
        "capacity_transitions": CAPACITY,
        "learning_starts_steps": LEARNING_STARTS,
        "target_period_steps": TARGET_PERIOD,
        "epsilon_start": EPSILON,
        "epsilon_end": EPSILON,
    }
    forever = 10_000_000
    benchmark = from_dict(
        {
            "name": "peers",
            "environments": [{"kind": "classic", "task": TASK}],
            "agent": agent,
            "methods": {"none": {"kind": "none"}},
            "seeds": members,
            "budget_steps": forever,
            "evaluation": {"every_steps": forever, "episodes": 1},
            "execution": {"members_per_population": members},
        }
    )
    trainer = Trainer(benchmark, make_plan(benchmark).segments[0])
    trainer.start()
    course = trainer.advance()

    def run(num_steps: int) -> int:
        strides = -(-num_steps // members)
        for _ in range(strides):
            next(course)
        return strides * members

    return run


def rllib() -> Run:
    start_own_node(num_cpus=1)
    from ray.rllib.algorithms.dqn import DQNConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME

    algorithm = (
        DQNConfig()
        .environment(TASK)
        .env_runners(num_env_runners=0, rollout_fragment_length=1)
        .learners(num_learners=0)
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=list(HIDDEN), fcnet_activation="relu"))
        .training(
            train_batch_size_per_learner=BATCH_ROWS,
            lr=LEARNING_RATE,
            dueling=False,
            epsilon=EPSILON,
            target_network_update_freq=TARGET_PERIOD,
            num_steps_sampled_before_learning_starts=LEARNING_STARTS,
            replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": CAPACITY},
        )
        .reporting(min_sample_timesteps_per_iteration=50, min_time_s_per_iteration=0)
        .build_algo()
    )

    def run(num_steps: int) -> int:
        first = sampled = 0
        while sampled - first < num_steps:
            result = algorithm.train()
            first = first or sampled
            sampled = int(result[ENV_RUNNER_RESULTS][NUM_ENV_STEPS_SAMPLED_LIFETIME])
            first = first or sampled - 50
        return sampled - first

    return run


def stable_baselines3() -> Run:
    from stable_baselines3 import DQN

    model = DQN(
        "MlpPolicy",
        TASK,
        learning_rate=LEARNING_RATE,
        buffer_size=CAPACITY,
        batch_size=BATCH_ROWS,
        learning_starts=LEARNING_STARTS,
        train_freq=1,
        gradient_steps=1,
        target_update_interval=TARGET_PERIOD,
        exploration_initial_eps=EPSILON,
        exploration_final_eps=EPSILON,
        policy_kwargs={"net_arch": list(HIDDEN)},
        device="cpu",
    )

    def run(num_steps: int) -> int:
        before = model.num_timesteps
        model.learn(num_steps, reset_num_timesteps=False, log_interval=None)
        return int(model.num_timesteps - before)

    return run


def single_file() -> Run:
    course = _single_file_steps()

    def run(num_steps: int) -> int:
        for _ in range(num_steps):
            next(course)
        return num_steps

    return run


def _single_file_steps() -> Iterator[None]:
    rng, env = np.random.default_rng(0), gymnasium.make(TASK)
    q = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    target, replay = copy.deepcopy(q), Replay(CAPACITY, 4)
    optimizer = torch.optim.Adam(q.parameters(), lr=LEARNING_RATE)
    obs, _ = env.reset(seed=0)
    step = 0
    while True:
        step += 1
        with torch.no_grad():
            action = int(rng.integers(2) if rng.random() < EPSILON else q(torch.from_numpy(obs)[None]).argmax())
        next_obs, reward, terminated, truncated, _ = env.step(action)
        replay.add(obs, next_obs, action, reward, terminated)
        obs = env.reset()[0] if terminated or truncated else next_obs
        if step > LEARNING_STARTS:
            rows, next_rows, actions, rewards, ends = replay.sample(BATCH_ROWS, rng)
            with torch.no_grad():
                td_target = rewards + 0.99 * (1.0 - ends) * target(next_rows).max(dim=1).values
            loss = nn.functional.mse_loss(q(rows).gather(1, actions[:, None])[:, 0], td_target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if step % TARGET_PERIOD == 0:
            target.load_state_dict(q.state_dict())
        yield


def best_rates(runs: dict[str, Run], rounds: int, cpu_s: float) -> dict[str, float]:
    """Environment steps per CPU second of each, the best of the rounds, all of them in turn within each round."""
    rates = dict.fromkeys(runs, 0.0)
    for name, run in runs.items():
        run(2 * LEARNING_STARTS * int(name.rpartition("m")[2] if name.startswith("native") else 1))
    for _ in range(rounds):
        for name, run in runs.items():
            steps, began = 0, time.process_time()
            while (taken := time.process_time() - began) < cpu_s:
                steps += run(50)
            rates[name] = max(rates[name], steps / taken)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=3.0, help="CPU seconds per measurement")
    parser.add_argument("--members", type=int, default=64, help="of the population")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    population = f"native_m{args.members}"
    runs = {
        "native_m1": native(1),
        population: native(args.members),
        "rllib": rllib(),
        "stable_baselines3": stable_baselines3(),
        "single_file": single_file(),
    }
    rates, cores = best_rates(runs, args.rounds, args.seconds), os.cpu_count() or 1
    result = {
        "benchmark": "peers",
        "cores": cores,
        "env_steps_and_updates_per_cpu_s": {name: round(rate) for name, rate in rates.items()},
        "native_m1_over": {name: round(rates["native_m1"] / rates[name], 1) for name in list(runs)[2:]},
        "native_machine_over_one_process": {
            name: round(cores * rates[population] / rates[name], 1) for name in list(runs)[2:]
        },
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
