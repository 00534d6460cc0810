"""Gymnasium ids of our own environments.

Gymnasium finds ``register_humanoids`` through the entry point group ``gymnasium.envs``, so this file imports nothing
heavy: everybody who imports Gymnasium pays for it.
"""

from __future__ import annotations

import gymnasium

NAMESPACE = "plasticbench"
HUMANOID_TASKS = (
    "walk stand run reach hurdle crawl maze sit_simple sit_hard balance_simple balance_hard stair slide pole"
).split()


def register_humanoids() -> None:
    """Registers ``plasticbench/h1-walk-v0`` and its siblings, once."""
    for name in HUMANOID_TASKS:
        task = f"h1-{name}-v0"
        if f"{NAMESPACE}/{task}" not in gymnasium.registry:
            gymnasium.register(
                id=f"{NAMESPACE}/{task}",
                entry_point="plasticbench.envs.humanoid._single:SingleHumanoid",
                max_episode_steps=1000,
                kwargs={"task": task},
            )
