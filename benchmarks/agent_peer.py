"""SAC of stable-baselines3 with its defaults, judged as the platform judges its own agents."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.agent_rows import Row
from plasticbench.seeding import derive_seed
from plasticbench.storage import write_atomically


def train_peer(name: str, row: Row, out: Path) -> None:
    """Writes ``out/peer_NAME.json`` seed by seed; seeds that stand there are not trained again."""
    path = out / f"peer_{name}.json"
    found = json.loads(path.read_text()) if path.exists() else _head(row)
    out.mkdir(parents=True, exist_ok=True)
    for seed in range(row.seeds):
        if str(seed) not in found["returns"]:
            found["returns"][str(seed)] = _returns(row, seed)
            write_atomically(path, (json.dumps(found, indent=1) + "\n").encode())


def _head(row: Row) -> dict[str, Any]:
    packages = ("stable-baselines3", "gymnasium", "mujoco", "torch")
    return {
        "agent": "SAC of stable-baselines3, MlpPolicy, its defaults",
        "task": row.task,
        "budget_steps": row.budget_steps,
        "every_steps": row.every_steps,
        "episodes": row.episodes,
        "versions": {package: version(package) for package in packages},
        "returns": {},
    }


def _returns(row: Row, seed: int) -> list[float]:
    """Mean returns of the evaluations of one seed: the policy's mean action, in environments of their own."""
    import gymnasium
    import torch
    from stable_baselines3 import SAC

    torch.set_num_threads(1)
    model = SAC("MlpPolicy", gymnasium.make(row.task), seed=seed, device="cpu")
    found: list[float] = []
    for step in range(row.every_steps, row.budget_steps + 1, row.every_steps):
        # Without a new episode, so that looking leaves no trace in the training.
        model.learn(row.every_steps, reset_num_timesteps=False, log_interval=None)
        found.append(_evaluate(model, row, seed, step))
        print(f"{row.task} seed {seed} step {model.num_timesteps}: {found[-1]:.1f}", flush=True)
    return found


def _evaluate(model: Any, row: Row, seed: int, step: int) -> float:
    import gymnasium

    env, returns = gymnasium.make(row.task), []
    for episode in range(row.episodes):
        obs, total, is_over = env.reset(seed=derive_seed(seed, "evaluation", step, episode) % 2**31)[0], 0.0, False
        while not is_over:
            obs, reward, terminated, truncated, _ = env.step(model.predict(obs, deterministic=True)[0])
            total, is_over = total + float(reward), terminated or truncated
        returns.append(total)
    env.close()
    return float(np.mean(returns))
