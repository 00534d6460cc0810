"""Gymnasium ids of our own environments.

``gymnasium.make("plasticbench:h1-walk")`` imports the package, which calls ``register_humanoids``, so this file imports
nothing heavy.
"""

from __future__ import annotations

import gymnasium

NAMESPACE = "plasticbench"
HUMANOID_TASKS = (
    "walk stand run reach hurdle crawl maze sit_simple sit_hard balance_simple balance_hard stair slide pole"
).split()


def register_humanoids() -> None:
    """Registers ``plasticbench/h1-walk-v0`` and its siblings, and ``h1-walk-v0`` for ``plasticbench:h1-walk``, once.

    The public ``humanoid_bench`` package registers the latter as well: where it is loaded, they are its own.
    """
    tasks = [f"h1-{name}-v0" for name in HUMANOID_TASKS]
    for task, registered in [(task, f"{prefix}{task}") for task in tasks for prefix in (f"{NAMESPACE}/", "")]:
        if registered not in gymnasium.registry:
            gymnasium.register(
                id=registered,
                entry_point="plasticbench.envs.humanoid._single:SingleHumanoid",
                max_episode_steps=1000,
                kwargs={"task": task},
            )
