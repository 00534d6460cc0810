"""Networks of M members: ordered layers over one flat buffer.

Every parameter is a view ``[M, ...]`` of one buffer, parameter after parameter, so that the optimizer and target copies
act on all members and layers in one call. Weights of linear layers are ``[M, out, in]`` to everybody, but lie in memory
as ``[M, in, out]``: that is the layout in which backward passes produce their gradients, and adding those up across
layouts was measured to cost a fifth of an update.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from plasticbench.contracts.network import Role

Initializer = Literal["xavier_uniform", "torch_default", "orthogonal", "he_normal"]
Activation = Literal["relu", "identity"]
Wiring = Literal["chain", "opens_residual", "closes_residual", "sibling"]
"""What a layer reads, and where its values go: from the layer before to the next; the same, and its input is kept;
its values are added to the input last kept; or, for a further output, what the layer before reads, side by side."""

NORM_EPSILON = 1e-6  # Flax's default, with which the residual networks of SimBa were published


class LayerSpec(NamedTuple):
    """One layer: ``weight_shape`` is ``(out, in)``, ``(out, in, kh, kw)``, or ``(units,)`` of a layer normalisation.

    The activation follows after the residual connection, if there is one. The last layer and its siblings are the
    outputs, which have no activation.
    """

    name: str
    role: Role
    weight_shape: tuple[int, ...]
    stride: int = 1
    initializer: Initializer = "xavier_uniform"
    gain: float = 1.0
    activation: Activation = "relu"
    wiring: Wiring = "chain"

    @property
    def is_norm(self) -> bool:
        """Whether the layer normalises its input over the units instead of mixing them."""
        return len(self.weight_shape) == 1


def draw_weight(spec: LayerSpec, rng: np.random.Generator) -> np.ndarray:
    """A new weight of one member, float32, in the layer's shape.

    ``xavier_uniform``: U(-a, a), a = gain sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010). ``torch_default``:
    U(-a, a), a = 1 / sqrt(fan_in). ``orthogonal``: gain times a random semi-orthogonal matrix (Saxe et al. 2014).
    ``he_normal``: standard deviation sqrt(2 / fan_in), cut off at two of the uncut normal's (He et al. 2015, as in
    Flax). A normalisation starts with ones.
    """
    if spec.is_norm:
        return np.ones(spec.weight_shape, dtype=np.float32)
    out_features = spec.weight_shape[0]
    receptive = math.prod(spec.weight_shape[2:])
    fan_in, fan_out = spec.weight_shape[1] * receptive, out_features * receptive
    if spec.initializer == "orthogonal":
        rows, columns = max(out_features, fan_in), min(out_features, fan_in)
        q, r = np.linalg.qr(rng.standard_normal((rows, columns)))
        q = q * np.sign(np.diag(r))
        return (spec.gain * (q if out_features == rows else q.T)).reshape(spec.weight_shape).astype(np.float32)
    if spec.initializer == "he_normal":
        return (math.sqrt(2 / fan_in) * _cut_normal(spec.weight_shape, rng)).astype(np.float32)
    bound = 1 / math.sqrt(fan_in)
    if spec.initializer == "xavier_uniform":
        bound = spec.gain * math.sqrt(6 / (fan_in + fan_out))
    return rng.uniform(-bound, bound, spec.weight_shape).astype(np.float32)


def _cut_normal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Normal numbers within two standard deviations, scaled to a standard deviation of 1."""
    drawn = rng.standard_normal(shape)
    while (outside := np.abs(drawn) > 2).any():
        drawn[outside] = rng.standard_normal(np.count_nonzero(outside))
    scaled: np.ndarray = drawn / 0.87962566  # the standard deviation that the cut leaves
    return scaled


def draw_bias(spec: LayerSpec, rng: np.random.Generator) -> np.ndarray:
    """A new bias of one member: uniform like the weight for ``torch_default``, else zero."""
    if spec.is_norm or spec.initializer != "torch_default":
        return np.zeros(spec.weight_shape[0], dtype=np.float32)
    bound = 1 / math.sqrt(math.prod(spec.weight_shape[1:]))
    return rng.uniform(-bound, bound, spec.weight_shape[0]).astype(np.float32)


@dataclass(frozen=True, slots=True)
class ParameterSlot:
    """Where a parameter of all members lies in the flat buffer."""

    name: str
    start: int
    stop: int
    shape: tuple[int, ...]  # [M, ...]

    def view(self, flat: Tensor) -> Tensor:
        """The parameter's values in a flat buffer; shares its memory."""
        values = flat[self.start : self.stop]
        if len(self.shape) == 3:
            members, out_features, in_features = self.shape
            return values.view(members, in_features, out_features).transpose(1, 2)
        return values.view(self.shape)


