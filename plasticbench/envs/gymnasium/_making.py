"""One environment of Gymnasium: found, made, wrapped and tried; whatever goes wrong becomes one sentence."""

from __future__ import annotations

import difflib
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import get_env_id, parse_env_id

from plasticbench.contracts.task import EnvironmentFault, EnvSpec, EnvStep
from plasticbench.envs import _own_modules
from plasticbench.envs._entrance import Entrance
from plasticbench.envs._packing import packed_plain, unpacked_plain
from plasticbench.envs.gymnasium import _wrappers
from plasticbench.envs.gymnasium._spaces import Actions, Observations, actions_of, observations_of
from plasticbench.envs.gymnasium._states import gives_state, set_state, state_of
from plasticbench.plugins import did_you_mean

_PACKAGES = {
    "Box2D": "Box2D==2.3.10",
    "ale_py": "ale-py",
    "cv2": "opencv-python",
    "gymnasium_robotics": "gymnasium-robotics",
    "imageio": "imageio",
    "jax": '"gymnasium[jax]"',
    "minigrid": "minigrid",
    "mujoco": "mujoco==3.3.7",
    "pygame": "pygame",
    "shimmy": "shimmy",
}
"""What to install for a module, where its name does not say."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an environment is made. ``kwargs`` and ``wrappers`` are JSON, so that equal recipes are equal keys."""

    task: str
    kwargs: str
    wrappers: str
    max_episode_steps: int | None

    @property
    def module(self) -> str | None:
        """``mymodule`` of ``mymodule:MyEnv-v0``."""
        module, colon, _ = self.task.rpartition(":")
        return module if colon else None

    @property
    def id(self) -> str:
        """``MyEnv-v0`` of ``mymodule:MyEnv-v0``."""
        return self.task.rpartition(":")[2]

    def make(self) -> gymnasium.Env[Any, Any]:
        """A new environment in its wrappers. Raises ``ValueError`` that names the setting, the reason and the cure."""
        self.find()
        try:
            with self._reach(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of newer versions, or of spaces that are checked here
                env = gymnasium.make(
                    self.id, self.max_episode_steps, disable_env_checker=True, **json.loads(self.kwargs)
                )
        except Exception as error:  # whatever a constructor may raise
            raise ValueError(f"task: {self.task} cannot be made: {_reason(error)}. {self._cure(error)}") from error
        for index, wrapper in enumerate(json.loads(self.wrappers)):
            env = _wrappers.wrap(env, index, wrapper)
        return env

    def _reach(self) -> AbstractContextManager[None]:
        """Where a constructor may find more of the task's module."""
        return nullcontext() if self.module is None else _own_modules.on_path()

    def find(self) -> None:
        """Imports the task's module, and raises ``ValueError`` unless the id is then registered."""
        before = set(gymnasium.registry)
        if self.module is not None:
            self._import(self.module)
        if self.id in gymnasium.registry:
            return
        if self.module is None:
            raise ValueError(
                f"task: no environment is registered under {self.id!r}. {_nearest(self.id)} "
                f"What a module registers when it is imported is called MODULE:ID, as in mymodule:MyEnv-v0"
            )
        own = set(gymnasium.registry) - before or set(_registered_by(self.module))
        raise ValueError(
            f"task: {self.module} can be imported, and registers no {self.id!r}: "
            f"{did_you_mean(self.id, own) if own else 'it calls gymnasium.register for nothing'}"
        )

    def _import(self, module: str) -> None:
        if not all(part.isidentifier() for part in module.split(".")):
            raise ValueError(
                f"task: what stands before the colon must be a module as Python imports it, such as mymodule, got "
                f"{module!r}. Its file lies beside the benchmark file or in the current folder, or it is installed"
            )
        try:
            _own_modules.import_module(module)
        except Exception as error:  # it is somebody's code
            missing = isinstance(error, ModuleNotFoundError) and error.name in (module, module.partition(".")[0])
            where = ", ".join(map(str, _own_modules.folders()))
            looked = f", looked for in {where} and on the import path" if where else ""
            reason = f"there is no module {error.name!r}{looked}" if missing else _reason(error)  # type: ignore[attr-defined]
            top = module.partition(".")[0]
            cure = f"Put {top}.py beside the benchmark file, or install it" if missing and top not in _PACKAGES else ""
            raise ValueError(f"task: {self.task} cannot be made: {reason}. {cure or self._cure(error)}") from error

    def _cure(self, error: BaseException) -> str:
        """What to install or to use instead."""
        if "pip install" in str(error):
            return "Install it, or use another task"
        for cause in _causes(error):
            if isinstance(cause, ModuleNotFoundError) and cause.name is not None:
                package = _PACKAGES.get(top := cause.name.partition(".")[0])
                return f"Install it: pip install {package}" if package else f"Install what has the module {top!r}"
        if self.kwargs != "{}":
            return "kwargs are given to its constructor: change or remove them"
        if self.id in gymnasium.registry and (newer := _newest(self.id)) is not None:
            return f"Use {newer}"
        return "Make it with gymnasium.make in Python to see more"


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, ImportError | gymnasium.error.Error) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _nearest(task: str) -> str:
    near = difflib.get_close_matches(task, gymnasium.registry, n=1)
    return f"Did you mean {near[0]!r}?" if near else "`gymnasium.pprint_registry()` in Python lists what there is."


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _newest(task: str) -> str | None:
    """The newest version of a registered id, if it is another one."""
    namespace, name, version = parse_env_id(task)
    twins = [parse_env_id(other) for other in gymnasium.registry]
    newest = max((v for ns, n, v in twins if (ns, n) == (namespace, name) and v is not None), default=None)
    return get_env_id(namespace, name, newest) if newest is not None and newest != version else None


