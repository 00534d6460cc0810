"""The course of reinforcement learning (see ``contracts.learner``): an agent in environments, under a scenario."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from plasticbench.contracts.learner import Agent, Population
from plasticbench.contracts.task import EnvConfig, EnvStep, Evaluation, Scenario, ScenarioConfig
from plasticbench.envs._evaluation import evaluate
from plasticbench.envs._scores import lowest_return
from plasticbench.envs._world import World
from plasticbench.seeding import Streams, derive_generator

if TYPE_CHECKING:
    from torch import Tensor


class RLCourse:
    """M members with E environments each."""

    resets_see_new_phase = False

    def __init__(
        self,
        *,
        config: EnvConfig,
        scenario: Scenario,
        learner: Agent,
        seeds: Sequence[int],
        evaluation: Evaluation,
        stride_steps: int,
        num_threads: int,
        saves_states: bool = True,
        max_replay_s: float = math.inf,
    ) -> None:
        self._agent = learner
        self.change_steps, self.clears_replay = scenario.change_steps, scenario.clears_replay
        self.stride_steps = stride_steps
        self.world = World(config, scenario, seeds, num_threads, saves_states=saves_states, max_replay_s=max_replay_s)
        self._config, self._scenario, self._seeds = config, scenario, seeds
        self._evaluation, self._num_threads = evaluation, num_threads
        self.failed: dict[int, str] = {}
        low = lowest_return(config)
        self.lowest = {"eval/return": low, "eval/score": config.score(low)}

    @property
    def learner(self) -> Agent:
        """The agent."""
        return self._agent

    @classmethod
    def build(cls, config: EnvConfig, scenario: ScenarioConfig, population: Population) -> RLCourse:
        """The environments of a population, and its agent in them."""
        spec, seeds, budget_steps = config.spec, population.seeds, population.budget_steps
        stride_steps = population.agent.demands.round_steps * config.num_envs
        compresses = getattr(population.agent, "compresses", lambda *_: False)
        store = {"compressed": True} if compresses(spec, population.replay_store, budget_steps) else {}
        return cls(
            config=config,
            scenario=scenario.build(spec, seeds, budget_steps, stride_steps),
            learner=population.agent.build(
                spec=spec,
                num_envs=config.num_envs,
                streams=[Streams(seed) for seed in seeds],
                budget_steps=budget_steps,
                device=population.device,
                parts=population.parts,
                **store,
            ),
            seeds=seeds,
            evaluation=population.evaluation,
            stride_steps=stride_steps,
            num_threads=population.num_threads,
            saves_states=population.saves_states,
            max_replay_s=population.max_replay_s,
        )

    def begin(self) -> None:
        """The agent meets its first observations."""
        self._agent.begin(self.world.obs, self.world.ended)

    def restart(self, step: int) -> None:
        """New episodes with new seeds."""
        self.world.restart(step)

    def set_phase(self, phase: int, step: int) -> None:
        """The scenario's phase; where its environments are others, they start new episodes."""
        self.world.change(phase, step)

    def advance(self, step: int) -> Iterator[Mapping[str, Tensor]]:
        """One stride of the agent."""
        self.world.at_step = step
        yield from self._agent.advance(self.world, step)
        if len(self.world.broken) > 0:
            self.failed = {**self.world.broken, **self.failed}

    def evaluate(self, step: int, phase: int) -> dict[str, np.ndarray]:
        """Return, score, length and number of episodes ``[M]``, on environments of their own."""
        config, plan = self._scenario.env(self._config, phase), self._evaluation
        result = evaluate(
            self._agent.act_in_evaluation,
            lambda obs: self._scenario.transform(obs, phase),
            config,
            self._seeds,
            at_step=step,
            num_envs=plan.num_envs,
            episodes=plan.episodes,
            steps=plan.steps,
            num_threads=self._num_threads,
            max_episode_steps=plan.max_episode_steps,
            rewarded=lambda *taken: self._rewarded(phase, *taken),
            broken=self.failed,
        )
        self.failed |= result.broken
        return {
            "eval/return": result.mean_return,
            "eval/score": np.array([config.score(float(value)) for value in result.mean_return]),
            "eval/length": result.mean_length,
            "eval/episodes": result.episodes,
        }

    def _rewarded(self, phase: int, step: EnvStep, obs: np.ndarray, action: np.ndarray) -> EnvStep:
        def by_member(values: np.ndarray) -> np.ndarray:
            shaped: np.ndarray = values.reshape(len(self._seeds), -1, *values.shape[1:])
            return shaped

        shaped = step._replace(**{name: by_member(values) for name, values in step._asdict().items()})
        rewarded = self._scenario.reward(shaped, phase, by_member(obs), by_member(action))
        return step._replace(raw_reward=rewarded.raw_reward.reshape(-1))

    def training_metrics(self) -> dict[str, tuple[list[int], list[float]]]:
        """Mean return and length of the episodes that ended since the last call, of members that ended any."""
        returns, lengths, counts = self.world.episodes.drain(len(self._seeds))
        ended = [m for m in range(len(self._seeds)) if counts[m] > 0]
        return {
            "train/return": (ended, [float(returns[m] / counts[m]) for m in ended]),
            "train/length": (ended, [float(lengths[m] / counts[m]) for m in ended]),
        }

    def policy(self, member: int, phase: int) -> Callable[[np.ndarray], np.ndarray]:
        """How ``member`` acts in evaluation now: raw observations ``[1, ...]`` to actions ``[1, ...]``."""
        generator, members = derive_generator(self._seeds[member], "picture", "policy"), len(self._seeds)

        def act(obs: np.ndarray) -> np.ndarray:
            everyone = np.repeat(obs[None], members, axis=0)  # the agent acts for all members at once
            uniforms = np.repeat(generator.random((1, 1, 2)), members, axis=0)
            seen = self._scenario.transform(everyone, phase)
            action: np.ndarray = self._agent.act_in_evaluation(seen, uniforms)[member]
            return action

        return act

    def state_dict(self) -> dict[str, np.ndarray]:
        """The course of the environments and the sums over episodes."""
        return self.world.state_dict()

    def load_state_dict(
        self, state: Mapping[str, np.ndarray], parents: Sequence[int], *, phase: int, restarts: bool
    ) -> None:
        """Goes on as saved; with ``restarts`` the past of the environments is not stepped through first."""
        self.world.load_state_dict(state, parents, phase=phase, replay=not restarts)

    def close(self) -> None:
        """Frees the environments."""
        self.world.close()
