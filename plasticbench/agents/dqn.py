"""DQN (Mnih et al. 2015, Nature 518) for populations: replay, target copies, epsilon-greedy, Huber or squared loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from plasticbench.agents import _effects
from plasticbench.agents._clock import Clock
from plasticbench.agents._losses import Loss, double_target, max_target, q_learning_loss, q_learning_pull
from plasticbench.agents._population import ReplayAgent
from plasticbench.agents._random_shift import RandomShifts, require_maps
from plasticbench.agents._replay import Batch, observations
from plasticbench.agents._replay_stores import new_replay
from plasticbench.agents._settings import ReplaySettings
from plasticbench.agents._silence import Silence
from plasticbench.agents._uniforms import MemberUniforms
from plasticbench.agents._value_bound import ValueBound
from plasticbench.contracts.task import BoxActions, DiscreteActions, EnvSpec, EnvStep
from plasticbench.contracts.treatment import Part
from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.networks import minatar_cnn, mlp, nature_cnn
from plasticbench.learning.optimizers import adam, rmsprop
from plasticbench.learning.trained import TrainedNetwork
from plasticbench.plugins import PluginField
from plasticbench.schedules import LinearSchedule
from plasticbench.seeding import Streams
from plasticbench.settings import UNHASHED_DEFAULT, Fraction, Gt, PositiveFloat, PositiveInt

_RATIO_PERIOD_UPDATES = 16  # from one look at how large values are to the next: each costs a twentieth of an update


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ReplaySettings):
    """Settings of DQN. Every ``steps`` counts agent steps of one trial; ``replay_ratio`` is updates per agent step.

    ``optimizer``: that of methods whose parts name none. ``loss``: Huber's seeks the median of targets whose errors
    exceed its threshold; 1 fits rewards that are clipped to [-1, 1], and no others.

    The target moves by ``target_tau`` towards the online network every ``target_period_steps``, ``before_updates`` that
    are due then or after them; or, where it is given, after every ``target_period_updates`` updates.

    With ``exploration: shared`` one draw decides whether all environments of a member explore; each explores by an
    action of its own. Epsilon falls from the step on at which its decay begins; ``warm_up_actions`` are those until
    learning starts. ``random_shift_pixels``: how far maps of a batch are shifted by chance.
    """

    network: Annotated[Any, PluginField("networks")] = field(default_factory=mlp.Config)
    learning_rate: PositiveFloat = 1e-3
    adam_eps: PositiveFloat = 1e-8
    batch_rows: PositiveInt = 32
    capacity_transitions: PositiveInt = 100_000
    discount: Fraction = 0.99
    target_period_steps: PositiveInt = 500
    replay_ratio: PositiveFloat = 1.0
    learning_starts_steps: PositiveInt = 1_000
    epsilon_start: Fraction = 1.0
    epsilon_end: Fraction = 0.05
    epsilon_decay_fraction: Fraction = 0.1
    exploration: Literal["per_environment", "shared"] = "per_environment"
    bootstrap: Literal["max", "double"] = "max"
    evaluation_epsilon: Fraction = 0.001
    optimizer: Annotated[Any, PluginField("optimizers")] = field(default=adam.Config(), metadata=UNHASHED_DEFAULT)
    loss: Loss = field(default="huber", metadata=UNHASHED_DEFAULT)
    huber_threshold: PositiveFloat = field(default=1.0, metadata=UNHASHED_DEFAULT)
    target_tau: Annotated[Fraction, Gt(0)] = field(default=1.0, metadata=UNHASHED_DEFAULT)
    target_period_updates: PositiveInt | None = field(default=None, metadata=UNHASHED_DEFAULT)
    target_moves: Literal["after_updates", "before_updates"] = field(default="after_updates", metadata=UNHASHED_DEFAULT)
    epsilon_decay_begins: Literal["learning_starts", "first_step"] = field(
        default="learning_starts", metadata=UNHASHED_DEFAULT
    )
    warm_up_actions: Literal["epsilon_greedy", "uniform"] = field(default="epsilon_greedy", metadata=UNHASHED_DEFAULT)
    random_shift_pixels: PositiveInt | None = field(default=None, metadata=UNHASHED_DEFAULT)

    def __post_init__(self) -> None:
        ReplaySettings.__post_init__(self)
        if self.optimizer.learning_rate is not None:
            raise ValueError(
                f"optimizer.learning_rate: the agent's own learning_rate ({self.learning_rate}) holds for it, got "
                f"{self.optimizer.learning_rate}. Remove it, and set learning_rate"
            )

    def inert(self) -> dict[str, str]:
        """Settings without effect under the current values, and why."""
        return _effects.inert_dqn_settings(self)

    def inert_but_hashed(self) -> dict[str, str]:
        """The same, of settings that stand in trial ids all the same."""
        return _effects.inert_dqn(self)

    def inert_within(self, num_envs: int, budget_steps: int) -> dict[str, str]:
        """Settings without effect with so many environments and steps, and why."""
        return _effects.inert_dqn_within(self, num_envs, budget_steps)

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the networks as probes see them."""
        return ("online", "target")

    @property
    def trained_networks(self) -> tuple[str, ...]:
        """Names of the networks that treatments may concern."""
        return ("q",)

    def build(
        self,
        *,
        spec: EnvSpec,
        num_envs: int,
        streams: Sequence[Streams],
        budget_steps: int,
        device: torch.device,
        parts: Sequence[Sequence[Part]] = (),
        compressed: bool = False,
    ) -> DQN:
        """A population of ``len(streams)`` members with ``num_envs`` environments each, and each one's parts."""
        return DQN(self, spec, num_envs, streams, budget_steps, device, parts, compressed)

    def layers(self, spec: EnvSpec) -> dict[str, Sequence[LayerSpec]]:
        """The layers of the one trained network."""
        return {"q": _layers(self, spec)}

    def memory_bytes(self, spec: EnvSpec, num_members: int) -> int:
        """Bytes of replay and networks of a population."""
        frame_bytes = int(np.prod(spec.frame_shape)) * np.dtype(spec.obs_dtype).itemsize
        return num_members * (self.capacity_transitions * (frame_bytes + 26) + self.network_bytes(spec))

    disk_bytes = memory_bytes

    def network_bytes(self, spec: EnvSpec) -> int:
        """Bytes of one member's networks, with gradients and moments."""
        return 24 * sum(int(np.prod(layer.weight_shape)) for layer in _layers(self, spec))


