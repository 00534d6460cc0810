"""One of our environments as RLlib steps it, and the runner that steps it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers.vector import DictInfoToList
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import ENV_TO_MODULE_CONNECTOR, NUM_ENV_STEPS_SAMPLED_LIFETIME

from plasticbench.agents._silence import faults
from plasticbench.contracts.task import BoxActions, EnvSpec, EnvStep, World


def encode(obs: np.ndarray, spec: EnvSpec) -> np.ndarray:
    """Observations ``[N, *obs_shape]`` as RLlib's networks want them: scaled float32, channels last."""
    scaled = obs.astype(np.float32) * np.float32(spec.obs_scale)
    return np.ascontiguousarray(np.moveaxis(scaled, 1, -1)) if len(spec.obs_shape) == 3 else scaled


def action_space(spec: EnvSpec) -> gymnasium.Space[Any]:
    """The actions of one environment."""
    if isinstance(spec.actions, BoxActions):
        low, high = np.array([spec.actions.low, spec.actions.high], np.float32)
        return gymnasium.spaces.Box(low, high, dtype=np.float32)
    return gymnasium.spaces.Discrete(spec.actions.count)


class WorldEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """The single environment of a ``World``; ``reset`` shows where it stands, since restarts are the trainer's."""

    world: World

    def __init__(self, spec: EnvSpec) -> None:
        self.num_envs, self._spec = 1, spec
        self.faults: dict[int, str] = {}  # what was not finite
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        shape = encode(np.zeros((1, *spec.obs_shape), np.float32), spec).shape[1:]
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, shape, np.float32)
        self.single_action_space = action_space(spec)
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space)

    @property
    def obs(self) -> np.ndarray:
        """The current observation ``[1, ...]``."""
        return encode(self.world.obs[0], self._spec)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        """The observation to begin with; an episode that is over is left first."""
        if self.world.ended.any():
            self.step(np.zeros_like(self.action_space.sample()))
        return self.obs, {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Steps the world; the step after an end begins the next episode."""
        step = self._made_finite(self.world.step(np.asarray(actions)[None]))
        return encode(step.obs[0], self._spec), step.reward[0], step.terminated[0], step.truncated[0], {}

    def _made_finite(self, step: EnvStep) -> EnvStep:
        """What RLlib can go on with to the end of its round, where the agent hears of the faults."""
        if not (found := faults({"reward": step.reward, "observation": step.obs})):
            return step
        self.faults |= found
        return step._replace(obs=np.nan_to_num(step.obs), reward=np.nan_to_num(step.reward))


class WorldRunner(SingleAgentEnvRunner):
    """RLlib's runner on a ``WorldEnv``, with a course that can be saved and taken up again."""

    env: Any
    module: Any
    _ongoing_episodes: Any
    _cached_to_module: Any
    _shared_data: Any
    _env_to_module: Any

    def make_env(self) -> None:
        """The environment is not found by name: it belongs to the trainer."""
        self.env = DictInfoToList(WorldEnv(self.config.env_config["spec"]))
        self.num_envs = 1
        self._needs_initial_reset = True

    @property
    def world_env(self) -> WorldEnv:
        """The environment without its wrapper."""
        env = self.env.unwrapped
        assert isinstance(env, WorldEnv)
        return env

    def begin(self) -> None:
        """The next sample starts a new episode where the world then stands."""
        self._needs_initial_reset = True

    def count_sampled(self, num_steps: int) -> None:
        """Counts steps that were sampled before this process began; RLlib hears of them with the next sample."""
        self.metrics.log_value(NUM_ENV_STEPS_SAMPLED_LIFETIME, num_steps, reduce="lifetime_sum", with_throughput=True)

    def _try_env_step(self, actions: Any) -> Any:
        """RLlib raises an error of its own that has no words; what the environment raised says what is wrong."""
        try:
            return super()._try_env_step(actions)  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise (error.__cause__ or error) from None

    def course(self) -> dict[str, Any] | None:
        """The running episode as plain data; ``None`` where the next sample starts a new one."""
        if self._needs_initial_reset:
            return None
        episode = self._ongoing_episodes[0]
        return {"id": episode.id_, "t": episode.t, "is_reset": episode.is_reset}

    def take_up(self, course: dict[str, Any] | None) -> None:
        """Goes on with a saved episode where the world stands."""
        self._needs_initial_reset = course is None
        if course is None:
            return
        obs = self.world_env.obs
        episode = self._new_chunk(course, observations=[obs[0]], infos=[{}])
        self._shared_data = {}
        # Only this pipeline makes what the next one needs to make sense of the network's outputs.
        self._cached_to_module = self._env_to_module(
            rl_module=self.module,
            episodes=[episode],
            explore=True,
            shared_data=self._shared_data,
            metrics=self.metrics,
            metrics_prefix_key=(ENV_TO_MODULE_CONNECTOR,),
            **{Columns.OBS: [obs[0]], Columns.INFOS: [{}]},
        )
        self._ongoing_episodes = [episode if course["is_reset"] else self._new_chunk(course)]

    def _new_chunk(self, course: dict[str, Any], **begun: Any) -> SingleAgentEpisode:
        return SingleAgentEpisode(
            id_=course["id"],
            observation_space=self.env.single_observation_space,
            action_space=self.env.single_action_space,
            t_started=course["t"],
            **begun,
        )
