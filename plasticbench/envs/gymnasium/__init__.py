"""Any environment that Gymnasium registers, or a module of your own: `MyEnv-v0`, `mymodule:MyEnv-v0`.

A module is looked for beside the benchmark file, then in the current folder, and travels to workers. ``wrappers`` are
Gymnasium's, by name. The course of such an environment is restored by the state that it gives (``state_dict`` and
``load_state_dict``), else by replaying its actions; so it must depend on its seed and actions alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from plasticbench.contracts.task import EnvSpec, VectorEnv
from plasticbench.envs.gymnasium import _wrappers
from plasticbench.envs.gymnasium._making import GymnasiumEnv, Recipe, examined, saves_state
from plasticbench.envs.gymnasium._returns import Measure, Raw, measure
from plasticbench.settings import UNHASHED_DEFAULT, PositiveInt, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """A task by its registered id; ``kwargs`` go to its constructor, ``wrappers`` surround it, the first one innermost.

    ``low_return`` has score 0 and ``high_return`` score 1. Without them, returns that are known count, or else methods
    are ranked by raw return. ``returns_source`` says where they come from, for the report.
    """

    task: str
    low_return: float | None = field(default=None, metadata=UNHASHED_DEFAULT)
    high_return: float | None = field(default=None, metadata=UNHASHED_DEFAULT)
    returns_source: str = "two returns that the benchmark file gives without a source"
    num_envs: PositiveInt = 1
    kwargs: dict[str, Any] | None = field(default=None, metadata=UNHASHED_DEFAULT)
    max_episode_steps: PositiveInt | None = field(default=None, metadata=UNHASHED_DEFAULT)
    wrappers: tuple[Any, ...] | None = field(default=None, metadata=UNHASHED_DEFAULT)

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        low, high = self.low_return, self.high_return
        if low is not None and high is not None and low >= high:
            raise ValueError(f"low_return: must be below high_return ({high}), got {low}")
        if "max_episode_steps" in (self.kwargs or {}):
            raise ValueError("kwargs: max_episode_steps is a setting of its own, beside kwargs")
        for index, wrapper in enumerate(self.wrappers or ()):
            _wrappers.check(index, wrapper)
        examined(self._recipe)
        _ = self._measure

    def inert(self) -> dict[str, str]:
        """Settings without effect, and why."""
        if self.low_return is None and self.high_return is None:
            return {"returns_source": "neither low_return nor high_return is given"}
        return {}

    @property
    def _recipe(self) -> Recipe:
        kwargs, wrappers = (json.dumps(part, sort_keys=True) for part in (self.kwargs or {}, self.wrappers or ()))
        return Recipe(self.task, kwargs, wrappers, self.max_episode_steps)

    @property
    def _measure(self) -> Measure:
        is_plain = not self.kwargs and self.max_episode_steps is None
        is_plain = is_plain and all(map(_wrappers.keeps_returns, self.wrappers or ()))
        return measure(self._recipe.id, self.low_return, self.high_return, self.returns_source, is_plain=is_plain)

    @property
    def modules(self) -> tuple[str, ...]:
        """What workers import besides what is installed."""
        return () if self._recipe.module is None else (self._recipe.module,)

    @property
    def corrections(self) -> dict[str, int]:
        """What of its observations was mended after there were results (``planning/corrections.py``)."""
        layout = examined(self._recipe)[1].layout
        return {"picture_layout": 1} if layout in ("channels first", "plane") else {}

    @property
    def spec(self) -> EnvSpec:
        """Shapes and actions, from an environment that was made once and closed."""
        return examined(self._recipe)[0]

    @property
    def is_restorable(self) -> bool:
        """Whether it gives its state."""
        return saves_state(self._recipe)

    @property
    def has_references(self) -> bool:
        """Whether its scores can be pooled with those of other tasks."""
        return not isinstance(self._measure, Raw)

    @property
    def score_source(self) -> str:
        """Where the two reference returns come from."""
        return self._measure.score_source

    def score(self, mean_return: float) -> float:
        """Linear between the two reference returns; the return itself where there are none."""
        return self._measure.score(mean_return)

    def build(self, seeds: Sequence[int], num_threads: int) -> VectorEnv:
        """One environment per seed, in this process."""
        return GymnasiumEnv(self._recipe, [int(seed) for seed in seeds])
