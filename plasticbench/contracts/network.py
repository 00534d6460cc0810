"""A network of a population as treatments rewrite it and as probes look at it.

Shape legend: ``M`` members of a population, ``m`` members that one treatment concerns, ``E`` environments per member,
``N`` rows of a probe batch, ``B`` rows of an update batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from torch import Tensor

Role = Literal["encoder", "head"]


@dataclass(slots=True)
class ParameterState:
    """One parameter tensor of m members as a reset policy sees it; policies write ``value`` in place."""

    value: Tensor  # [m, ...]
    fresh: Tensor  # [m, ...] a new draw of the initialiser
    original: Tensor | None = None  # [m, ...] the first initialisation, where known
    exp_avg: Tensor | None = None  # [m, ...] Adam's moments, written in place by policies that act on single units
    exp_avg_sq: Tensor | None = None
    adam_steps: Tensor | None = None  # [m]


@dataclass(slots=True)
class LayerState:
    """A linear ``[m, out, in]`` or convolutional ``[m, out, in, kh, kw]`` layer, or a normalisation ``[m, units]``."""

    name: str
    role: Role
    is_output: bool
    weight: ParameterState
    bias: ParameterState | None = None

    @property
    def parameters(self) -> dict[str, ParameterState]:
        """The layer's parameters by full name, such as ``fc1.weight``."""
        named = {f"{self.name}.weight": self.weight}
        if self.bias is not None:
            named[f"{self.name}.bias"] = self.bias
        return named


@dataclass(slots=True)
class NetworkState:
    """The ordered layers of the m members that a reset concerns, input first.

    Normalisations stand apart in ``norms``, so that a policy that is about weight matrices need not know of them.
    """

    layers: list[LayerState]
    norms: list[LayerState] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerView:
    """What a probe may look at in one layer; read only. ``None`` where it was not captured."""

    name: str
    weight: Tensor  # [M, out, in] or [M, out, in, kh, kw]
    bias: Tensor | None = None  # [M, out]
    initial_weight: Tensor | None = None
    initial_bias: Tensor | None = None
    previous_weight: Tensor | None = None  # just before the reset that is being measured
    activation: Tensor | None = (
        None  # [M, N, units] or [M, N, channels, h, w], after the nonlinearity; None where none follows
    )
    weight_gradient: Tensor | None = None  # of the agent's own loss on the probe batch
    bias_gradient: Tensor | None = None
    weight_update: Tensor | None = None  # the change that the optimizer would make for that gradient
    bias_update: Tensor | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkView:
    """One network of all members: ordered layers, input first, and the features that enter the output layer.

    The layers are linear or convolutional; normalisations are left out. ``shared`` is where probes leave intermediate
    results for each other; they die with the view.
    """

    name: str
    layers: tuple[LayerView, ...]
    features: Tensor | None = None  # [M, N, d]
    shared: dict[str, Tensor] = field(default_factory=dict, init=False, compare=False, repr=False)


class Probe(Protocol):
    """A plasticity measurement: ``analysis/probes/<kind>.py``."""

    @property
    def label(self) -> str:
        """Name of the metric; differs from the kind where a setting differs from its default."""
        ...

    def measure(self, view: NetworkView) -> Mapping[str, Tensor]:
        """Values ``[M]``: key ``""`` is the network's total, other keys are layer names. Empty where not applicable."""
        ...
