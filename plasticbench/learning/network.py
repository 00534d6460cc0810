"""Networks of M members: ordered layers over one flat buffer.

Every parameter is a view ``[M, ...]`` of one buffer, parameter after parameter, so that the optimizer and target copies
act on all members and layers in one call. Weights of linear layers are ``[M, out, in]`` to everybody, but lie in memory
as ``[M, in, out]``: that is the layout in which backward passes produce their gradients, and adding those up across
layouts was measured to cost a fifth of an update.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from plasticbench.contracts.learner import Precision
from plasticbench.learning.activations import ACTIVATIONS
from plasticbench.learning.chain import Chain, is_chain
from plasticbench.learning.convolutions import convolution_for
from plasticbench.learning.layers import LayerSpec, Over, draw_bias, draw_weight
from plasticbench.learning.precision import rounding
from plasticbench.learning.wiring import wiring

_POWER_STEPS = 10
BATCH_NORM_MOMENTUM = 0.99  # how much of themselves running statistics keep; CrossQ's
BATCH_NORM_EPSILON = 1e-5  # Flax's default for those, with which CrossQ was published
UNIT_EPSILON = 1e-8  # the least length that SimBa v2 divides by
NORM_EPSILON = 1e-6  # Flax's default, with which the residual networks of SimBa were published


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


def population_conv2d(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int = 0) -> Tensor:
    """Convolves ``[M, B, in, h, w]`` with each member's own ``[M, out, in, kh, kw]``."""
    return convolution_for(x, weight, stride, padding)(x, weight, bias, stride, padding)


def population_pool(x: Tensor) -> Tensor:
    """The largest of 3x3 windows at every other position of ``[M, B, c, h, w]``, whose borders are padded."""
    pooled = nn.functional.max_pool2d(x.flatten(0, 1), kernel_size=3, stride=2, padding=1)
    return pooled.view(*x.shape[:2], *pooled.shape[1:])


def population_layer_norm(x: Tensor, weight: Tensor, bias: Tensor, over: Over = "map") -> Tensor:
    """Layer normalisation (Ba et al. 2016, arXiv 1607.06450) with each member's gain and bias ``[M, units]``.

    Of ``[M, B, units]``, or of ``[M, B, c, h, w]`` over whole maps or over the channels at each position.
    """
    if over == "channels":
        normalized = nn.functional.layer_norm(x.movedim(2, -1), weight.shape[1:], eps=NORM_EPSILON).movedim(-1, 2)
    else:
        normalized = nn.functional.layer_norm(x, x.shape[2:], eps=NORM_EPSILON)
    by_unit = (x.shape[0], 1, -1, *(1,) * (x.ndim - 3))
    return torch.addcmul(bias.view(by_unit), normalized, weight.view(by_unit))


def population_rms_norm(x: Tensor, weight: Tensor, over: Over = "map") -> Tensor:
    """Root mean square normalisation (Zhang & Sennrich 2019, arXiv 1910.07467) with each member's gain ``[M, units]``.

    Of ``[M, B, units]``, or of ``[M, B, c, h, w]`` over whole maps or over the channels at each position.
    """
    dims = (2,) if over == "channels" or x.ndim == 3 else (2, 3, 4)
    normalized = x * (x.square().mean(dim=dims, keepdim=True) + NORM_EPSILON).rsqrt()
    return normalized * weight.view(x.shape[0], 1, -1, *(1,) * (x.ndim - 3))


