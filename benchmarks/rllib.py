"""Whether, and after how many steps, RLlib's DQN holds a pole under the platform, and its SAC swings one up.

``python -m benchmarks.rllib [dqn|sac]`` prints JSON: whether and when an evaluation reaches the goal, and the CPU
seconds that it took. It needs minutes on an idle core.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from plasticbench.platform.cluster.connection import connected
from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.segment import SegmentRun

GOALS: dict[str, dict[str, Any]] = {
    "dqn": {
        "task": "CartPole-v1",
        "goal_return": 450.0,
        "budget_steps": 51_200,
        "agent": {
            "algorithm": "DQN",
            "config": {
                # The constants of rl-baselines3-zoo for this task: 128 updates after every 256 steps.
                "rollout_fragment_length": 256,
                "train_batch_size_per_learner": 64,
                "training_intensity": 32,
                "lr": 2.3e-3,
                "target_network_update_freq": 256,
                "num_steps_sampled_before_learning_starts": 1_000,
                "epsilon": [[0, 1.0], [8_000, 0.04]],
                "replay_buffer_config": {"capacity": 60_000},
            },
            "model": {"fcnet_hiddens": [256, 256], "fcnet_activation": "relu"},
        },
    },
    "sac": {
        "task": "Pendulum-v1",
        "goal_return": -250.0,
        "budget_steps": 10_000,
        "agent": {
            "algorithm": "SAC",
            "config": {
                "rollout_fragment_length": 2,
                "train_batch_size_per_learner": 128,
                "actor_lr": 1e-3,
                "critic_lr": 1e-3,
                "alpha_lr": 1e-3,
                "num_steps_sampled_before_learning_starts": 500,
                "replay_buffer_config": {"capacity": 10_000},
            },
            "model": {"fcnet_hiddens": [64, 64], "fusionnet_hiddens": [64]},
        },
    },
}


def learn(goal: dict[str, Any]) -> dict[str, Any]:
    """Trains until an evaluation of 10 episodes reaches the goal, or to the end of the budget."""
    data = {
        "name": "rllib",
        "environments": [{"kind": "classic", "task": goal["task"]}],
        "agent": {"kind": "rllib", **goal["agent"]},
        "methods": {"none": {"kind": "none"}},
        "seeds": 1,
        "budget_steps": goal["budget_steps"],
        "evaluation": {"every_steps": 512, "episodes": 10, "num_envs": 10},
        "probes": {"kinds": []},
    }
    with tempfile.TemporaryDirectory() as folder:
        benchmark = from_dict(data)
        plan = make_plan(benchmark)
        RunDirectory(Path(folder)).create(benchmark, plan)
        run = SegmentRun(Path(folder), plan.segments[0].id)
        began, returns = time.process_time(), {}

        def reached() -> bool:
            progress = run.progress()
            if (value := progress.last_evaluation) is None:
                return False
            if value not in list(returns.values())[-1:]:
                returns[progress.step] = value
                print(f"step {progress.step}: {value:.1f}", file=sys.stderr, flush=True)
            return value >= goal["goal_return"]

        run.run(should_stop=reached)
    step = max(returns)
    cpu_s = time.process_time() - began
    return {
        "task": goal["task"],
        "goal_return": goal["goal_return"],
        "reached": returns[step] >= goal["goal_return"],
        "agent_steps": step,
        "cpu_s": round(cpu_s, 1),
        "agent_steps_per_cpu_s": round(step / cpu_s, 1),
        "returns": {step: round(value, 1) for step, value in returns.items()},
    }


def main() -> None:
    wanted = sys.argv[1:] or list(GOALS)
    with connected("local"):
        print(json.dumps({name: learn(GOALS[name]) for name in wanted}, indent=1))


if __name__ == "__main__":
    main()
