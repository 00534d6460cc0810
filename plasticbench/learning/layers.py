"""What a layer is, and how its first weights are drawn."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np

from plasticbench.contracts.network import Role

Initializer = Literal["xavier_uniform", "torch_default", "orthogonal", "he_normal"]
Wiring = Literal["chain", "opens_residual", "closes_residual", "sibling"]
"""What a layer reads, and where its values go: from the layer before to the next; the same, and its input is kept;
its values are added to the input last kept; or, for a further output, what the layer before reads, side by side."""
Over = Literal["map", "channels"]
"""What one mean and variance are of: all channels and positions of a row, or the channels at each position."""
Norm = Literal["layer", "rms", "batch", "slope", "constant", "gamma", "shift", "unit", "scale", "lerp"]
"""Mean and variance, with a gain and a shift; or the mean of squares alone, with a gain: its bias is unused. ``slope``
normalises nothing: it is a ReLU whose bias is each unit's slope below 0; its weight is unused. ``constant`` is an
output that is its bias, whatever is read; its weight is unused. ``gamma`` divides what the layer before it made of its
input by that layer's largest singular value and has one number as its gain. ``batch``: mean and variance of each unit
over the rows that are trained on, and their running means in all other passes. Of SimBa v2: ``shift`` appends a
constant, and as ``unit`` scales to length 1, with neither gain nor shift; ``scale`` has gains alone; ``lerp`` closes a
residual connection with the share of the way from the kept values to its input that its gains say."""

_CUT_DEVIATION = 0.87962566  # what a cut at two standard deviations leaves of a normal's 1


class LayerSpec(NamedTuple):
    """One layer: ``weight_shape`` is ``(out, in)``, ``(out, in, kh, kw)``, or ``(units,)`` of a layer normalisation.

    The activation, by its name in ``activations.py``, follows after the residual connection, if there is one. The last
    layer and its siblings are the outputs, which have no activation. ``over`` concerns normalisations of maps
    alone, ``norm`` normalisations. A convolution may have zeros as ``padding``, and with ``pool`` the largest of 3x3
    windows at every other position behind it. ``reads`` names the nonlinearity through which a layer takes its input;
    a residual connection keeps what is before it. The last ``spare_units`` units and ``spare_inputs`` inputs start as
    zeros, and count in no initialiser. ``constant``: how likely the activation ``aid`` lets what is positive through,
    what ``shift`` appends, and what gains of ``scale`` and ``lerp`` are multiplied by. A normalisation's gains start at
    ``gain``. ``has_unit_rows``: each unit's incoming weights have length 1, from the start and after each update.
    """

    name: str
    role: Role
    weight_shape: tuple[int, ...]
    stride: int = 1
    initializer: Initializer = "xavier_uniform"
    gain: float = 1.0
    activation: str = "relu"
    wiring: Wiring = "chain"
    over: Over = "map"
    norm: Norm = "layer"
    padding: int = 0
    pool: bool = False
    reads: str = "identity"
    spare_units: int = 0
    spare_inputs: int = 0
    constant: float = 1.0
    has_bias: bool = True
    has_unit_rows: bool = False

    @property
    def is_norm(self) -> bool:
        """Whether the layer normalises its input over the units instead of mixing them."""
        return len(self.weight_shape) == 1

    @property
    def core(self) -> LayerSpec:
        """The layer without what is spare."""
        if not (self.spare_units or self.spare_inputs):
            return self
        units, inputs, *kernel = self.weight_shape
        shape = (units - self.spare_units, inputs - self.spare_inputs, *kernel)
        return self._replace(weight_shape=shape, spare_units=0, spare_inputs=0)

    @property
    def fan_in(self) -> int:
        """Numbers that a unit reads, each of which has a weight."""
        return math.prod(self.weight_shape[1:])


def draw_weight(spec: LayerSpec, rng: np.random.Generator) -> np.ndarray:
    """A new weight of one member, float32, in the layer's shape.

    ``xavier_uniform``: U(-a, a), a = gain sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010). ``torch_default``:
    U(-a, a), a = 1 / sqrt(fan_in). ``orthogonal``: gain times a random semi-orthogonal matrix (Saxe et al. 2014).
    ``he_normal``: standard deviation sqrt(2 / fan_in), cut off at two of the uncut normal's (He et al. 2015, as in
    Flax). A normalisation starts with its gain.
    """
    if spec.is_norm:
        return np.full(spec.weight_shape, spec.gain, dtype=np.float32)
    if spec.has_unit_rows:
        drawn = draw_weight(spec._replace(has_unit_rows=False), rng)
        scaled: np.ndarray = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        return scaled
    if spec.core is not spec:
        kernel = [(0, 0)] * (len(spec.weight_shape) - 2)
        return np.pad(draw_weight(spec.core, rng), [(0, spec.spare_units), (0, spec.spare_inputs), *kernel])
    out_features, fan_in = spec.weight_shape[0], spec.fan_in
    if spec.initializer == "orthogonal":
        rows, columns = max(out_features, fan_in), min(out_features, fan_in)
        q, r = np.linalg.qr(rng.standard_normal((rows, columns)))
        q = q * np.sign(np.diag(r))
        return (spec.gain * (q if out_features == rows else q.T)).reshape(spec.weight_shape).astype(np.float32)
    if spec.initializer == "he_normal":
        return (math.sqrt(2 / fan_in) * _cut_normal(spec.weight_shape, rng)).astype(np.float32)
    bound = weight_bound(spec)
    return rng.uniform(-bound, bound, spec.weight_shape).astype(np.float32)


def weight_bound(spec: LayerSpec) -> float:
    """How large a weight of a layer that is no normalisation can be drawn.

    Exact for all initialisers but ``orthogonal``. That one is given the bound of the uniform distribution with the same
    standard deviation, sqrt(3) gain / sqrt(max(out, fan_in)); about a twelfth of its weights start beyond. So are
    rows of length 1.
    """
    spec = spec.core
    if spec.has_unit_rows:
        return math.sqrt(3 / spec.fan_in)
    fan_in, fan_out = spec.fan_in, math.prod((spec.weight_shape[0], *spec.weight_shape[2:]))
    match spec.initializer:
        case "xavier_uniform":
            return spec.gain * math.sqrt(6 / (fan_in + fan_out))
        case "torch_default":
            return 1 / math.sqrt(fan_in)
        case "orthogonal":
            return spec.gain * math.sqrt(3 / max(spec.weight_shape[0], fan_in))
        case "he_normal":
            return math.sqrt(2 / fan_in) * 2 / _CUT_DEVIATION


def _cut_normal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Normal numbers within two standard deviations, scaled to a standard deviation of 1."""
    drawn = rng.standard_normal(shape)
    while (outside := np.abs(drawn) > 2).any():
        drawn[outside] = rng.standard_normal(np.count_nonzero(outside))
    scaled: np.ndarray = drawn / _CUT_DEVIATION
    return scaled


def draw_bias(spec: LayerSpec, rng: np.random.Generator) -> np.ndarray:
    """A new bias of one member: uniform like the weight for ``torch_default``, else zero."""
    if spec.is_norm or not spec.has_bias or spec.initializer != "torch_default":
        return np.zeros(spec.weight_shape[0], dtype=np.float32)
    core = spec.core
    bound = 1 / math.sqrt(core.fan_in)
    drawn = rng.uniform(-bound, bound, core.weight_shape[0]).astype(np.float32)
    return np.pad(drawn, (0, spec.spare_units)) if spec.spare_units else drawn