def population_batch_norm(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Normalises ``[M, B, units]`` or ``[M, B, c, h, w]`` by these means and variances, all others ``[M, units]``."""
    by_unit = (x.shape[0], 1, -1, *(1,) * (x.ndim - 3))
    normalized = (x - mean.view(by_unit)) * (variance + BATCH_NORM_EPSILON).rsqrt().view(by_unit)
    return torch.addcmul(bias.view(by_unit), normalized, weight.view(by_unit))


def population_aid(x: Tensor, keep: float, masks: Tensor | None) -> Tensor:
    """Where a mask is set what is positive, elsewhere what is negative; without masks their mean for ``keep``."""
    positive = x.relu()
    if masks is None:
        return keep * positive + (1 - keep) * (x - positive)
    return torch.where(masks, positive, x - positive)


def population_sloped_relu(x: Tensor, slope: Tensor) -> Tensor:
    """ReLU with each member's slopes ``[M, units]`` below 0, of ``[M, B, units]`` or ``[M, B, c, h, w]``."""
    positive = x.relu()
    return torch.addcmul(positive, x - positive, slope.view(x.shape[0], 1, -1, *(1,) * (x.ndim - 3)))


def population_gamma(x: Tensor, weight: Tensor, bias: Tensor, gamma: Tensor) -> Tensor:
    """``(gamma / sigma(W)) (x - b) + b`` for what a layer ``[M, out, ...]`` with these made of its input."""
    shift = bias.view(x.shape[0], 1, -1, *(1,) * (x.ndim - 3))
    with torch.autocast(x.device.type, enabled=False):
        factor = gamma.flatten() / largest_singular_value(weight.flatten(2)).clamp_min(NORM_EPSILON)
    return torch.addcmul(shift, x - shift, factor.view(-1, *(1,) * (x.ndim - 1)))


def largest_singular_value(matrices: Tensor) -> Tensor:
    """From below, ``[M]`` of ``[M, out, in]``: ``u' W v`` after steps of a power iteration from a fixed vector."""
    with torch.no_grad():
        start = torch.arange(1, matrices.shape[2] + 1, device=matrices.device, dtype=matrices.dtype)
        v = nn.functional.normalize(start.cos(), dim=0).expand(len(matrices), -1).unsqueeze(2)
        for _ in range(_POWER_STEPS):
            u = nn.functional.normalize(matrices @ v, dim=1)
            v = nn.functional.normalize(matrices.mT @ u, dim=1)
    return (u.mT @ matrices @ v).flatten()


class PopulationNetwork:
    """Ordered layers of M members. Weights change in place only; their storage lives as long as the network."""

    def __init__(
        self, specs: Sequence[LayerSpec], num_members: int, device: torch.device, precision: Precision = "float32"
    ) -> None:
        self.specs, self.precision = tuple(specs), precision
        last = max(i for i, spec in enumerate(self.specs) if spec.wiring != "sibling")
        self.hidden, self.outputs = self.specs[:last], self.specs[last:]
        self.wires = wiring(self.specs)
        self._functions = [self._function(spec) for spec in self.hidden]
        self.num_members = num_members
        self.slots = _layout(self.specs, num_members)
        self.flat = torch.zeros(self.slots[-1].stop, device=device)
        self.flat_grad = torch.zeros_like(self.flat)
        self.parameters: dict[str, nn.Parameter] = {}
        for slot, gradient in zip(self.slots, self.views(self.flat_grad).values(), strict=True):
            parameter = nn.Parameter(slot.view(self.flat))
            parameter.grad = gradient
            self.parameters[slot.name] = parameter
        is_plain = precision == "float32" and is_chain(self.specs)
        self.chain = Chain(self.specs, self.views(self.flat), self.views(self.flat_grad)) if is_plain else None
        self.buffers = self._new_buffers(num_members)
        self._held_rows = [f"{spec.name}.weight" for spec in self.specs if spec.has_unit_rows]
        self._trains, self._is_disturbed = False, True
        self._seeds: Sequence[Callable[[], int]] = ()

    def _new_buffers(self, num_members: int) -> dict[str, Tensor]:
        """Running statistics of batch normalisations."""
        statistics = {"running_mean": 0.0, "running_var": 1.0}
        return {
            f"{spec.name}.{name}": torch.full((num_members, *spec.weight_shape), start, device=self.flat.device)
            for spec in self.specs
            if spec.is_norm and spec.norm == "batch"
            for name, start in statistics.items()
        }

    def copy_buffers(self, other: Any) -> None:
        """Takes over another population's buffers."""
        for name, own in self.buffers.items():
            own.copy_(other.buffers[name])

    def draw_from(self, seeds: Sequence[Callable[[], int]]) -> None:
        """Where the chance of each member's passes in training comes from."""
        self._seeds = seeds

    @property
    def leaves(self) -> list[nn.Parameter]:
        """What gradients are computed of."""
        return list(self.parameters.values())

    def matrices(self, layers: str) -> set[str]:
        """Names of the weights of linear and convolutional layers, ``hidden`` ones or ``all``."""
        chosen = (spec for spec in self.specs if not spec.is_norm)
        return {f"{spec.name}.weight" for spec in chosen if layers == "all" or spec not in self.outputs}

    def gradient(self, loss: Tensor) -> Tensor:
        """The flat gradient of ``loss`` ``[M]``; the one that the optimizer sees stays as it is."""
        # Some structures leave a parameter unused, whose gradient is zero.
        leaves = list(self.parameters.values())
        return self.flatten(torch.autograd.grad(loss.sum(), leaves, allow_unused=True, materialize_grads=True))

    def gathered(self, of_leaves: Iterable[Tensor]) -> Tensor:
        """What belongs to the leaves, in their order, as a new flat buffer."""
        return self.flatten(of_leaves)

    def spread(self, flat: Tensor) -> list[Tensor]:
        """A flat buffer as what belongs to each of the leaves; shares its memory."""
        return list(self.views(flat).values())

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Inside, all passes are as in evaluation."""
        before, self._is_disturbed = self._is_disturbed, False
        try:
            yield
        finally:
            self._is_disturbed = before

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
        weights = {name: torch.from_numpy(np.stack(values)).to(self.flat.device) for name, values in drawn.items()}
        return weights | self._new_buffers(len(streams))

    def load(self, values: dict[str, Tensor]) -> None:
        """Copies named tensors ``[M, ...]`` into weights and buffers."""
        with torch.no_grad():
            for name, own in (*self.parameters.items(), *self.buffers.items()):
                own.copy_(values[name])

    @torch.no_grad()
    def settle(self) -> None:
        """Brings back what weights are held to, after a step of the optimizer."""
        for name in self._held_rows:
            rows = self.parameters[name]
            rows.div_(rows.norm(dim=2, keepdim=True).clamp_min(UNIT_EPSILON))

    def trained_forward(self, x: Tensor, activations: list[Tensor] | None = None) -> Tensor:
        """``forward`` for rows that are about to be trained on: with masks and with statistics of their own."""
        self._trains = self._is_disturbed
        try:
            return self.forward(x, activations)
        finally:
            self._trains = False

    def forward(
        self, x: Tensor, activations: list[Tensor] | None = None, parameters: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Outputs ``[M, B, outputs]``, siblings side by side, for scaled float observations ``[M, B, *obs_shape]``.

        Appends what each hidden layer passes on to ``activations``: ``[M, B, units]`` or ``[M, B, c, h, w]``. With
        ``parameters`` of some members, by name, it is their outputs in place of those of the network's own.
        """
        if self.chain is not None and activations is None and parameters is None and not torch.is_grad_enabled():
            return self.chain.forward(x)
        values: Mapping[str, Tensor] = self.parameters if parameters is None else parameters
        with rounding(self.precision, x.device):
            x = self._features(x, activations, values)
        outputs = [_transform(spec, x, values) for spec in self.outputs]
        return torch.cat(outputs, dim=-1) if len(outputs) > 1 else outputs[0]

    def _features(self, x: Tensor, activations: list[Tensor] | None, values: Mapping[str, Tensor]) -> Tensor:
        """What the last hidden layer passes on; between layers all is float32."""
        kept = x
        for spec, function in zip(self.hidden, self._functions, strict=True):
            if spec.wiring == "opens_residual":
                kept = x
            x = self._normalised(spec, x, values) if spec.norm == "batch" else _transform(spec, x, values)
            if spec.wiring == "closes_residual":
                x = _lerp(spec, kept, x, values) if spec.norm == "lerp" else x + kept
            x = function(x.to(self.flat.dtype))
            if activations is not None:
                activations.append(x)
        return x

    def _function(self, spec: LayerSpec) -> Callable[[Tensor], Tensor]:
        if spec.activation == "aid":
            return lambda x: population_aid(x, spec.constant, self._masks(x, spec.constant) if self._trains else None)
        return ACTIVATIONS[spec.activation].function

    def _masks(self, x: Tensor, keep: float) -> Tensor:
        """Each member's from a seed of its own stream."""
        drawn = []
        for seed in self._seeds:
            generator = torch.Generator().manual_seed(seed())
            drawn.append(torch.rand(x.shape[1:], generator=generator) < keep)
        return torch.stack(drawn).to(x.device)

    def _normalised(self, spec: LayerSpec, x: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """By the rows' own statistics in training, and with weights that are not the network's own."""
        x = x.flatten(2) if x.shape[2] != spec.weight_shape[0] else x
        own, weight = values is self.parameters, values[f"{spec.name}.weight"]
        names = (f"{spec.name}.running_mean", f"{spec.name}.running_var")
        if own and not self._trains:
            mean, variance = (self.buffers[name] for name in names)
        else:
            mean, variance = _moments(x)
        if own and self._trains:
            with torch.no_grad():
                for name, found in zip(names, (mean, variance), strict=True):
                    self.buffers[name].lerp_(found, 1 - BATCH_NORM_MOMENTUM)
        return population_batch_norm(x, weight, values[f"{spec.name}.bias"], mean, variance)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance ``[M, units]`` over rows and positions; of maps member by member, as convolutions are."""
    if x.ndim == 3:
        variance, mean = torch.var_mean(x, dim=1, correction=0)
        return mean, variance
    found = [torch.var_mean(own, dim=(0, 2, 3), correction=0) for own in x]
    return torch.stack([mean for _, mean in found]), torch.stack([variance for variance, _ in found])


def _transform(spec: LayerSpec, x: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    weight, bias = values[f"{spec.name}.weight"], values[f"{spec.name}.bias"]
    if spec.reads != "identity":
        x = ACTIVATIONS[spec.reads].function(x)
    match len(spec.weight_shape):
        case 4:
            maps = population_conv2d(x, weight, bias, spec.stride, spec.padding)
            return population_pool(maps) if spec.pool else maps
        case 1 if spec.norm in ("shift", "unit", "scale", "lerp"):
            return _hyperspherical(spec, x, weight)
        case 1 if spec.norm == "rms":
            return population_rms_norm(x, weight, spec.over)
        case 1 if spec.norm == "gamma":
            scaled = spec.name.removesuffix("_gamma")
            return population_gamma(x, values[f"{scaled}.weight"], values[f"{scaled}.bias"], weight)
        case 1 if spec.norm == "slope":
            return population_sloped_relu(x, bias)
        case 1 if spec.norm == "constant":
            return bias.unsqueeze(1).expand(-1, x.shape[1], -1)
        case 1:
            return population_layer_norm(x, weight, bias, spec.over)
    return population_linear(x.flatten(2), weight, bias) if spec.has_bias else x.flatten(2) @ weight.transpose(1, 2)


def _hyperspherical(spec: LayerSpec, x: Tensor, weight: Tensor) -> Tensor:
    """SimBa v2's parts: what ``lerp`` does to its input waits for the values that are kept."""
    if spec.norm == "scale":
        return x * (weight * spec.constant).unsqueeze(1)
    if spec.norm == "shift":
        x = nn.functional.pad(x.flatten(2), (0, 1), value=spec.constant)
    return x if spec.norm == "lerp" else nn.functional.normalize(x, dim=2, eps=UNIT_EPSILON)


def _lerp(spec: LayerSpec, kept: Tensor, x: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    share = values[f"{spec.name}.weight"] * spec.constant
    return torch.addcmul(kept, x - kept, share.unsqueeze(1))


def _layout(specs: Sequence[LayerSpec], num_members: int) -> list[ParameterSlot]:
    slots: list[ParameterSlot] = []
    start = 0
    for spec in specs:
        for name, shape in ((f"{spec.name}.weight", spec.weight_shape), (f"{spec.name}.bias", spec.weight_shape[:1])):
            stop = start + num_members * math.prod(shape)
            slots.append(ParameterSlot(name, start, stop, (num_members, *shape)))
            start = stop
    return slots
