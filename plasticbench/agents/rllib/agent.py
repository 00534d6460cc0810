"""An RLlib Algorithm as an agent: one round is RLlib's own training step on a fixed number of environment steps."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import ray
import torch
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner import learner_group
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, LEARNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME
from ray.rllib.utils.spaces.space_utils import unsquash_action
from ray.train.backend import BackendConfig
from ray.tune.trainable import trainable
from torch import Tensor

from plasticbench.agents.rllib import learner
from plasticbench.agents.rllib.env import WorldEnv, WorldRunner, action_space, encode
from plasticbench.agents.rllib.learner import ask, sync_runners
from plasticbench.agents.rllib.replay import RowReplay, targets_of
from plasticbench.agents.rllib.settings import MODEL_DEFAULTS, Settings
from plasticbench.contracts.network import NetworkView
from plasticbench.contracts.task import BoxActions, EnvSpec, World
from plasticbench.contracts.treatment import Part, Report
from plasticbench.seeding import Streams, derive_seed

_METRICS = {
    "DQN": {"loss/td": "qf_loss", "q/mean": "qf_mean"},
    "SAC": {
        "loss/actor": "policy_loss",
        "loss/temperature": "alpha_loss",
        "loss/critic1": "qf_loss",
        "loss/critic2": "qf_twin_loss",
        "policy/temperature": "alpha_value",
    },
}
"""The native agents' names for what RLlib logs."""

_ROUNDS_KEPT = 256

_SAMPLED = (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)
"""The clock by which RLlib starts learning and copies to targets."""


def build_algorithm(config: Settings, spec: EnvSpec, seed: int) -> Any:
    """RLlib's Algorithm with its runner in this process; a learner of its own takes the CPU reserved for it."""
    base: Any = {"DQN": DQNConfig, "SAC": SACConfig}[config.algorithm]()  # type: ignore[no-untyped-call]
    own = {name: value for name, value in config.config.items() if name != "replay_buffer_config"}
    replay = {"type": "EpisodeReplayBuffer", "capacity": config.capacity_transitions}
    if config.algorithm == "DQN":
        own |= {"dueling": False}
    torch.manual_seed(seed)
    built = (
        base.environment(WorldEnv, env_config={"spec": spec})
        .env_runners(env_runner_cls=WorldRunner, num_env_runners=0, rollout_fragment_length=config.fragment_steps)
        .learners(num_learners=config.num_learners, num_cpus_per_learner=0)
        .rl_module(model_config=DefaultModelConfig(**MODEL_DEFAULTS | config.model))
        .debugging(seed=seed, log_level="ERROR")
        .update_from_dict(own | {"replay_buffer_config": replay})
    )
    with warnings.catch_warnings(), _no_process_group(), _no_folder():
        warnings.simplefilter("ignore")  # RLlib warns of its own deprecations
        logging.getLogger("ray.rllib").setLevel(logging.ERROR)
        return built.build_algo()


@contextmanager
def _no_process_group() -> Iterator[None]:
    """One learner has nobody to exchange gradients with, and torch's process group would listen on all addresses."""
    before = learner_group._get_backend_config
    learner_group._get_backend_config = lambda learner_class: BackendConfig()  # type: ignore[assignment,return-value]
    try:
        yield
    finally:
        learner_group._get_backend_config = before


@contextmanager
def _no_folder() -> Iterator[None]:
    """RLlib makes a folder in the home directory for results that only its own ``train`` would write."""
    module: Any = trainable
    before = module.DEFAULT_STORAGE_PATH
    with TemporaryDirectory(prefix="plasticbench-rllib-") as module.DEFAULT_STORAGE_PATH:
        try:
            yield
        finally:
            module.DEFAULT_STORAGE_PATH = before