PRESETS = {
    # isaac7778/FIRE rl/dqn: constants in section 2.5 of the fact sheet; one draw decides for all environments.
    "fire_paper_dqn": Config(
        network=nature_cnn.Config(),
        learning_rate=6.25e-5,
        adam_eps=1.5e-4,
        batch_rows=32,
        capacity_transitions=1_000_000,
        target_period_steps=2_000,
        replay_ratio=1.0,
        learning_starts_steps=20_000,
        epsilon_end=0.01,
        exploration="shared",
        update_clock="before_step",
    ),
    # vwxyzjn/cleanrl cleanrl/dqn.py at fe8d8a0, for classic control over 500,000 steps.
    "cleanrl_dqn": Config(
        network=mlp.Config(hidden=(120, 84), initializer="torch_default"),
        learning_rate=2.5e-4,
        batch_rows=128,
        capacity_transitions=10_000,
        loss="squared",
        target_period_steps=500,
        replay_ratio=0.1,
        learning_starts_steps=10_000,
        update_clock="before_step",
        epsilon_end=0.05,
        epsilon_decay_fraction=0.5,
        epsilon_decay_begins="first_step",
        evaluation_epsilon=0.05,
    ),
    # kenjyoung/MinAtar examples/dqn.py at 4241f24; epsilon falls over 100,000 of 5,000,000 steps.
    "minatar_dqn": Config(
        network=minatar_cnn.Config(),
        optimizer=rmsprop.PRESETS["minatar"],
        learning_rate=2.5e-4,
        batch_rows=32,
        capacity_transitions=100_000,
        target_period_updates=1_000,
        replay_ratio=1.0,
        learning_starts_steps=5_000,
        update_clock="before_step",
        epsilon_end=0.1,
        epsilon_decay_fraction=0.02,
        evaluation_epsilon=0.1,
    ),
    # DLR-RM/rl-baselines3-zoo hyperparams/dqn.yml at 22e3ff2, with the defaults of stable-baselines3 2.9; 50,000 steps.
    "zoo_dqn_cartpole": Config(
        network=mlp.Config(hidden=(256, 256), initializer="torch_default"),
        learning_rate=2.3e-3,
        batch_rows=64,
        capacity_transitions=100_000,
        max_gradient_norm=10.0,
        target_period_steps=10,
        target_moves="before_updates",
        replay_ratio=0.5,
        update_period_steps=256,
        learning_starts_steps=1_000,
        warm_up_actions="uniform",
        epsilon_end=0.04,
        epsilon_decay_fraction=0.16,
        epsilon_decay_begins="first_step",
        evaluation_epsilon=0.0,
    ),
}


