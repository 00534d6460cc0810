"""What agents share whose members act, observe and learn in lockstep, one step of the environments at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from plasticbench.agents._adaptive_ratio import AdaptiveRatio
from plasticbench.agents._ahead import Ahead
from plasticbench.agents._clock import Clock
from plasticbench.agents._earned import claimed_and_earned
from plasticbench.agents._learner import BatchT, PopulationLearner
from plasticbench.agents._replay import Batch, PopulationReplay
from plasticbench.agents._running_norm import RunningNorm
from plasticbench.agents._silence import faults
from plasticbench.agents._temperature import Temperature
from plasticbench.agents._twins import Twins
from plasticbench.agents._uniforms import MemberUniforms
from plasticbench.agents._value_bound import ValueBound
from plasticbench.contracts.learner import SavedReplay
from plasticbench.contracts.task import EnvStep, World
from plasticbench.contracts.treatment import Report
from plasticbench.learning.captured_update import CapturedUpdate, Recorder
from plasticbench.learning.module_network import ModuleNetwork


class SilencedReplay(SavedReplay, Protocol):
    """What was learnt from, of members of whom some may be silent."""

    def silence(self, members: Sequence[int]) -> None:
        """What these members saw, did and earned becomes zeros, but for whole numbers, which are always finite."""
        ...


class PopulationAgent(PopulationLearner[BatchT]):
    """M members with E environments each; arrays are shaped ``[M, E, ...]``."""

    replay: SilencedReplay
    num_envs: int
    temperature: Temperature | None
    value_bound: ValueBound
    _norm: RunningNorm | None = None  # of observations

    @abstractmethod
    def act(self, obs: np.ndarray, step: int) -> np.ndarray:
        """Actions for training."""

    @abstractmethod
    def observe(self, action: np.ndarray, step: EnvStep) -> None:
        """Stores what followed ``action``."""

    @abstractmethod
    def learn(self, step: int) -> Iterator[dict[str, Tensor]]:
        """Makes the updates that are due when the clock reaches ``step``; yields each one's metrics ``[M]``."""

    def advance(self, world: World, step: int) -> Iterator[dict[str, Tensor]]:
        """One step of all environments from ``step`` on, and the updates that it makes due."""
        action = self.act(world.obs, step)
        if found := faults({"action": self.silent.acted(action)}):
            self.check_finite()  # names the weights that such an action came from
            self.silence(found)
        action = self.silent.acted(action)
        followed = world.step(action)
        if found := faults({"reward": followed.reward, "observation": followed.obs}):
            self.silence(found)
        self.observe(action, self.silent.followed(followed))
        self.episodes_ended(int((followed.terminated | followed.truncated).sum()))
        yield from self.learn(step + self.num_envs)

    def episodes_ended(self, count: int) -> None:
        """Nothing follows, unless an agent says so."""

    def _met(self, obs: np.ndarray) -> np.ndarray:
        """The first observations of a course, looked at."""
        self.silence(faults({"observation": obs}))
        return self.silent.observed(obs)

    # -- members that are not finite -----------------------------------------------------------------------------

    def _silence(self, members: Sequence[int]) -> None:
        self.replay.silence(members)
        super()._silence(members)
        if self.temperature is not None:
            self.temperature.silence(members)
        if self._norm is not None:
            self._norm.silence(members)

    def _hold(self) -> None:
        super()._hold()
        if self.not_finite and self.temperature is not None:
            self.temperature.silence(list(self.not_finite))

    # -- resets --------------------------------------------------------------------------------------------------

    def treat(self, members: Sequence[int], index: int, step: int, batch: BatchT | None) -> dict[str, Report]:
        """The event of part ``index`` of the members' methods, by network, and its rule on their temperature."""
        reports = super().treat(members, index, step, batch)
        rule = getattr(self.parts[members[0]][index].config, "temperature", "keep")
        if self.temperature is not None and rule == "reset":
            self.temperature.reset(members)
            self._hold()
        return reports

    # -- saving and going on -------------------------------------------------------------------------------------

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors ``[M, ...]`` and plain data of networks, treatments and streams; subclasses add their own."""
        tensors, plain = super().state_dict()
        return self.value_bound.state_dict() | tensors, plain

    def load_state_dict(self, tensors: dict[str, Tensor], plain: dict[str, Any], parents: Sequence[int]) -> None:
        """Member i continues as the saved member ``parents[i]``: the identity resumes, anything else forks."""
        super().load_state_dict(tensors, plain, parents)
        self.value_bound.load_state_dict(tensors, parents)


class ReplayAgent(PopulationAgent[Batch]):
    """An agent that learns from a replay, at the pace of a clock."""

    replay: PopulationReplay
    clock: Clock
    config: Any  # based on ``ReplaySettings``
    num_members: int
    update_draws: Sequence[MemberUniforms]  # one draw of each is what an update needs, the first one's of rows
    device: torch.device
    _captured: CapturedUpdate | None = None
    _ahead: Ahead | None = None
    _more: bool = False  # whether another update follows before anything enters the replay

    @abstractmethod
    def update(self, step: int) -> dict[str, Tensor]:
        """One update of every member at clock ``step``; returns its metrics ``[M]``."""

    @abstractmethod
    def _arithmetic(self, variant: bool, batch: Batch, drawn: Sequence[Tensor], step: int) -> dict[str, Tensor]:
        """All of an update but its chance, on the device alone; ``variant`` is what else the host has decided."""

    def _made(self, variant: bool, batch: Batch, drawn: Sequence[Tensor], step: int) -> dict[str, Tensor]:
        if self._captured is None:
            return self._arithmetic(variant, batch, drawn, step)
        return self._captured(variant, [*batch, *drawn])

    def capture_obstacle(self) -> str | None:
        """Why an update cannot be recorded, if it cannot."""
        if self._adaptive is not None:
            return "the replay ratio adapts to what networks pass on"
        for trained in self.trained:
            if isinstance(trained.online, ModuleNetwork):
                return f"{trained.name} is made of modules"
            if trained.parts.look_at_activations:
                return f"a treatment acts at updates of {trained.name}"
            if trained.online.buffers:
                return f"{trained.name} keeps running statistics"
            if not getattr(trained.optimizer, "is_capturable", False):
                return f"the optimizer of {trained.name} decides on the host"
        return None

    def capture_updates(self, recorder: Recorder) -> None:
        """Updates are recorded from now on. Raises ``ValueError`` where they cannot be."""
        if (reason := self.capture_obstacle()) is not None:
            raise ValueError(f"execution.capture: updates cannot be recorded, since {reason}. Leave it at auto")
        own = (*self.trained, *((self.temperature,) if self.temperature is not None else ()))
        optimizers: list[Any] = [trained.optimizer for trained in own]
        first_drawn = len(Batch._fields)

        def arithmetic(variant: bool, inputs: Sequence[Any]) -> dict[str, Tensor]:
            return self._arithmetic(variant, Batch(*inputs[:first_drawn]), inputs[first_drawn:], 0)

        self._captured = CapturedUpdate(recorder, arithmetic, optimizers)

    def learn(self, step: int) -> Iterator[dict[str, Tensor]]:
        """Makes the updates that are due when the clock reaches ``step``; yields each one's metrics ``[M]``."""
        primed = self.clock.primed_updates(step, self.replay)
        for number in range(1, primed + 1):
            self._more = number < primed
            yield self.train(step)
            self.follow_primed(number, step)
        for left in reversed(range(self.clock.updates(step, self.replay))):
            self._more = left > 0
            yield self.train(step)

    def open_ahead(self, num_threads: int) -> None:
        """So many threads open what is compressed, one update ahead; nothing changes where nothing is."""
        if not num_threads or not self.replay.is_compressed:
            return
        if num_threads > 1:
            self.replay.open_with(num_threads)
        self._ahead = Ahead(self._sampled, self.update_draws[0], self.device)

    def next_batch(self, step: int) -> Batch:
        """Of the update that is due at clock ``step``."""
        if self._ahead is None:
            return self._sampled(self.update_draws[0].draw())
        return self._ahead.batch(more=self._more and not self._twins.are_due(self, step))

    def _sampled(self, uniforms: np.ndarray) -> Batch:
        return self.replay.sample(uniforms, self.config.replay)

    def close(self) -> None:
        """Ends the threads that open batches."""
        if self._ahead is not None:
            self._ahead.close()
        self.replay.close()

    def train(self, step: int) -> dict[str, Tensor]:
        """One update of every member and of their twins; returns the metrics ``[M]`` of those who act."""
        metrics = self._metrics_of_ratio() | self.update(step)
        self._hold()
        if self._adaptive is not None:
            self._adaptive.after_update()
        self._for_twins(step, partial(self._update_again, step))
        return metrics

    def follow_primed(self, number: int, step: int) -> None:
        """What the clock would do by itself had it gone on with the ``number`` updates of a priming so far."""

    @abstractmethod
    def _observations(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Observations and next ones as networks read them."""

    def _with_actions(self, obs: Tensor) -> Tensor:
        """What a network of values reads at observations."""
        return obs

    def reads_next(self, network: str, batch: Batch) -> Callable[[], Tensor] | None:
        """The next observations, of networks of values."""
        return (lambda: self._with_actions(self._observations(batch)[1])) if self._has_values(network) else None

    def earned(self, network: str) -> Callable[[int], tuple[Tensor, Tensor]] | None:
        """Of episodes that came to their end lately."""
        if not self._has_values(network):
            return None
        seeds = [streams.seed for streams in self.streams]
        return lambda rows: claimed_and_earned(self.replay, seeds, partial(self._values_of, network), rows)

    def _has_values(self, network: str) -> bool:
        return not self.meaning(network).keys().isdisjoint(("action_values", "values"))

    def _values_of(self, network: str, batch: Batch) -> Tensor:
        """Of the actions of a batch, ``[M, B]``."""
        (trained,) = (each for each in self.trained if each.name == network)
        values = trained.online.forward(self.inputs(batch)[network])
        if "action_values" in self.meaning(network):
            values = values.gather(-1, batch.action[..., None])
        return values.squeeze(-1)

    # -- a replay ratio that adapts ------------------------------------------------------------------------------

    @cached_property
    def _adaptive(self) -> AdaptiveRatio | None:
        if self.config.adaptive_ratio is None:
            return None
        return AdaptiveRatio(self.config, [own for own in self.trained if own.name != "actor"])

    def _metrics_of_ratio(self) -> dict[str, Tensor]:
        if self._adaptive is None:
            return {}
        return {"data/replay_ratio": torch.full((self.num_members,), self.clock.replay_ratio)}

    def episodes_ended(self, count: int) -> None:
        """The replay ratio may rise."""
        if self._adaptive is None:
            return
        for _ in range(count):
            self._adaptive.after_episode()
        self._follow_ratio()

    def _follow_ratio(self) -> None:
        if self._adaptive is not None and self._adaptive.has_settled:
            self.clock.replay_ratio = self.config.adaptive_ratio

    # -- twins ---------------------------------------------------------------------------------------------------

    @cached_property
    def _twins(self) -> Twins:
        return Twins()

    def treat(self, members: Sequence[int], index: int, step: int, batch: Batch | None) -> dict[str, Report]:
        """The event, in which twins take over with all that they have."""
        reports = super().treat(members, index, step, batch)
        if getattr(self.parts[members[0]][index].config, "is_for_agents", False):
            self._twins.take_over(self, members)
            self._hold()
        return reports

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """That of all population agents, what twins have besides networks, and what a replay ratio depends on."""
        tensors, plain = super().state_dict()
        own = {} if self._adaptive is None else {"adaptive_ratio": self._adaptive.state_dict()}
        return tensors | self._twins.state_dict(), plain | own

    def load_state_dict(self, tensors: dict[str, Tensor], plain: dict[str, Any], parents: Sequence[int]) -> None:
        """Member i continues as the saved member ``parents[i]``, twin and all."""
        super().load_state_dict(tensors, plain, parents)
        self._twins.load_state_dict(self.temperature, tensors, parents)
        if self._adaptive is not None:
            self._adaptive.load_state_dict(plain["adaptive_ratio"])
            self._follow_ratio()

    def _for_twins(self, step: int, act: Callable[[], Any]) -> None:
        """Does the same for the twins of networks whose members have any."""
        if self._twins.are_due(self, step):
            with self._twins.turn(self, step):
                act()
            self._hold()

    def _update_again(self, step: int) -> None:
        """The update just made, of whoever is in the networks' place, on the same rows."""
        for draws in self.update_draws:
            draws.rewind()
        self.updates_made -= 1
        self.update(step)

    def probe_batch(self, uniforms: np.ndarray) -> Batch | None:
        """A replay sample chosen by uniforms ``[M, N]``; ``None`` before there is any."""
        return self.replay.sample(uniforms) if self.replay.sizes.min() > 0 else None
