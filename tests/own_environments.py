"""Modules with environments of a user, written into a folder and forgotten again."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import yaml

from plasticbench.envs import _own_modules
from plasticbench.envs.gymnasium import _making

MODULE = """
import gymnasium
import numpy as np
{imports}

class Mine(gymnasium.Env):
    observation_space = {observations}
    action_space = {actions}

    def __init__(self, length=20):
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.age = 0
        return self.deliver(), {{}}

    def step(self, action):
        self.age += 1
        self.action = action
        return self.deliver(), self.reward(), self.age >= self.length, False, {{}}

    def deliver(self):
        {deliver}

    def reward(self):
        {reward}


gymnasium.register({task!r}, Mine, **{registered!r})
"""
DEFAULTS = {
    "imports": "",
    "observations": "gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)",
    "actions": "gymnasium.spaces.Discrete(2)",
    "deliver": "return self.np_random.uniform(-1, 1, 3).astype(np.float32)",
    "reward": "return 1.0",
    "task": "Mine-v0",
    "registered": {},
}


def write_module(folder: Path, name: str = "mine", **changes: Any) -> Path:
    """``name.py`` with an environment of random observations and episodes of ``length`` steps."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(MODULE.format(**DEFAULTS | changes))
    return path


def write_file(folder: Path, environment: Any = None, **changes: Any) -> Path:
    """A benchmark file on ``mine:Mine-v0`` that trains in a second."""
    data = {
        "name": "own",
        "environments": [{"kind": "gymnasium", "task": "mine:Mine-v0"} | (environment or {})],
        "agent": {
            "kind": "dqn",
            "network": {"kind": "mlp", "hidden": [8]},
            "learning_starts_steps": 20,
            "capacity_transitions": 100,
        },
        "methods": {"none": {"kind": "none"}},
        "seeds": 1,
        "budget_steps": 100,
        "evaluation": {"every_steps": 50, "episodes": 1},
        "probes": {"every_steps": 50, "batch_rows": 16, "kinds": ["weight_norm"]},
    }
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(data | changes))
    return path


@contextmanager
def forgotten() -> Iterator[None]:
    """Afterwards this process knows nothing of the modules, ids and folders that were met inside."""
    modules, tasks = set(sys.modules), set(gymnasium.registry)
    folders, brought = list(_own_modules._folders), dict(_own_modules._brought)
    named = set(_own_modules._named)
    try:
        yield
    finally:
        for name in set(sys.modules) - modules:
            if name.partition(".")[0] in _own_modules._brought:
                del sys.modules[name]
        for task in set(gymnasium.registry) - tasks:
            del gymnasium.registry[task]
        _own_modules._folders[:] = folders
        _own_modules._brought.clear()
        _own_modules._brought.update(brought)
        _own_modules._named.intersection_update(named)
        _own_modules.open_archive.cache_clear()
        _making.examined.cache_clear()
        _making.saves_state.cache_clear()