def _layers(config: Config, spec: EnvSpec) -> Any:
    if isinstance(spec.actions, BoxActions):
        raise ValueError(
            "dqn needs discrete actions, but this task's actions are continuous vectors. Choose sac or ppo"
        )
    return config.network.layers(spec.obs_shape, spec.actions.count)


def check(config: Config, spec: EnvSpec) -> None:
    """Raises ``ValueError`` if this agent cannot act in such environments."""
    if config.random_shift_pixels is not None:
        require_maps(spec)
    _layers(config, spec)


class DQN(ReplayAgent):
    """M members in lockstep. ``act`` and ``observe`` take ``[M, E, ...]``; ``learn`` trains after each of them."""

    temperature = None  # actions are weighed by value alone

    def __init__(
        self,
        config: Config,
        spec: EnvSpec,
        num_envs: int,
        streams: Sequence[Streams],
        budget_steps: int,
        device: torch.device,
        parts: Sequence[Sequence[Part]] = (),
        compressed: bool = False,
    ) -> None:
        self.config, self.spec, self.streams, self.device, self.parts = config, spec, streams, device, parts
        self.num_members, self.num_envs = len(streams), num_envs
        base = adam.Config(learning_rate=config.learning_rate, eps=config.adam_eps, weight_decay=0.0)
        self.q = TrainedNetwork.build(
            "q",
            _layers(config, spec),
            base,
            streams,
            device,
            parts=parts,
            max_gradient_norm=config.max_gradient_norm,
            optimizer=config.optimizer,
            precision=config.precision,
        )
        self.replay = new_replay(config, spec, len(streams), num_envs, budget_steps, device, compressed=compressed)
        self.value_bound = ValueBound(config.discount, self.num_members, device)
        self._exploration = MemberUniforms(streams, "exploration", (num_envs, 2))
        self._batches = MemberUniforms(streams, "replay", (config.batch_rows,))
        pixels = config.random_shift_pixels
        self._shifts = RandomShifts(streams, pixels, config.batch_rows) if pixels is not None else None
        self.update_draws = [self._batches, *([] if self._shifts is None else [self._shifts.draws])]
        self.clock, self.silent = Clock(config, num_envs), Silence(spec)
        self._epsilon = LinearSchedule(
            start=config.epsilon_start,
            end=config.epsilon_end,
            begin_step=config.learning_starts_steps if config.epsilon_decay_begins == "learning_starts" else 0,
            duration_steps=round(config.epsilon_decay_fraction * budget_steps),
        )

    @property
    def trained(self) -> tuple[TrainedNetwork, ...]:
        """The networks that resets and probes concern."""
        return (self.q,)

    def begin(self, obs: np.ndarray, ended: np.ndarray | None = None) -> None:
        """Starts a new course at ``obs``, after environments or their view of the world were changed."""
        self.replay.begin(self._met(obs), ended)

    def act(self, obs: np.ndarray, step: int) -> np.ndarray:
        """Epsilon-greedy actions ``[M, E]`` for training."""
        uniforms = self._exploration.draw()
        if self.config.exploration == "shared":
            decision = np.broadcast_to(uniforms[:, :1, :1], (*uniforms.shape[:2], 1))
            uniforms = np.concatenate((decision, uniforms[..., 1:]), axis=-1)
        is_warm_up = self.config.warm_up_actions == "uniform" and step < self.config.learning_starts_steps
        return self._epsilon_greedy(obs, 1.0 if is_warm_up else self._epsilon.value(step), uniforms)

    def act_in_evaluation(self, obs: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Actions for evaluation, with uniforms ``[M, E, 2]`` from outside the trial's streams."""
        return self._epsilon_greedy(obs, self.config.evaluation_epsilon, uniforms)

    def _epsilon_greedy(self, obs: np.ndarray, epsilon: float, uniforms: np.ndarray) -> np.ndarray:
        random_action = (uniforms[..., 1] * self._num_actions).astype(np.int64)
        explores = uniforms[..., 0] < epsilon
        if explores.all():
            return random_action
        with torch.no_grad():
            values = self.q.online.forward(self._scaled(torch.from_numpy(obs).to(self.device)))
            greedy = values.argmax(dim=-1).cpu().numpy()
        return np.where(explores, random_action, greedy)

    @property
    def _num_actions(self) -> int:
        assert isinstance(self.spec.actions, DiscreteActions)
        return self.spec.actions.count

    def _scaled(self, obs: Tensor) -> Tensor:
        scaled = obs.float()
        return scaled * self.spec.obs_scale if self.spec.obs_scale != 1.0 else scaled

    def observe(self, action: np.ndarray, step: EnvStep) -> None:
        """Stores what followed ``action``; the fields of ``step`` are shaped ``[M, E, ...]``."""
        self.replay.observe(action, step)
        self.value_bound.see(step.reward)

    def learn(self, step: int) -> Iterator[dict[str, Tensor]]:
        """Makes the updates that are due when the clock reaches ``step``, and moves the target."""
        moves = self.config.target_period_updates is None and self.clock.passes(step, self.config.target_period_steps)
        if moves and self.config.target_moves == "before_updates":
            self._move_targets(step)
        yield from super().learn(step)
        if moves and self.config.target_moves == "after_updates":
            self._move_targets(step)

    def _move_targets(self, step: int) -> None:
        self.q.move_target(self.config.target_tau)
        self._for_twins(step, lambda: self.q.move_target(self.config.target_tau))

    def follow_primed(self, number: int, step: int) -> None:
        """Moves the target after as many updates as usual."""
        period_updates = max(1, round(self.config.target_period_steps * self.clock.replay_ratio))
        if self.config.target_period_updates is None and number % period_updates == 0:
            self._move_targets(step)

    def update(self, step: int = 1) -> dict[str, Tensor]:
        """One gradient step of every member on a batch of its own, at clock ``step``."""
        batch = self.next_batch(step)
        self.updates_made += 1
        drawn = () if self._shifts is None else (self._shifts.draw(self.device),)
        metrics = self._made(self.updates_made % _RATIO_PERIOD_UPDATES == 1, batch, drawn, step)
        if self.config.target_period_updates and self.updates_made % self.config.target_period_updates == 0:
            self.q.move_target(self.config.target_tau)
        return metrics

    def _arithmetic(self, variant: bool, batch: Batch, drawn: Sequence[Tensor], step: int) -> dict[str, Tensor]:
        self.q.begin(step)
        shifted = None if self._shifts is None else self._shifts.shifted(self._observations(batch), drawn[0])
        obs, next_obs = shifted or self._observations(batch)
        wanted = self._wanted(batch, next_obs)
        q = self.q.forward(obs, next_obs)
        is_cut, values = self.q.cut is not None, q.detach()
        loss = q_learning_loss(values if is_cut else q, *wanted)
        if is_cut:
            self.q.descend_along(q_learning_pull(values, *wanted), step)
        else:
            self.q.descend(loss, step)
        metrics = {"loss/td": loss.detach(), "q/mean": values.mean(dim=(1, 2))}
        return metrics | {"q/bound_ratio": self.value_bound.ratio(values)} if variant else metrics

    def _wanted(self, batch: Batch, next_obs: Tensor) -> tuple[Tensor, Tensor, Loss, float]:
        """The actions that were taken, the targets of their values, and what the difference costs."""
        with torch.no_grad():
            next_q = self.q.forward_target(next_obs)
            if self.config.bootstrap == "max":
                target = max_target(batch.reward, batch.terminated, next_q, batch.discount)
            else:
                chosen = self.q.online.forward(next_obs)
                target = double_target(batch.reward, batch.terminated, chosen, next_q, batch.discount)
        return batch.action, target, self.config.loss, self.config.huber_threshold

    def _observations(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return observations(self._scaled(batch.frames), self.spec.frame_stack)

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """The observations of a batch as the network sees them: ``[M, N, *obs_shape]``, scaled."""
        return {"q": self._observations(batch)[0]}

    def losses(self, batch: Batch) -> list[Tensor]:
        """The network's loss ``[M]``."""
        obs, next_obs = self._observations(batch)
        return [q_learning_loss(self.q.forward(obs, next_obs), *self._wanted(batch, next_obs))]

    def view_name(self, network: str) -> str:
        """There is one trained network."""
        return "online"

    def _target_name(self, network: str) -> str:
        return "target"

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors ``[M, ...]`` and plain data, the replay left out (it is saved in chunks)."""
        tensors, plain = super().state_dict()
        own = {"exploration": self._exploration.state_dict(), "batches": self._batches.state_dict()}
        own |= {} if self._shifts is None else {"random_shift": self._shifts.state_dict()}
        return tensors, plain | own

    def load_state_dict(self, tensors: dict[str, Tensor], plain: dict[str, Any], parents: Sequence[int]) -> None:
        """Member i continues as the saved member ``parents[i]``: the identity resumes, anything else forks."""
        self._exploration.load_state_dict(plain["exploration"], parents)
        self._batches.load_state_dict(plain["batches"], parents)
        if self._shifts is not None:
            self._shifts.load_state_dict(plain["random_shift"], parents)
        super().load_state_dict(tensors, plain, parents)
