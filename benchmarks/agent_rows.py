"""The experiments of docs/agents.md whose results others publish, or that stable-baselines3 ran beside us."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CLEANRL = "[CleanRL](https://docs.cleanrl.dev/rl-algorithms/dqn/#experiment-results_1)"
ZOO = "[RL Zoo](https://github.com/DLR-RM/rl-baselines3-zoo/blob/0088472/benchmark.md)"
MINATAR = "[MinAtar](https://arxiv.org/abs/1903.03176)"
PEER = "stable-baselines3, run here"


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """What a source says: a mean return, and the deviation that it gives with it."""

    mean_return: float
    deviation: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One experiment. Its result is the mean of the last ``window_evaluations`` evaluations of each seed."""

    environment: Mapping[str, Any]
    agent: Mapping[str, Any]
    source: str
    published: Published | None = None
    budget_steps: int
    seeds: int
    every_steps: int
    episodes: int
    window_evaluations: int

    @property
    def task(self) -> str:
        """The task's name."""
        return str(self.environment["task"])

    def benchmark(self, name: str) -> dict[str, Any]:
        """A benchmark file of this row alone: all seeds as one population on one core."""
        return {
            "name": name,
            "environments": [self.environment],
            "agent": self.agent,
            "methods": {"none": {"kind": "none"}},
            "seeds": self.seeds,
            "budget_steps": self.budget_steps,
            "evaluation": {"every_steps": self.every_steps, "episodes": self.episodes, "num_envs": self.episodes},
            "probes": {"every_steps": self.budget_steps, "kinds": ["weight_norm"]},
            "execution": {"members_per_population": self.seeds, "max_concurrent": 1},
        }


def _classic(task: str) -> dict[str, Any]:
    return {"kind": "classic", "task": task}


def _cleanrl(task: str, mean_return: float, deviation: float) -> Row:
    """The ends of their curves are means over the last hundred episodes of training, with epsilon as in evaluation."""
    return Row(
        environment=_classic(task),
        agent={"kind": "dqn", "preset": "cleanrl_dqn"},
        source=CLEANRL,
        published=Published(mean_return=mean_return, deviation=deviation),
        budget_steps=500_000,
        seeds=10,
        every_steps=5_000,
        episodes=10,
        window_evaluations=10,
    )


def _zoo(task: str, mean_return: float, deviation: float, budget_steps: int, **changes: Any) -> Row:
    """They evaluate the final policy of one run over 150,000 steps."""
    return Row(
        environment=_classic(task),
        agent={"kind": "dqn", "preset": "zoo_dqn_cartpole", **changes},
        source=ZOO,
        published=Published(mean_return=mean_return, deviation=deviation),
        budget_steps=budget_steps,
        seeds=5,
        every_steps=budget_steps // 10,
        episodes=100,
        window_evaluations=1,
    )


_STABLE_BASELINES3_MLP = {"kind": "mlp", "hidden": [256, 256], "initializer": "torch_default"}


def _sac(task: str, low_return: float, high_return: float, budget_steps: int) -> Row:
    """Both with the defaults of stable-baselines3 in the same environment, judged by the same rule."""
    return Row(
        environment={"kind": "gymnasium", "task": task, "low_return": low_return, "high_return": high_return},
        agent={
            "kind": "sac",
            "actor_network": _STABLE_BASELINES3_MLP,
            "critic_network": _STABLE_BASELINES3_MLP,
            "update_order": "stable_baselines3",
            "learning_rate": 3.0e-4,
            "temperature_learning_rate": 3.0e-4,
            "temperature_objective": "log_alpha",
            "log_std_bound": "clipped",
            "log_std_min": -20.0,
            "learning_starts_steps": 100,
        },
        source=PEER,
        budget_steps=budget_steps,
        seeds=5,
        every_steps=budget_steps // 20,
        episodes=10,
        window_evaluations=5,
    )


ROWS = {
    "cleanrl_cartpole": _cleanrl("CartPole-v1", 488.69, 16.11),
    "cleanrl_acrobot": _cleanrl("Acrobot-v1", -91.54, 7.20),
    "cleanrl_mountaincar": _cleanrl("MountainCar-v0", -194.95, 8.48),
    "zoo_cartpole": _zoo("CartPole-v1", 500.0, 0.0, 50_000),
    "zoo_mountaincar": _zoo(
        "MountainCar-v0",
        -100.849,
        9.925,
        120_000,
        learning_rate=4.0e-3,
        batch_rows=128,
        capacity_transitions=10_000,
        discount=0.98,
        target_period_steps=600,
        update_period_steps=16,
        epsilon_decay_fraction=0.2,
        epsilon_end=0.07,
    ),
    "zoo_lunarlander": _zoo(
        "LunarLander-v3",
        154.382,
        79.241,
        100_000,
        learning_rate=6.3e-4,
        batch_rows=128,
        capacity_transitions=50_000,
        target_period_steps=250,
        update_period_steps=4,
        replay_ratio=1.0,
        learning_starts_steps=1,
        epsilon_decay_fraction=0.12,
        epsilon_end=0.1,
    ),
    "sac_pendulum": _sac("Pendulum-v1", -1231.0, -130.0, 20_000),
    "sac_hopper": _sac("Hopper-v5", 0.0, 3000.0, 50_000),
    "minatar_breakout": Row(
        environment={"kind": "minatar", "task": "Breakout-MinAtar"},
        agent={"kind": "dqn", "preset": "minatar_dqn", "epsilon_decay_fraction": 0.1},
        source=MINATAR,
        budget_steps=1_000_000,
        seeds=3,
        every_steps=20_000,
        episodes=20,
        window_evaluations=5,
    ),
}
"""Names of the rows, in the order of the table."""