def _registered_by(module: str) -> list[str]:
    points = {task: spec.entry_point for task, spec in gymnasium.registry.items()}
    homes = {task: p.partition(":")[0] if isinstance(p, str) else str(p.__module__) for task, p in points.items() if p}
    return [task for task, home in homes.items() if home.partition(".")[0] == module.partition(".")[0]]


@cache
def examined(recipe: Recipe) -> tuple[EnvSpec, Observations, Actions]:
    """Shapes and actions, from an environment that was made, tried for a step and closed.

    Raises ``ValueError`` for one that cannot be made, or that agents cannot act in.
    """
    env = recipe.make()
    try:
        try:
            observations, actions = observations_of(env.observation_space), actions_of(env.action_space)
        except ValueError as error:
            raise ValueError(f"task: {recipe.task}: {error}") from error
        _try(env, recipe, observations)
    finally:
        env.close()  # type: ignore[no-untyped-call]
    spec = EnvSpec(
        obs_shape=observations.obs_shape,
        obs_dtype=observations.dtype,
        actions=actions.spec,
        obs_scale=1 / 255 if observations.dtype == "uint8" else 1.0,
    )
    return spec, observations, actions


@cache
def saves_state(recipe: Recipe) -> bool:
    """Whether it gives its state as plain data; another one is made to see that."""
    env = recipe.make()
    try:
        if not gives_state(env):
            return False
        env.reset(seed=0)
        json.dumps(state_of(env))
    except TypeError:
        return False  # it is something else that it calls so: its actions are kept
    else:
        return True
    finally:
        env.close()  # type: ignore[no-untyped-call]


def _try(env: gymnasium.Env[Any, Any], recipe: Recipe, observations: Observations) -> None:
    """One reset and one step: what fails here would fail after the start."""
    env.action_space.seed(0)
    try:
        first, _ = env.reset(seed=0)
        obs, reward, _, _, _ = env.step(env.action_space.sample())
        for delivered in (first, obs):
            Entrance(recipe.task, [0], 1).check(observations.batch([delivered]), np.array([float(reward)]), 0)
    except EnvironmentFault as fault:
        raise ValueError(f"task: {recipe.task}: {fault.args[0].rpartition(': ')[2]}") from fault
    except Exception as error:  # it is somebody's code
        raise ValueError(f"task: {recipe.task} cannot be reset and stepped: {_reason(error)}") from error


class GymnasiumEnv:
    """Environments that are stepped one after the other; each is seeded once, at its first reset."""

    def __init__(self, recipe: Recipe, seeds: list[int]) -> None:
        self.spec, self._observations, self._actions = examined(recipe)
        self.num_envs, self._seeds = len(seeds), seeds
        self._envs = [recipe.make() for _ in seeds]
        self._ended = [False] * len(seeds)
        self._obs = np.empty((0, *self.spec.obs_shape), self.spec.obs_dtype)

    def reset(self) -> np.ndarray:
        """First observations."""
        first = [env.reset(seed=seed)[0] for env, seed in zip(self._envs, self._seeds, strict=True)]
        self._obs = self._observations.batch(first)
        return self._obs

    def step(self, actions: np.ndarray) -> EnvStep:
        """Steps all environments; one whose episode is over begins the next instead."""
        found = [self._step_one(index, action) for index, action in enumerate(actions)]
        obs, reward, terminated, truncated = zip(*found, strict=True)
        with np.errstate(over="ignore"):  # what single precision cannot hold is not finite to an agent
            rewards = np.array(reward, np.float32)
        self._obs = self._observations.batch(obs)
        return EnvStep(self._obs, rewards, rewards, np.array(terminated), np.array(truncated))

    def _step_one(self, index: int, action: Any) -> tuple[Any, float, bool, bool]:
        env = self._envs[index]
        if self._ended[index]:
            self._ended[index] = False
            return env.reset()[0], 0.0, False, False
        obs, reward, terminated, truncated, _ = env.step(self._actions.to_env(action))
        self._ended[index] = bool(terminated or truncated)
        return obs, float(reward), bool(terminated), bool(truncated)

    def save(self) -> dict[str, np.ndarray]:
        """What the environments give, their time limits, generators and observations."""
        states = packed_plain([state_of(env) for env in self._envs])
        return {"environments": states, "obs": self._obs.copy(), "ended": np.array(self._ended)}

    def restore(self, state: Mapping[str, np.ndarray]) -> np.ndarray:
        """Goes on as saved."""
        for env, own in zip(self._envs, unpacked_plain(state["environments"]), strict=True):
            env.reset(seed=0)
            set_state(env, own)
        self._ended = state["ended"].tolist()
        self._obs = state["obs"].copy()
        return self._obs

    def close(self) -> None:
        """Frees the environments."""
        for env in self._envs:
            env.close()  # type: ignore[no-untyped-call]
