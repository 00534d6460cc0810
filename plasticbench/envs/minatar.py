"""MinAtar: five miniature Atari games on a 10x10 grid of object channels.

Young and Tian 2019, arXiv:1903.03176: sticky actions with probability 0.1 (the action before the first of an episode is
the last one of the episode before it), difficulty ramping on, all six actions. The games have no time limit but
Freeway's; ours ends an episode as truncated (Lan et al. 2020, arXiv:2002.06487, use 10,000 steps in Seaquest's
configuration).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np

from plasticbench.contracts.task import DiscreteActions, EnvSpec, EnvStep, VectorEnv
from plasticbench.envs._packing import packed_plain, unpacked_plain
from plasticbench.envs._scores import RANDOM_PLAY, Reference
from plasticbench.settings import UNHASHED_DEFAULT, HalfOpenFraction, Le, OneOf, PositiveInt, Settings

ActionSet = Literal["full", "minimal"]


class _Game(NamedTuple):
    module: str
    channels: int
    minimal_actions: tuple[int, ...]
    reference: Reference
    high_source: str


_GYMNAX = "the return of gymnax's trained PPO"
_GAMES = {
    "Asterix-MinAtar": _Game("asterix", 4, (0, 1, 2, 3, 4), Reference(0.5, 15.0), _GYMNAX),
    "Breakout-MinAtar": _Game("breakout", 4, (0, 1, 3), Reference(0.5, 28.0), _GYMNAX),
    "Freeway-MinAtar": _Game("freeway", 7, (0, 2, 4), Reference(0.13, 58.0), _GYMNAX),
    "Seaquest-MinAtar": _Game(
        "seaquest", 10, (0, 1, 2, 3, 4, 5), Reference(0.1, 10.0), "the reward of one full rescue with full oxygen"
    ),
    "SpaceInvaders-MinAtar": _Game("space_invaders", 6, (0, 1, 3, 5), Reference(2.8, 131.0), _GYMNAX),
}
_ALL_ACTIONS = (0, 1, 2, 3, 4, 5)


def tasks() -> tuple[str, ...]:
    """All tasks of the family."""
    return tuple(_GAMES)


def _actions(task: str, action_set: ActionSet) -> tuple[int, ...]:
    return _ALL_ACTIONS if action_set == "full" else _GAMES[task].minimal_actions


@cache
def _spec(task: str, action_set: ActionSet, channels: int | None) -> EnvSpec:
    return EnvSpec(
        obs_shape=(channels or _GAMES[task].channels, 10, 10),
        obs_dtype="uint8",
        actions=DiscreteActions(count=len(_actions(task, action_set))),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """A MinAtar game; observations are 0 or 1, one channel per kind of object.

    ``channels``: how many are shown, those beyond the game's own empty, so that games can follow each other.
    """

    task: Annotated[str, OneOf(tasks())]
    num_envs: PositiveInt = 1
    sticky_probability: HalfOpenFraction = 0.1
    action_set: ActionSet = "full"
    max_episode_steps: PositiveInt = 10_000
    channels: Annotated[PositiveInt, Le(10)] | None = field(default=None, metadata=UNHASHED_DEFAULT)

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        if self.channels is not None and self.channels < (own := _GAMES[self.task].channels):
            raise ValueError(f"channels: must be at least the {own} that {self.task} has, got {self.channels}")

    @property
    def spec(self) -> EnvSpec:
        """Shapes and actions, without starting an environment."""
        return _spec(self.task, self.action_set, self.channels)

    @property
    def is_restorable(self) -> bool:
        """The games are Python."""
        return True

    @property
    def score_source(self) -> str:
        """Where the two reference returns come from."""
        return _GAMES[self.task].reference.source(RANDOM_PLAY, _GAMES[self.task].high_source)

    def score(self, mean_return: float) -> float:
        """0 for random actions, 1 for the reference agent."""
        return _GAMES[self.task].reference.score(mean_return)

    def build(self, seeds: Sequence[int], num_threads: int) -> VectorEnv:
        """One game per seed, stepped by the calling thread alone whatever ``num_threads`` is."""
        return _MinAtarEnv(self, seeds)


class _MinAtarEnv:
    """Games of the MinAtar package as a ``VectorEnv``."""

    def __init__(self, config: Config, seeds: Sequence[int]) -> None:
        import minatar  # imports matplotlib and seaborn: two seconds that a plan or a listing must not pay

        self.spec = config.spec
        self.num_envs = len(seeds)
        self._actions = np.array(_actions(config.task, config.action_set))
        self._max_episode_steps = config.max_episode_steps
        self._games: list[Any] = []
        for seed in seeds:
            game = minatar.Environment(_GAMES[config.task].module, sticky_action_prob=config.sticky_probability)
            game.seed(seed)
            self._games.append(game)
        self._elapsed = np.zeros(self.num_envs, np.int64)
        self._ended = np.zeros(self.num_envs, bool)

    def reset(self) -> np.ndarray:
        """First observations."""
        for game in self._games:
            game.reset()
        return self._observe()

    def step(self, actions: np.ndarray) -> EnvStep:
        """Steps all environments."""
        reward = np.zeros(self.num_envs, np.float32)
        terminated = np.zeros(self.num_envs, bool)
        resets = self._ended
        for i, (game, action) in enumerate(zip(self._games, self._actions[actions].tolist(), strict=True)):
            if resets[i]:
                game.reset()
            else:
                reward[i], terminated[i] = game.act(action)
        self._elapsed = np.where(resets, 0, self._elapsed + 1)
        truncated = (self._elapsed >= self._max_episode_steps) & ~terminated
        self._ended = terminated | truncated
        return EnvStep(self._observe(), reward, reward, terminated, truncated)

    def save(self) -> dict[str, np.ndarray]:
        """All variables of the games and their generators."""
        return {
            "games": packed_plain([_plain(vars(game.env)) for game in self._games]),
            "generators": packed_plain([_plain(game.random.get_state(legacy=False)) for game in self._games]),
            "last_action": np.array([game.last_action for game in self._games]),
            "elapsed": self._elapsed.copy(),
            "ended": self._ended.copy(),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> np.ndarray:
        """Goes on as saved."""
        games, generators = unpacked_plain(state["games"]), unpacked_plain(state["generators"])
        for index, game in enumerate(self._games):
            vars(game.env).update(_lively(games[index]))
            game.random.set_state(_lively(generators[index]))
            game.last_action = int(state["last_action"][index])
        self._elapsed, self._ended = state["elapsed"].copy(), state["ended"].copy()
        return self._observe()

    def close(self) -> None:
        """Nothing to free."""

    def _observe(self) -> np.ndarray:
        states = np.stack([game.state() for game in self._games])
        shown = np.zeros((self.num_envs, *self.spec.obs_shape), np.uint8)
        shown[:, : states.shape[3]] = states.transpose(0, 3, 1, 2)
        return shown


def _plain(variables: Mapping[str, Any]) -> dict[str, Any]:
    """JSON of a game's variables but its generator; arrays keep their type."""
    return {name: _plain_value(value) for name, value in variables.items() if name != "random"}


def _plain_value(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": str(value.dtype)}
    if isinstance(value, dict):
        return _plain(value)
    if isinstance(value, list):
        return [_plain_value(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _lively(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of ``_plain``."""
    return {name: _lively_value(value) for name, value in variables.items()}


def _lively_value(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return np.array(value["array"], value["dtype"]) if value.keys() == {"array", "dtype"} else _lively(value)
