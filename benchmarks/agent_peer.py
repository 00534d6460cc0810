"""The same agents in stable-baselines3, judged as the platform judges its own."""

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
    """Writes ``out/peer_NAME.json`` seed by seed; seeds that stand there are not trained again.

    Raises ``ValueError`` if what stands there was trained otherwise.
    """
    path, head = out / f"peer_{name}.json", _head(row)
    found = json.loads(path.read_text()) if path.exists() else head
    if found | {"returns": {}} != head:
        raise ValueError(f"--out: {path} was made with other settings or versions. Choose another directory")
    out.mkdir(parents=True, exist_ok=True)
    for seed in range(row.seeds):
        if str(seed) not in found["returns"]:
            found["returns"][str(seed)] = _returns(row, seed)
            write_atomically(path, (json.dumps(found, indent=1) + "\n").encode())


def _head(row: Row) -> dict[str, Any]:
    packages = ("stable-baselines3", "gymnasium", "mujoco", "torch")
    return {
        "agent": dict(row.peer or {}),
        "task": row.task,
        "budget_steps": row.budget_steps,
        "every_steps": row.every_steps,
        "episodes": row.episodes,
        "versions": {package: version(package) for package in packages},
        "returns": {},
    }


def _returns(row: Row, seed: int) -> list[float]:
    """Mean returns of the evaluations of one seed."""
    import stable_baselines3
    import torch
    from stable_baselines3.common.callbacks import EventCallback, EveryNTimesteps
    from stable_baselines3.common.vec_env import DummyVecEnv

    class Evaluation(EventCallback):
        def _on_step(self) -> bool:
            found.append(_evaluate(self.model, row, seed, self.num_timesteps))
            print(f"{row.task} seed {seed} step {self.num_timesteps:,}: {found[-1]:.1f}", flush=True)
            return True

    found: list[float] = []
    torch.set_num_threads(1)
    settings = dict(row.peer or {})
    settings.pop("acts", None)
    algorithm = getattr(stable_baselines3, settings.pop("algorithm"))
    if (scheduled := settings.pop("linear_learning_rate", None)) is not None:
        settings["learning_rate"] = lambda part_left: scheduled * part_left
    if row.environment["kind"] == "minatar":
        settings["policy_kwargs"] = {"features_extractor_class": _minatar_network(), "net_arch": []}
    envs = DummyVecEnv([lambda: _environment(row)] * row.environment.get("num_envs", 1))
    model = algorithm("MlpPolicy", envs, seed=seed, device="cpu", **settings)
    model.learn(row.budget_steps, callback=EveryNTimesteps(row.every_steps, Evaluation()), log_interval=None)
    return found


def _environment(row: Row) -> Any:
    """Gymnasium's environment, or MinAtar's with channels first and our limit of steps."""
    import gymnasium

    if row.environment["kind"] != "minatar":
        return gymnasium.make(row.task)
    import minatar.gym

    from plasticbench.envs import minatar as ours

    config = ours.Config(task=row.task)
    game = minatar.gym.BaseEnv(row.task.removesuffix("-MinAtar").lower(), sticky_action_prob=config.sticky_probability)
    pixels = gymnasium.spaces.Box(0.0, 1.0, config.spec.obs_shape, np.float32)
    channels_first = gymnasium.wrappers.TransformObservation(game, lambda state: state.transpose(2, 0, 1), pixels)
    return gymnasium.wrappers.TimeLimit(channels_first, config.max_episode_steps)


def _minatar_network() -> type:
    """The network of MinAtar's paper before its last layer."""
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
    from torch import nn

    class Network(BaseFeaturesExtractor):
        def __init__(self, space: Any) -> None:
            super().__init__(space, 128)
            channels, height, width = space.shape
            flat_features = 16 * (height - 2) * (width - 2)
            self.layers = nn.Sequential(
                nn.Conv2d(channels, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(flat_features, 128), nn.ReLU()
            )

        def forward(self, observations: Any) -> Any:
            return self.layers(observations)

    return Network


def _evaluate(model: Any, row: Row, seed: int, step: int) -> float:
    """The mean over one episode of each of ``row.episodes`` environments, by the likeliest actions or drawn ones."""
    likeliest = (row.peer or {}).get("acts") != "sampled"
    envs = [_environment(row) for _ in range(row.episodes)]
    seeds = [derive_seed(seed, "evaluation", step, i) % 2**31 for i in range(row.episodes)]
    obs = np.stack([env.reset(seed=own)[0] for env, own in zip(envs, seeds, strict=True)])
    returns, running = np.zeros(row.episodes), list(range(row.episodes))
    while running:
        actions, _ = model.predict(obs[running], deterministic=likeliest)
        for i, action in zip(tuple(running), actions, strict=True):
            obs[i], reward, terminated, truncated, _ = envs[i].step(action)
            returns[i] += float(reward)
            if terminated or truncated:
                running.remove(i)
                envs[i].close()
    return float(returns.mean())