def population_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``[M, B, in]`` times ``[M, out, in]`` plus ``[M, out]`` -> ``[M, B, out]``."""
    return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))


def population_conv2d(x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """Convolves ``[M, B, in, h, w]`` with each member's own ``[M, out, in, kh, kw]``.

    One call per member on CPUs, where grouped convolutions were measured slower; one grouped call elsewhere.
    """
    if x.device.type == "cpu":
        maps = [nn.functional.conv2d(x[m], weight[m], bias[m], stride=stride) for m in range(x.shape[0])]
        return torch.stack(maps) if len(maps) > 1 else maps[0].unsqueeze(0)
    members, rows = x.shape[:2]
    merged = x.transpose(0, 1).flatten(1, 2)
    grouped = nn.functional.conv2d(merged, weight.flatten(0, 1), bias.flatten(), stride=stride, groups=members)
    return grouped.view(rows, members, -1, *grouped.shape[2:]).transpose(0, 1)


def population_layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Layer normalisation (Ba et al. 2016, arXiv 1607.06450) of ``[M, B, units]`` with each member's ``[M, units]``."""
    normalized = nn.functional.layer_norm(x, x.shape[-1:], eps=NORM_EPSILON)
    return torch.addcmul(bias.unsqueeze(1), normalized, weight.unsqueeze(1))


class PopulationNetwork:
    """Ordered layers of M members. Weights change in place only; their storage lives as long as the network."""

    def __init__(self, specs: Sequence[LayerSpec], num_members: int, device: torch.device) -> None:
        self.specs = tuple(specs)
        last = max(i for i, spec in enumerate(self.specs) if spec.wiring != "sibling")
        self.hidden, self.outputs = self.specs[:last], self.specs[last:]
        self.num_members = num_members
        self.slots = _layout(self.specs, num_members)
        self.flat = torch.zeros(self.slots[-1].stop, device=device)
        self.flat_grad = torch.zeros_like(self.flat)
        self.parameters: dict[str, nn.Parameter] = {}
        for slot, gradient in zip(self.slots, self.views(self.flat_grad).values(), strict=True):
            parameter = nn.Parameter(slot.view(self.flat))
            parameter.grad = gradient
            self.parameters[slot.name] = parameter

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """A flat buffer as named tensors ``[M, ...]`` that share its memory."""
        return {slot.name: slot.view(flat) for slot in self.slots}

    def flatten(self, values: Iterable[Tensor]) -> Tensor:
        """Tensors ``[M, ...]`` in the order of the parameters as a new flat buffer."""
        flat = torch.empty_like(self.flat)
        for slot, value in zip(self.slots, values, strict=True):
            slot.view(flat).copy_(value)
        return flat

    def draw(self, streams: Sequence[np.random.Generator]) -> dict[str, Tensor]:
        """New values for all parameters of ``len(streams)`` members, member m from its own stream, layers in order."""
        drawn: dict[str, list[np.ndarray]] = {slot.name: [] for slot in self.slots}
        for rng in streams:
            for spec in self.specs:
                drawn[f"{spec.name}.weight"].append(draw_weight(spec, rng))
                drawn[f"{spec.name}.bias"].append(draw_bias(spec, rng))
        return {name: torch.from_numpy(np.stack(values)).to(self.flat.device) for name, values in drawn.items()}

    def load(self, values: dict[str, Tensor]) -> None:
        """Copies named tensors ``[M, ...]`` into the weights."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(values[name])

    def forward(self, x: Tensor, activations: list[Tensor] | None = None) -> Tensor:
        """Outputs ``[M, B, outputs]``, siblings side by side, for scaled float observations ``[M, B, *obs_shape]``.

        Appends what each hidden layer passes on to ``activations``: ``[M, B, units]`` or ``[M, B, c, h, w]``.
        """
        kept = x
        for spec in self.hidden:
            if spec.wiring == "opens_residual":
                kept = x
            x = self._transform(spec, x)
            if spec.wiring == "closes_residual":
                x = x + kept
            if spec.activation == "relu":
                # In place saves SAC an eighth of its update; but a convolution's maps may be views, where it costs.
                x = x.relu_() if x.ndim == 3 else x.relu()
            if activations is not None:
                activations.append(x)
        outputs = [self._transform(spec, x) for spec in self.outputs]
        return torch.cat(outputs, dim=-1) if len(outputs) > 1 else outputs[0]

    def _transform(self, spec: LayerSpec, x: Tensor) -> Tensor:
        weight, bias = self.parameters[f"{spec.name}.weight"], self.parameters[f"{spec.name}.bias"]
        match len(spec.weight_shape):
            case 4:
                return population_conv2d(x, weight, bias, spec.stride)
            case 1:
                return population_layer_norm(x, weight, bias)
        return population_linear(x.flatten(2), weight, bias)


def _layout(specs: Sequence[LayerSpec], num_members: int) -> list[ParameterSlot]:
    slots: list[ParameterSlot] = []
    start = 0
    for spec in specs:
        for name, shape in ((f"{spec.name}.weight", spec.weight_shape), (f"{spec.name}.bias", spec.weight_shape[:1])):
            stop = start + num_members * math.prod(shape)
            slots.append(ParameterSlot(name, start, stop, (num_members, *shape)))
            start = stop
    return slots
