"""SimBa (Lee et al., ICLR 2025, arXiv 2410.09754): a residual stream that layer-normalised blocks add to.

A linear embedding, blocks ``x + Dense(h)(ReLU(Dense(4h)(LayerNorm(x))))``, a last layer normalisation, and linear
outputs; the encoder ends with that normalisation. The paper's third part, running observation statistics, is a setting
of the agent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from plasticbench.learning.layers import LayerSpec
from plasticbench.settings import PositiveInt, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``num_blocks`` residual blocks on a stream of ``width`` units; a block's hidden layer is four times as wide."""

    num_blocks: PositiveInt = 1
    width: PositiveInt = 128

    def layers(self, obs_shape: tuple[int, ...], num_outputs: int) -> list[LayerSpec]:
        """``embed``, for each block ``norm``, ``fc1`` and ``fc2``, then ``norm`` and ``out``; inputs are flattened."""
        embed = LayerSpec(
            "embed", "encoder", (self.width, math.prod(obs_shape)), initializer="orthogonal", activation="identity"
        )
        blocks = [spec for i in range(self.num_blocks) for spec in self._block(f"block{i + 1}")]
        norm = LayerSpec("norm", "encoder", (self.width,), activation="identity")
        return [embed, *blocks, norm, LayerSpec("out", "head", (num_outputs, self.width), initializer="orthogonal")]

    def _block(self, name: str) -> tuple[LayerSpec, ...]:
        inner = 4 * self.width
        return (
            LayerSpec(f"{name}_norm", "encoder", (self.width,), activation="identity", wiring="opens_residual"),
            LayerSpec(f"{name}_fc1", "encoder", (inner, self.width), initializer="he_normal"),
            LayerSpec(
                f"{name}_fc2",
                "encoder",
                (self.width, inner),
                initializer="he_normal",
                activation="identity",
                wiring="closes_residual",
            ),
        )
