"""A network of a population as treatments rewrite it and as probes look at it.

Shape legend: ``M`` members of a population, ``m`` members that one treatment concerns, ``E`` environments per member,
``N`` rows of a probe batch, ``B`` rows of an update batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

if TYPE_CHECKING:  # treatments are listed without torch
    from torch import Tensor

Role = Literal["encoder", "head"]
Meaning = Literal["action_values", "values", "logits", "means"]
"""What outputs are: a value for each action, one value, logits of a choice, or means of an action's numbers."""
Shown = Literal["losses", "policy", "values", "next_observations", "returns"]
"""What probes may need of who is trained: ``losses`` are all that ``Workings`` has for every network."""


@dataclass(slots=True, eq=False)
class ParameterState:
    """One parameter of m members, as views of where it lives: whatever a treatment writes is written there.

    ``moments`` are the optimizer's tensors of this parameter by the names that it declares.
    """

    value: Tensor  # [m, ...]
    draw: Callable[[], Tensor]  # of a new initial value [m, ...]; read it as ``fresh``
    original: Tensor | None = None  # [m, ...] the first initialisation, where known
    gradient: Tensor | None = None  # [m, ...] what the optimizer is about to see
    moments: Mapping[str, Tensor] = field(default_factory=dict)  # [m, ...]

    @property
    def fresh(self) -> Tensor:
        """A new initial value ``[m, ...]``: the same one until the end of an event, and drawn only if it is read."""
        return self.draw()


@dataclass(frozen=True, slots=True, eq=False)
class Reader:
    """A layer that reads the units of another one, and in which of its columns.

    A unit that enters a linear layer after a convolution has one column for each of its map's ``positions``. Where the
    nonlinearity passes a unit on more than once (CReLU), its columns stand in as many ``blocks`` side by side.
    """

    layer: LayerState
    blocks: int = 1
    positions: int = 1

    def columns(self, tensor: Tensor) -> Tensor:
        """A tensor in the shape of the reader's weight, by unit: a view ``[m, units, out, blocks, positions, ...]``."""
        return tensor.view(*tensor.shape[:2], self.blocks, -1, self.positions, *tensor.shape[3:]).movedim(3, 1)


@dataclass(slots=True, eq=False)
class LayerState:
    """A linear ``[m, out, in]`` or convolutional ``[m, out, in, kh, kw]`` layer, or a normalisation ``[m, units]``.

    ``activation`` names the nonlinearity through which its units are read, be a normalisation in between or not;
    identity for outputs and for units that enter a residual stream. ``norms`` are the normalisations on the way to the
    readers that scale and shift each of its units by itself. ``redraw`` makes new initial values of one member, weight
    and bias, without the member dimension. ``is_table``: an embedding ``[m, rows, width]``, whose rows are looked up
    and never mixed, so that it is no matrix. ``also`` are names of other layers that use the same weight.
    ``initial_bound`` is how large a weight can be drawn, where the initialiser is known, as ``weight_bound`` in
    ``learning/layers.py`` says; normalisations have none. ``is_statistic``: running statistics of a normalisation,
    which are measured and not trained. ``initial_gain`` is that of each unit of a normalisation.
    """

    name: str
    role: Role
    is_output: bool
    weight: ParameterState
    bias: ParameterState | None = None
    activation: str = "identity"
    readers: tuple[Reader, ...] = ()
    norms: tuple[LayerState, ...] = ()
    redraw: Callable[[np.random.Generator], tuple[Tensor, Tensor | None]] | None = None
    initial_bound: float | None = None
    is_table: bool = False
    also: tuple[str, ...] = ()
    is_statistic: bool = False
    initial_gain: float = 1.0

    @property
    def parameters(self) -> dict[str, ParameterState]:
        """The layer's parameters by full name, such as ``fc1.weight``."""
        named = {f"{self.name}.weight": self.weight}
        if self.bias is not None:
            named[f"{self.name}.bias"] = self.bias
        return named


