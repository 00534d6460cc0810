"""The environments of a population as its agents see them: restarts, scenario phases, episodes, and exact restore."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from plasticbench.contracts.task import EnvConfig, EnvironmentFault, EnvStep, Scenario
from plasticbench.envs._entrance import Entrance
from plasticbench.envs._episodes import EpisodeStatistics
from plasticbench.envs._journal import JournaledEnv, select_envs
from plasticbench.seeding import derive_seed


class World:
    """M members with E environments each; arrays are shaped ``[M, E, ...]``, observations as of ``phase``.

    ``at_step`` is where the clock of the trials stands, for messages.
    """

    def __init__(
        self,
        config: EnvConfig,
        scenario: Scenario,
        seeds: Sequence[int],
        num_threads: int,
        phase: int = 0,
        *,
        saves_states: bool = True,
        max_replay_s: float = math.inf,
    ) -> None:
        self._config, self._scenario, self._seeds, self._num_threads = config, scenario, seeds, num_threads
        self._saves_states, self._max_replay_s = saves_states, max_replay_s
        self.phase, self.at_step = phase, 0
        self._entrance = Entrance(config.task, seeds, config.num_envs)
        self.episodes = EpisodeStatistics(len(seeds) * config.num_envs)
        self._env = self._build(0, {})

    @property
    def broken(self) -> Mapping[int, str]:
        """Members whose environments raised, and what, as Python prints it; they show zeros from then on."""
        return self._env.broken

    def _build(self, at_step: int, broken: Mapping[int, str]) -> JournaledEnv:
        num_envs = self._config.num_envs
        seeds = [derive_seed(seed, "environment", at_step, i) for seed in self._seeds for i in range(num_envs)]
        env = JournaledEnv(self._env_config(self.phase), seeds, self._num_threads, num_envs, broken, self._saves_states)
        try:
            env.reset()
        except EnvironmentFault as fault:
            raise self._entrance.located(fault, at_step) from None
        return env

    def _env_config(self, phase: int) -> EnvConfig:
        return self._scenario.env(self._config, phase)

    @property
    def obs(self) -> np.ndarray:
        """Current observations."""
        return self._seen(self._env.obs)

    @property
    def ended(self) -> np.ndarray:
        """Which episodes are over, ``[M, E]``; the next step begins new ones."""
        return self._by_member(self.episodes.ended)

    def _seen(self, obs: np.ndarray) -> np.ndarray:
        return self._scenario.transform(self._by_member(obs), self.phase)

    def _by_member(self, values: np.ndarray) -> np.ndarray:
        shaped: np.ndarray = values.reshape(len(self._seeds), -1, *values.shape[1:])
        return shaped

    def step(self, action: np.ndarray) -> EnvStep:
        """Steps all environments. Raises ``EnvironmentFault`` for what nobody can be trained on."""
        obs = self._by_member(self._env.obs)
        try:
            step = self._env.step(action.reshape(-1, *action.shape[2:]))
        except EnvironmentFault as fault:
            raise self._entrance.located(fault, self.at_step) from None
        self.at_step += self._config.num_envs
        shaped = step._replace(**{name: self._by_member(value) for name, value in step._asdict().items()})
        rewarded = self._scenario.reward(shaped, self.phase, obs, action)
        self.episodes.update(step._replace(raw_reward=rewarded.raw_reward.reshape(-1)))
        return rewarded._replace(obs=self._seen(step.obs))

    def change(self, phase: int, at_step: int) -> None:
        """The task of another phase; its environments start new episodes if they are others than before."""
        before, self.phase = self.phase, phase
        if phase != before and self._env_config(phase) != self._env_config(before):
            self.restart(at_step)

    def restart(self, at_step: int) -> None:
        """New episodes with new seeds, which depend on the members' seeds and ``at_step`` alone."""
        self._env.close()
        self._env = self._build(at_step, self.broken)
        self.episodes.restart()

    def state_dict(self) -> dict[str, np.ndarray]:
        """The course of the environments and the sums over episodes."""
        arrays = {f"environment/{name}": value for name, value in self._env.state_dict().items()}
        return arrays | {f"episodes/{name}": value for name, value in self.episodes.state_dict().items()}

    def load_state_dict(
        self, state: Mapping[str, np.ndarray], parents: Sequence[int], *, phase: int, replay: bool
    ) -> None:
        """Restores what ``state_dict`` returned in ``phase``, member i as the saved member ``parents[i]``.

        Without ``replay`` only the sums over episodes: the environments are about to restart.
        """
        self.phase, num_envs = phase, self._config.num_envs
        chosen = [parent * num_envs + i for parent in parents for i in range(num_envs)]
        self.episodes.load_state_dict(_below(state, "episodes/"))
        self.episodes.select(chosen)
        if replay:
            own = select_envs(_below(state, "environment/"), chosen)
            self._env.load_state_dict(own, self._env_config(phase), self._max_replay_s)

    def close(self) -> None:
        """Frees the environments."""
        self._env.close()


def _below(state: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
