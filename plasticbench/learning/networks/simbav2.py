"""SimBa v2 (Lee et al., ICML 2025, arXiv 2502.15280): weights and features that stay on spheres.

As in the authors' code (dojeon-ai/SimbaV2): a constant is appended to the inputs, which are scaled to length 1; linear
layers have no bias, start orthogonal, and each unit's incoming weights have length 1 from the start and after every
update; behind them stand learned scales, which start at the root of 2 / their number. A block is
``unit(x + a (unit(Dense(h)(ReLU(scale(Dense(4h)(x))))) - x))`` with learned shares a, which start at 1 / (blocks + 1).
The outputs read one more such layer, whose scales start at 1, and are the only ones with a bias.

Of the paper's agent this is the network alone: critics regress scalars, not 101 bins, and rewards are not scaled. Its
statistics of observations are ``observation_norm: running`` of ``sac``. Both heads of an actor read one layer, not one
each. A unit's ReLU has no 1e-8 added to it. Structures that change widths leave the constants as they start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from plasticbench.learning.layers import LayerSpec
from plasticbench.settings import PositiveFloat, PositiveInt, Settings

_EXPANSION = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``num_blocks`` on a stream of ``width`` units; ``shift`` is the constant beside the inputs."""

    num_blocks: PositiveInt = 1
    width: PositiveInt = 128
    shift: PositiveFloat = 3.0

    def layers(self, obs_shape: tuple[int, ...], num_outputs: int) -> list[LayerSpec]:
        """``inputs``, ``embed`` with its scale and norm, the blocks, then ``head`` and ``out``."""
        inputs, start = math.prod(obs_shape) + 1, math.sqrt(2 / self.width)
        return [
            _norm("inputs", inputs, "shift", constant=self.shift),
            _dense("embed", self.width, inputs),
            _norm("embed_scale", self.width, "scale", gain=start),
            _norm("embed_unit", self.width, "unit"),
            *(spec for number in range(self.num_blocks) for spec in self._block(f"block{number + 1}", start)),
            _dense("head", self.width, self.width)._replace(role="head"),
            _norm("head_scale", self.width, "scale")._replace(role="head"),
            _dense("out", num_outputs, self.width)._replace(role="head", has_bias=True),
        ]

    def _block(self, name: str, start: float) -> tuple[LayerSpec, ...]:
        inner, share = _EXPANSION * self.width, 1 / math.sqrt(self.width)
        first = _norm(f"{name}_fc1_scale", inner, "scale", gain=start / math.sqrt(_EXPANSION))
        lerp = _norm(f"{name}_lerp", self.width, "lerp", gain=share, constant=1 / (self.num_blocks + 1) / share)
        return (
            _dense(f"{name}_fc1", inner, self.width)._replace(wiring="opens_residual"),
            first._replace(activation="relu"),
            _dense(f"{name}_fc2", self.width, inner),
            _norm(f"{name}_fc2_unit", self.width, "unit"),
            lerp._replace(wiring="closes_residual"),
            _norm(f"{name}_unit", self.width, "unit"),
        )


def _dense(name: str, units: int, inputs: int) -> LayerSpec:
    return LayerSpec(
        name,
        "encoder",
        (units, inputs),
        initializer="orthogonal",
        activation="identity",
        has_bias=False,
        has_unit_rows=True,
    )


def _norm(name: str, units: int, norm: Any, *, gain: float = 1.0, constant: float = 1.0) -> LayerSpec:
    return LayerSpec(name, "encoder", (units,), activation="identity", norm=norm, gain=gain, constant=constant)