@dataclass(slots=True, eq=False)
class NetworkState:
    """The ordered layers of m members, input first.

    Normalisations, and other parameters that are no weights of units, stand apart in ``norms``, so that a treatment
    that is about weight matrices need not know of them. ``second_moments`` names those
    of the optimizer's moments that are means of squares. After ``renew`` the parameters' ``fresh`` values are another
    draw. ``whole`` gives all that these members' network is while it is trained, ``[m, ...]``: ``<part>/<parameter>``
    for the parts ``online``, ``target``, ``original`` and each moment, and its counts of updates as ``steps``.
    """

    layers: list[LayerState]
    norms: list[LayerState] = field(default_factory=list)
    second_moments: frozenset[str] = frozenset()
    renew: Callable[[], None] = lambda: None
    whole: Callable[[], Mapping[str, Tensor]] = dict

    @property
    def parameters(self) -> dict[str, ParameterState]:
        """All parameters by full name, normalisations last."""
        return {name: value for layer in (*self.layers, *self.norms) for name, value in layer.parameters.items()}

    @property
    def unit_layers(self) -> list[LayerState]:
        """Layers whose units can be judged and exchanged one by one: a nonlinearity follows, and readers are known."""
        return [layer for layer in self.layers if layer.activation != "identity" and layer.readers]


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
    nonlinearity: str = "relu"  # by its name in learning/activations.py
    weight_gradient: Tensor | None = None  # of the agent's own loss on the probe batch
    bias_gradient: Tensor | None = None
    weight_update: Tensor | None = None  # the change that the optimizer would make for that gradient
    bias_update: Tensor | None = None


class Workings(Protocol):
    """What a probe may try on a network besides looking; it leaves weights, optimizer and streams as they are.

    ``P`` is the number of one member's parameters, in an order of the network's own. Probes with ``rows`` take the
    first of the batch.
    """

    @property
    def inputs(self) -> Tensor:
        """What the network reads ``[M, N, ...]``."""
        ...

    @property
    def next_inputs(self) -> Tensor | None:
        """What it reads a step later, with the policy's own actions, where that is known."""
        ...

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """The weights ``[M, ...]`` by name."""
        ...

    @property
    def output_parameters(self) -> frozenset[str]:
        """Names of those of the output layers."""
        ...

    @property
    def update(self) -> Mapping[str, Tensor]:
        """What the optimizer would add to each for the gradient on the batch."""
        ...

    @property
    def second_moments(self) -> Mapping[str, tuple[Tensor, ...]]:
        """Of each parameter: the optimizer's mean of squares, then its mean of gradients, where it keeps these."""
        ...

    @property
    def learning_rate(self) -> Tensor | float | None:
        """The optimizer's, ``[M]`` where members differ."""
        ...

    @property
    def meaning(self) -> Mapping[Meaning, slice]:
        """What the outputs are, by their places."""
        ...

    def forward(self, parameters: Mapping[str, Tensor], inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs ``[M, N, ...]`` with other weights, and the features ``[M, N, d]`` that they are made of."""
        ...

    def fresh(self, purpose: str) -> Mapping[str, Tensor]:
        """New initial values: the same ones at every look."""
        ...

    def generators(self, purpose: str) -> Sequence[np.random.Generator]:
        """One of each member, derived from its trial's seed; the same at every look."""
        ...

    def output_gradient(self) -> Tensor:
        """The loss's gradient of each output, times the rows ``N``: that of each row's own loss ``[M, N, ...]``."""
        ...

    def unit_gradients(self) -> Mapping[str, Tensor]:
        """The loss's gradient of what the units of hidden layers pass on, in the shape of activations, by layer."""
        ...

    def row_gradients(self, direction: Tensor) -> Tensor:
        """Gradients ``[M, K, P]`` of the outputs of the first K rows, weighed by ``direction`` ``[M, K, ...]``."""
        ...

    def curvature(self) -> Callable[[Tensor], Tensor]:
        """From a direction ``[M, P]`` to the Hessian of each member's loss times it."""
        ...

    def claimed_and_earned(self, rows: int) -> tuple[Tensor, Tensor] | None:
        """Values of actions that were taken, and the discounted returns that followed, ``[M, rows]``.

        NaN where no return is known. ``None`` where values of actions or returns are not known at all.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkView:
    """One network of all members: ordered layers, input first, and the features that enter the output layer.

    The layers are linear or convolutional; normalisations are left out. ``shared`` is where probes leave intermediate
    results for each other; they die with the view.
    """

    name: str
    layers: tuple[LayerView, ...]
    features: Tensor | None = None  # [M, N, d]
    workings: Workings | None = field(default=None, compare=False, repr=False)
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
