"""Multi-layer perceptron; all but the output layer count as the encoder."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from plasticbench.learning.layers import Initializer, LayerSpec
from plasticbench.settings import UNHASHED_DEFAULT, MinLen, PositiveInt, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """Widths of the hidden layers, input first, the initialiser of all layers, and the nonlinearity between them."""

    hidden: Annotated[tuple[PositiveInt, ...], MinLen(1, "width")] = (64, 64)
    initializer: Initializer = "xavier_uniform"
    activation: Literal["relu", "tanh", "leaky_relu"] = field(default="relu", metadata=UNHASHED_DEFAULT)

    def layers(self, obs_shape: tuple[int, ...], num_outputs: int) -> list[LayerSpec]:
        """``fc1`` ... ``fcN``; observations of any shape are flattened."""
        widths = (math.prod(obs_shape), *self.hidden, num_outputs)
        last = len(widths) - 2
        return [
            LayerSpec(
                f"fc{i + 1}",
                "head" if i == last else "encoder",
                (widths[i + 1], widths[i]),
                initializer=self.initializer,
                activation=self.activation,
            )
            for i in range(last + 1)
        ]