class RLlibAgent:
    """A population of one with one environment."""

    def __init__(self, config: Settings, spec: EnvSpec, streams: Streams, parts: Sequence[Part] = ()) -> None:
        if not ray.is_initialized():
            raise RuntimeError("an RLlib agent trains inside Ray: start it with `plasticbench run`, or call ray.init()")
        self.config, self.spec, self._streams, self._parts = config, spec, streams, parts
        self._algorithm = build_algorithm(config, spec, derive_seed(streams.seed, "rllib"))
        self._runner: Any = self._algorithm.env_runner
        self.replay = self._algorithm.local_replay_buffer = RowReplay(config.capacity_transitions)
        self.replay.spaces = (self._runner.env.single_observation_space, action_space(spec))
        self.replay.rng = streams["replay"]
        self._targets = targets_of(self._algorithm.config)
        self._initial = ask(self._algorithm, learner.weights)
        self._course: dict[str, Any] | None = None
        self._sampled = 0  # steps before this process began
        self._metrics = dict(_METRICS[config.algorithm])
        self.not_finite: dict[int, str] = {}
        if "critic2" not in config.networks:
            self._metrics.pop("loss/critic2", None)

    def begin(self, obs: np.ndarray, ended: np.ndarray | None = None) -> None:
        """The next round starts a new episode; the environment itself leaves one that is over."""
        self._course = None
        self._runner.begin()

    def advance(self, world: World, step: int) -> Iterator[dict[str, Tensor]]:
        """RLlib's training step; the runner's clock, which RLlib sets once per iteration, follows every round."""
        self._runner.world_env.world = world
        if self._course is not None:
            self._runner.take_up(self._course)
            self._course = None
        self._runner.num_env_steps_sampled_lifetime = step
        self._train()
        if step + self.config.fragment_steps >= self.config.learning_starts_steps:
            yield {name: torch.tensor([self._logged(key)]) for name, key in self._metrics.items()}
        if step // self.config.fragment_steps % _ROUNDS_KEPT == 0:
            self._algorithm.metrics.reduce()  # or every value of every round would be kept

    def _train(self) -> None:
        try:
            self._algorithm.training_step()
        except Exception:
            self.check_finite()
            if not self.not_finite:  # distributions and environments may refuse what such weights lead to
                raise
        self.silence(self._runner.world_env.faults)

    def _logged(self, key: str) -> float:
        """The latest value, not RLlib's mean over all since it was last asked."""
        return float(self._algorithm.metrics.peek((LEARNER_RESULTS, DEFAULT_MODULE_ID, key), latest_merged_only=True))

    def act_in_evaluation(self, obs: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Greedy actions of DQN, of SAC those most likely before squashing; chance plays no part."""
        module, seen = self._runner.module, torch.from_numpy(encode(obs[0], self.spec))
        with torch.no_grad():
            outputs = module.forward_inference({Columns.OBS: seen})
        if not isinstance(self.spec.actions, BoxActions):
            actions: np.ndarray = outputs[Columns.ACTIONS].numpy()
            return actions[None]
        distribution = module.get_inference_action_dist_cls().from_logits(outputs[Columns.ACTION_DIST_INPUTS])
        squashed = distribution.to_deterministic().sample().numpy()
        scaled: np.ndarray = unsquash_action(  # type: ignore[no-untyped-call]
            squashed, self._runner.env.single_action_space
        )
        return scaled[None]

    def probe_batch(self, uniforms: np.ndarray) -> Any | None:
        """A replay sample as RLlib's learner takes it."""
        return self.replay.sample_rows(uniforms[0], **self._targets) if len(self.replay) else None

    def views(self, batch: Any, previous: Mapping[str, Any] | None = None) -> tuple[NetworkView, ...]:
        """All networks as probes see them."""
        views: tuple[NetworkView, ...] = ask(
            self._algorithm, learner.views, batch=batch, initial=self._initial, previous=previous
        )
        return views

    def weights(self) -> Mapping[str, Any]:
        """Copies of the online networks' parameters."""
        found: Mapping[str, Any] = ask(self._algorithm, learner.weights)
        return found

    def parameters(self, member: int) -> dict[str, Tensor]:
        """Copies of the online networks' parameters under RLlib's names."""
        return {f"{network}.{key}": value for network, own in self.weights().items() for key, value in own.items()}

    def treat(self, members: Sequence[int], index: int, step: int, batch: Any | None) -> dict[str, Report]:
        """Carries out a part's event in the learner's process; the runner has the new weights before its next step."""
        seed = int(self._streams["reset"].integers(2**31))
        obs = torch.from_numpy(batch[Columns.OBS]) if batch is not None else None
        reports: dict[str, Report] = ask(
            self._algorithm, learner.treat, part=self._parts[index], seed=seed, initial=self._initial, obs=obs
        )
        sync_runners(self._algorithm)
        return reports

    def check_finite(self) -> None:
        """Looks at the online networks in the learner's process."""
        broken = (name for name, value in self.parameters(0).items() if not value.isfinite().all())
        if (first := next(broken, None)) is not None:
            self.silence({0: f"parameter {first}"})

    def silence(self, faults: Mapping[int, str]) -> None:
        """There are no siblings, so a population of which everyone is silent is not trained any more."""
        self.not_finite = {**faults, **self.not_finite}

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What RLlib's own checkpoint holds and what it loses, the replay's rows left out."""
        exported, clocks = ask(self._algorithm, learner.export)
        initial = {f"{name}/{key}": value for name, own in self._initial.items() for key, value in own.items()}
        tensors = {f"learner/{name}": value for name, value in exported.items()}
        tensors |= {f"initial/{name}": value for name, value in initial.items()}
        tensors |= {"rng": torch.get_rng_state(), "replay/last_obs": self.replay.last_observations()}
        course = self._course if self._course is not None else self._runner.course()
        sampled = self._algorithm.metrics.peek(_SAMPLED, default=self._sampled)
        plain = {"streams": self._streams.state_dict(), "learner": clocks, "course": course, "sampled": int(sampled)}
        return tensors, plain

    def load_state_dict(self, tensors: dict[str, Tensor], plain: dict[str, Any], parents: Sequence[int]) -> None:
        """Goes on where a member was saved, in this or another trial; the replay's rows follow."""
        saved = {k.removeprefix("learner/"): v for k, v in tensors.items() if k.startswith("learner/")}
        ask(self._algorithm, learner.load, tensors=saved, plain=plain["learner"])
        self._initial = {
            name: {key: tensors[f"initial/{name}/{key}"] for key in own} for name, own in self._initial.items()
        }
        sync_runners(self._algorithm)
        self._streams.load_state_dict(plain["streams"])
        self.replay.rng, self.replay.last_obs = self._streams["replay"], tensors["replay/last_obs"]
        self._course = plain["course"]
        self._sampled = plain["sampled"]
        self._runner.count_sampled(self._sampled)
        torch.set_rng_state(tensors["rng"])

    def close(self) -> None:
        """Stops RLlib's processes."""
        self._algorithm.stop()
