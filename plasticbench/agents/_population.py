"""What agents share whose members act, observe and learn in lockstep, one step of the environments at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from torch import Tensor

from plasticbench.agents._replay import Batch, PopulationReplay
from plasticbench.agents._temperature import Temperature
from plasticbench.contracts.task import EnvStep, World
from plasticbench.contracts.treatment import ProbeBatch, ResetReport
from plasticbench.learning.event import PolicyConfig, apply_reset
from plasticbench.learning.trained import TrainedNetwork
from plasticbench.seeding import Streams


class PopulationAgent(ABC):
    """M members with E environments each; arrays are shaped ``[M, E, ...]``."""

    streams: Sequence[Streams]
    replay: PopulationReplay
    num_envs: int
    temperature: Temperature | None

    @property
    @abstractmethod
    def trained(self) -> tuple[TrainedNetwork, ...]:
        """The networks that resets and probes concern."""

    @abstractmethod
    def act(self, obs: np.ndarray, step: int) -> np.ndarray:
        """Actions for training."""

    @abstractmethod
    def observe(self, action: np.ndarray, step: EnvStep) -> None:
        """Stores what followed ``action``."""

    @abstractmethod
    def learn(self, step: int) -> Iterator[dict[str, Tensor]]:
        """Makes the updates that are due when the clock reaches ``step``; yields each one's metrics ``[M]``."""

    @abstractmethod
    def probe_obs(self, batch: Batch) -> Tensor:
        """The observations of a batch as the networks see them: ``[M, N, ...]``."""

    def advance(self, world: World, step: int) -> Iterator[dict[str, Tensor]]:
        """One step of all environments from ``step`` on, and the updates that it makes due."""
        action = self.act(world.obs, step)
        self.observe(action, world.step(action))
        yield from self.learn(step + self.num_envs)

    def probe_batch(self, uniforms: np.ndarray) -> Batch | None:
        """A replay sample chosen by uniforms ``[M, N]``; ``None`` before there is any."""
        return self.replay.sample(uniforms) if self.replay.sizes.min() > 0 else None

    def weights(self) -> Mapping[str, Tensor]:
        """Copies of the flat weights ``[M, ...]`` of the trained networks."""
        return {trained.name: trained.online.flat.clone() for trained in self.trained}

    def parameters(self, member: int) -> dict[str, Tensor]:
        """Copies of one member's trained weights, named as in ``actor.fc1.weight``."""
        return {
            f"{trained.name}.{name}": values.detach()[member].cpu().contiguous()
            for trained in self.trained
            for name, values in trained.online.parameters.items()
        }

    def reset(self, members: Sequence[int], policy: PolicyConfig, batch: Batch | None) -> dict[str, ResetReport]:
        """Applies a policy to all trained networks of the members, and its rule to their temperature."""
        data = ProbeBatch(obs=self.probe_obs(batch)[members]) if batch is not None else None
        streams = [self.streams[m] for m in members]
        reports = {trained.name: apply_reset(trained, members, policy, streams, data) for trained in self.trained}
        if self.temperature is not None and getattr(policy, "temperature", "keep") == "reset":
            self.temperature.reset(members)
        return reports

    def close(self) -> None:  # noqa: B027 (nothing to free is the rule, not an omission)
        """There is nothing outside this process."""
