"""What the machinery asks of every optimizer: ``learning/optimizers/<kind>.py``. It knows none of them by name."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.network import ParameterSlot
from plasticbench.seeding import Streams

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Settings = TypeVar("_Settings", bound="DataclassInstance")


class FlatParameters(Protocol):
    """Parameters of M members as one buffer, with the gradients in another: a network, or a temperature."""

    flat: Tensor
    flat_grad: Tensor
    slots: list[ParameterSlot]
    num_members: int


class NetworkParameters(FlatParameters, Protocol):
    """Those of a network, some of which are matrices."""

    @property
    def specs(self) -> tuple[LayerSpec, ...]:
        """Its layers."""
        ...

    def matrices(self, layers: str) -> set[str]:
        """Names of the weights of layers, ``hidden`` ones or ``all``; normalisations never."""
        ...


class PopulationOptimizer(Protocol):
    """Steps of all members at once over a flat buffer; members never mix.

    ``moments`` are flat buffers in the layout of the parameters, by names of the optimizer's choice; ``second_moments``
    names those that are means of squares; ``steps`` counts the updates of each parameter of each member. Resets write
    into all of them and call ``rebuild`` after a change of ``steps``.
    """

    steps: Tensor  # [slots, M], int64, on the CPU

    @property
    def moments(self) -> Mapping[str, Tensor]:
        """Flat buffers by name."""
        ...

    @property
    def second_moments(self) -> frozenset[str]:
        """Names of means of squares."""
        ...

    def step(self) -> None:
        """One update from the gradients in ``flat_grad``."""
        ...

    def preview(self, gradients: Tensor) -> Tensor:
        """The change (flat) that a step with these flat gradients would make; nothing is modified."""
        ...

    def rebuild(self) -> None:
        """Must follow every change of ``steps`` from outside."""
        ...


@runtime_checkable
class DrawsNoise(Protocol):
    """What an optimizer with chance in its steps has besides; a preview leaves the streams as they are."""

    def draw_from(self, streams: Sequence[Streams], stream: str) -> None:
        """Member m draws from ``streams[m][stream]``, which is looked up anew at each step."""
        ...


@runtime_checkable
class KeepsMemberState(Protocol):
    """What an optimizer has besides that keeps numbers of whole members, which no parameter's moment could be."""

    @property
    def member_state(self) -> Mapping[str, Tensor]:
        """Tensors ``[M, ...]``, written in place; saved and forked with the moments."""
        ...

    def restart(self, members: slice) -> None:
        """It becomes that of a new optimizer, after all moments of these members were cleared."""
        ...


class OptimizerConfig(Protocol):
    """``Config`` of an optimizer; settings left at ``None`` are the agent's own."""

    def build(self, network: NetworkParameters, base: BaseSettings) -> PopulationOptimizer:
        """The optimizer of a network's parameters; settings marked ``PerMember`` may be tensors ``[M]``.

        Raises ``ValueError`` if the network has nothing that it is for.
        """
        ...


class BaseSettings(Protocol):
    """What an agent's own settings say about its optimizer: a complete ``Config`` of ``adam``."""

    @property
    def learning_rate(self) -> float | None:
        """Above 0."""
        ...

    @property
    def eps(self) -> float | None:
        """Added to the root of the second moment."""
        ...

    @property
    def weight_decay(self) -> float | None:
        """Decoupled."""
        ...


def completed(settings: _Settings, base: BaseSettings) -> _Settings:
    """An optimizer's settings with the agent's own where they say nothing."""
    whole = copy.copy(settings)  # not replace, which would check again what may be tensors ``[M]`` by now
    for field in fields(settings):
        if getattr(settings, field.name) is None:
            object.__setattr__(whole, field.name, getattr(base, field.name))
    return whole
