"""What treatments look at besides the network: the rows of an update, or of a replay sample at an event."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from torch import Tensor

from plasticbench.learning.chance import Chance
from plasticbench.learning.members import members_of
from plasticbench.learning.module_network import ModuleNetwork
from plasticbench.learning.module_population import shown_activations
from plasticbench.learning.network import PopulationNetwork
from plasticbench.seeding import Streams


class Sample:
    """Rows ``[M, N, ...]`` that a network reads, and what it makes of them, computed when somebody asks."""

    def __init__(
        self,
        inputs: Tensor,
        activations: Callable[[], Mapping[str, Tensor]],
        gradients: Callable[[], Mapping[str, Tensor]],
        next_inputs: Tensor | None = None,
    ) -> None:
        self.inputs, self._activations, self._gradients = inputs, activations, gradients
        self.next_inputs = next_inputs

    @cached_property
    def activations(self) -> Mapping[str, Tensor]:
        """What the units of hidden layers pass on, by layer."""
        return self._activations()

    @cached_property
    def gradients(self) -> Mapping[str, Tensor]:
        """Of the agent's loss, by parameter."""
        return self._gradients()


class MemberLook:
    """A sample as the treatment of some members sees it; see ``contracts.treatment.Look``."""

    def __init__(
        self,
        streams: Sequence[Streams],
        stream: str,
        members: slice,
        step: int,
        sample: Sample | None,
        network: PopulationNetwork | ModuleNetwork,
    ) -> None:
        self._stream, self._members, self._network = stream, members, network
        self.step = step
        self._rows = sample
        own = members_of(members)
        self.rng = Chance(lambda member: streams[own[member]][stream])

    @property
    def _sample(self) -> Sample:
        if self._rows is None:
            raise LookupError(f"{self._stream}: there is no sample to look at before anything was stored")
        return self._rows

    @property
    def inputs(self) -> Tensor:
        """What this network reads ``[m, N, ...]``."""
        return self._sample.inputs[self._members]

    @property
    def next_inputs(self) -> Tensor | None:
        """What its target reads ``[m, N, ...]`` for these rows."""
        found = self._sample.next_inputs
        return None if found is None else found[self._members]

    @property
    def activations(self) -> Mapping[str, Tensor]:
        """What the units of hidden layers pass on, by layer."""
        return {name: value[self._members] for name, value in self._sample.activations.items()}

    @property
    def gradients(self) -> Mapping[str, Tensor]:
        """Of the agent's loss, by parameter."""
        return {name: value[self._members] for name, value in self._sample.gradients.items()}

    def evaluate(self, parameters: Mapping[str, Tensor], inputs: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Outputs ``[m, N, outputs]`` and activations by layer with these weights ``[m, ...]`` on these inputs."""
        hidden: list[Tensor] = []
        outputs = self._network.forward(inputs, hidden, parameters)
        return outputs, shown_activations(self._network, hidden)
