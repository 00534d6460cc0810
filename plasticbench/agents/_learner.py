"""What populations of every kind of learner share: networks that are probed, reset, silenced, saved and forked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from plasticbench.agents._meaning import meaning
from plasticbench.agents._silence import Silence
from plasticbench.contracts.network import Meaning, NetworkView
from plasticbench.contracts.task import EnvSpec
from plasticbench.contracts.treatment import Part, Report
from plasticbench.learning.look import Sample
from plasticbench.learning.module_population import shown_activations
from plasticbench.learning.trained import TrainedNetwork
from plasticbench.learning.workings import NetworkWorkings
from plasticbench.seeding import Streams

BatchT = TypeVar("BatchT")
"""What probes and losses look at: rows of a replay, of a rollout, of a phase."""


class PopulationLearner(ABC, Generic[BatchT]):
    """M members in lockstep."""

    spec: EnvSpec
    streams: Sequence[Streams]
    silent: Silence
    parts: Sequence[Sequence[Part]]  # of each member's method
    updates_made: int = 0  # by every member

    @property
    @abstractmethod
    def trained(self) -> tuple[TrainedNetwork, ...]:
        """The networks that resets and probes concern."""

    @abstractmethod
    def inputs(self, batch: BatchT) -> dict[str, Tensor]:
        """What each trained network reads of a batch, scaled or normalised: ``[M, N, ...]``."""

    @abstractmethod
    def losses(self, batch: BatchT) -> list[Tensor]:
        """Each trained network's loss ``[M]`` on a batch; nothing random differs from one call to the next."""

    @abstractmethod
    def probe_batch(self, uniforms: np.ndarray) -> BatchT | None:
        """A sample of what it learns from, chosen by uniforms ``[M, N]``; ``None`` before there is any."""

    def view_name(self, network: str) -> str:
        """The name of a trained network as probes see it."""
        return network

    # -- members that are not finite -----------------------------------------------------------------------------

    @property
    def not_finite(self) -> Mapping[int, str]:
        """Members that are silent, and what of each was not finite first."""
        return self.silent.reasons

    def check_finite(self) -> None:
        """Silences members with weights that are not finite; waits for the device."""
        for trained in self.trained:
            self.silence(trained.not_finite())

    def silence(self, faults: Mapping[int, str]) -> None:
        """These members are zeros from now on, in whatever they read, weigh and do; their siblings notice nothing.

        They keep their places, and take part in every operation: with others in the same one, products of the siblings
        would be rounded otherwise.
        """
        new = {member: what for member, what in faults.items() if member not in self.not_finite}
        if not new:
            return
        self.silent.reasons |= new
        self._silence(list(self.not_finite))

    def _silence(self, members: Sequence[int]) -> None:
        for trained in self.trained:
            trained.silence(members)

    def _hold(self) -> None:
        """Brings silent members back to where they are held, from where an update or an event moved them."""
        if not self.not_finite:
            return
        for trained in self.trained:
            trained.hold()

    # -- probes --------------------------------------------------------------------------------------------------

    def views(self, batch: BatchT, previous: Mapping[str, Tensor] | None = None) -> tuple[NetworkView, ...]:
        """All networks and their targets as probes see them; ``previous`` maps networks to flat earlier weights."""
        inputs, gradients = self.inputs(batch), self._gradients(batch)
        followed = self.followed(gradients)
        online = tuple(
            replace(
                trained.view(
                    self.view_name(trained.name),
                    inputs[trained.name],
                    gradients[trained.name],
                    (previous or {}).get(trained.name),
                    followed[trained.name],
                ),
                workings=self._workings(index, batch, inputs[trained.name], followed[trained.name]),
            )
            for index, trained in enumerate(self.trained)
        )
        targets = (
            trained.target_view(self._target_name(trained.name), inputs[trained.name])
            for trained in self.trained
            if trained.target is not None
        )
        return (*online, *targets)

    def _workings(self, index: int, batch: BatchT, inputs: Tensor, followed: Tensor) -> NetworkWorkings:
        trained = self.trained[index]
        return NetworkWorkings(
            network=trained.online,
            optimizer=trained.optimizer,
            seeds=[streams.seed for streams in self.streams],
            inputs=inputs,
            followed=followed,
            loss=lambda: self._undisturbed_losses(batch)[index],
            meaning=self.meaning(trained.name),
            read_next=self.reads_next(trained.name, batch),
            earned=self.earned(trained.name),
        )

    def meaning(self, network: str) -> Mapping[Meaning, slice]:
        """What a trained network's outputs are."""
        return meaning(network, self.spec.actions)

    def reads_next(self, network: str, batch: BatchT) -> Callable[[], Tensor] | None:
        """Makes what a network of values reads a step later, where that is known."""
        return None

    def earned(self, network: str) -> Callable[[int], tuple[Tensor, Tensor]] | None:
        """Finds values of actions that were taken, and the returns that followed, where both are known."""
        return None

    def followed(self, gradients: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Flat gradients as optimizers would follow them, by network: held to what the agent allows."""
        return {trained.name: trained.clipped(gradients[trained.name]) for trained in self.trained}

    def _target_name(self, network: str) -> str:
        return f"{network}_target"

    def _gradients(self, batch: BatchT) -> dict[str, Tensor]:
        """Flat, of each trained network."""
        with torch.enable_grad():  # treatments look under no_grad
            losses = self._undisturbed_losses(batch)
            return {own.name: own.online.gradient(loss) for own, loss in zip(self.trained, losses, strict=True)}

    def _undisturbed_losses(self, batch: BatchT) -> list[Tensor]:
        with torch.enable_grad(), ExitStack() as looks:
            for trained in self.trained:
                looks.enter_context(trained.online.undisturbed())
            return self.losses(batch)

    # -- resets --------------------------------------------------------------------------------------------------

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

    def treat(self, members: Sequence[int], index: int, step: int, batch: BatchT | None) -> dict[str, Report]:
        """The event of part ``index`` of the members' methods, by network."""
        concerned = [trained for trained in self.trained if trained.is_concerned(self.parts[members[0]][index])]
        samples = self._samples(batch) if batch is not None else {}
        reports = {
            trained.name: trained.parts.event(index, members, step, samples.get(trained.name)) for trained in concerned
        }
        self._hold()
        return reports

    def _samples(self, batch: BatchT) -> dict[str, Sample]:
        """A sample as each network's treatments look at it."""
        inputs = self.inputs(batch)
        gradients = cache(lambda: self._gradients(batch))

        def sample(trained: TrainedNetwork) -> Sample:
            return Sample(
                inputs[trained.name],
                lambda: _activations(trained, inputs[trained.name]),
                lambda: trained.online.views(gradients()[trained.name]),
            )

        return {trained.name: sample(trained) for trained in self.trained}

    # -- saving and going on -------------------------------------------------------------------------------------

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors ``[M, ...]`` and plain data of networks, treatments and streams; subclasses add their own."""
        tensors: dict[str, Tensor] = {}
        for trained in self.trained:
            tensors |= trained.state_dict()
        treatments = {trained.name: trained.parts.plain_state() for trained in self.trained}
        plain = {"streams": [streams.state_dict() for streams in self.streams], "treatments": treatments}
        return tensors, plain | {"updates_made": self.updates_made}

    def load_state_dict(self, tensors: dict[str, Tensor], plain: dict[str, Any], parents: Sequence[int]) -> None:
        """Member i continues as the saved member ``parents[i]``: the identity resumes, anything else forks."""
        for trained in self.trained:
            # Version 0.1 had no treatments with a state.
            trained.load_state_dict(tensors, parents, plain.get("treatments", {}).get(trained.name, ()))
        self.updates_made = plain.get("updates_made", 0)  # nothing depended on it in version 0.1
        for streams, parent in zip(self.streams, parents, strict=True):
            streams.load_state_dict(plain["streams"][parent])

    def close(self) -> None:
        """There is nothing outside this process."""


def _activations(trained: TrainedNetwork, inputs: Tensor) -> dict[str, Tensor]:
    hidden: list[Tensor] = []
    with torch.no_grad():
        trained.online.forward(inputs, hidden)
    return shown_activations(trained.online, hidden)
