"""SAC updates per second on one core: a population against one member, and one member against stable-baselines3.

    python -m benchmarks.sac population        # (64, 64) with batch 64 and (256, 256) with batch 256: M = 1 and M = 8
    python -m benchmarks.sac stable_baselines3 # (256, 256), batch 256, M = 1; needs `pip install stable-baselines3`

Prints one JSON object. Rates are member-updates per second, best of the rounds; compare ratios of one run only. The
task's shapes are HalfCheetah's.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from plasticbench.agents import sac
from plasticbench.contracts.task import BoxActions, EnvSpec, EnvStep
from plasticbench.learning.networks import mlp
from plasticbench.seeding import Streams

SPEC = EnvSpec(obs_shape=(17,), obs_dtype="float32", actions=BoxActions(low=(-1.0,) * 6, high=(1.0,) * 6))
ROWS = 2_000


def filled_agent(width: int, batch_rows: int, members: int) -> sac.SAC:
    network = mlp.Config(hidden=(width, width))
    config = sac.Config(
        actor_network=network, critic_network=network, batch_rows=batch_rows, capacity_transitions=ROWS + 10
    )
    streams = [Streams(seed) for seed in range(members)]
    agent = config.build(spec=SPEC, num_envs=1, streams=streams, budget_steps=ROWS, device=torch.device("cpu"))
    rng, no = np.random.default_rng(0), np.zeros((members, 1), dtype=bool)
    agent.begin(np.zeros((members, 1, 17), np.float32))
    for _ in range(ROWS):
        obs = rng.standard_normal((members, 1, 17), dtype=np.float32)
        reward = rng.standard_normal((members, 1), dtype=np.float32)
        action = rng.uniform(-1, 1, (members, 1, 6)).astype(np.float32)
        agent.observe(action, EnvStep(obs, reward, reward, no, no))
    return agent


def rate(update: Callable[[], Any], seconds: float) -> float:
    """Calls per second."""
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        update()
        count += 1
    return count / (time.perf_counter() - start)


def best_rates(updates: dict[str, Callable[[], Any]], rounds: int, seconds: float) -> dict[str, float]:
    """Best calls per second of each, measured in turn so that a busy machine slows all of them."""
    best = dict.fromkeys(updates, 0.0)
    for update in updates.values():
        rate(update, seconds / 4)
    for _ in range(rounds):
        for name, update in updates.items():
            best[name] = max(best[name], rate(update, seconds))
    return best


def bench_population(rounds: int, seconds: float) -> dict[str, float]:
    result = {}
    for width, batch_rows in ((64, 64), (256, 256)):
        updates = {str(members): filled_agent(width, batch_rows, members).update for members in (1, 8)}
        best = best_rates(updates, rounds, seconds)
        result |= {
            f"member_updates_per_s_{width}x2_batch{batch_rows}_m1": round(best["1"]),
            f"member_updates_per_s_{width}x2_batch{batch_rows}_m8": round(8 * best["8"]),
            f"ratio_{width}x2_m8_to_m1": round(8 * best["8"] / best["1"], 2),
        }
    return result


def filled_reference() -> Any:
    import gymnasium
    from stable_baselines3 import SAC
    from stable_baselines3.common.logger import Logger

    class Shapes(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (17,), np.float32)
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (6,), np.float32)

    model = SAC("MlpPolicy", Shapes(), buffer_size=ROWS, batch_size=256, device="cpu", seed=0)
    model.set_logger(Logger(None, []))
    rng = np.random.default_rng(0)
    for _ in range(ROWS):
        obs, next_obs = rng.standard_normal((2, 1, 17), dtype=np.float32)
        action = rng.uniform(-1, 1, (1, 6)).astype(np.float32)
        model.replay_buffer.add(obs, next_obs, action, rng.standard_normal(1), np.zeros(1), [{}])
    return model


def bench_reference(rounds: int, seconds: float) -> dict[str, float]:
    reference = filled_reference()
    updates = {
        "ours": filled_agent(256, 256, 1).update,
        "stable_baselines3": lambda: reference.train(gradient_steps=1, batch_size=256),
    }
    best = best_rates(updates, rounds, seconds)
    return {
        "updates_per_s_ours": round(best["ours"], 1),
        "updates_per_s_stable_baselines3": round(best["stable_baselines3"], 1),
        "ratio": round(best["ours"] / best["stable_baselines3"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("population", "stable_baselines3"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="per measurement")
    args = parser.parse_args()
    torch.set_num_threads(1)
    bench = bench_population if args.what == "population" else bench_reference
    print(json.dumps({"benchmark": f"sac {args.what}", "cores": os.cpu_count(), **bench(args.rounds, args.seconds)}))


if __name__ == "__main__":
    main()
