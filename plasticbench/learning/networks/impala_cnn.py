"""The residual network of IMPALA (Espeholt et al. 2018, arXiv 1802.01561), with which agents play ProcGen.

Three stages, each a 3x3 convolution, the largest of 3x3 windows at every other position, and two residual blocks
``x + conv(ReLU(conv(ReLU(x))))``; ReLU, one hidden layer, and outputs. The encoder ends with the last block. Units of
the stream, which several layers write, are neither active nor dormant to probes, and treatments of single units leave
them alone; those between a block's two convolutions are like any others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from plasticbench.learning.layers import Initializer, LayerSpec
from plasticbench.settings import MinLen, PositiveInt, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """Channels of each stage, width of the hidden layer, and the initialiser of all layers."""

    channels: Annotated[tuple[PositiveInt, ...], MinLen(1, "number of channels")] = (16, 32, 32)
    hidden_units: PositiveInt = 256
    initializer: Initializer = "torch_default"

    def layers(self, obs_shape: tuple[int, ...], num_outputs: int) -> list[LayerSpec]:
        """``stage1`` with its blocks, and so on, then ``fc1`` and ``fc2``.

        Raises ``ValueError`` unless observations are ``(channels, height, width)``.
        """
        if len(obs_shape) != 3:
            raise ValueError(f"impala_cnn needs observations (channels, height, width), got {obs_shape}")
        read, height, width = obs_shape
        stages: list[LayerSpec] = []
        for number, channels in enumerate(self.channels, 1):
            stages += self._stage(f"stage{number}", read, channels)
            read, height, width = channels, -(-height // 2), -(-width // 2)
        fc1 = LayerSpec("fc1", "head", (self.hidden_units, read * height * width), reads="relu")
        fc2 = LayerSpec("fc2", "head", (num_outputs, self.hidden_units))
        return [*stages, *(layer._replace(initializer=self.initializer) for layer in (fc1, fc2))]

    def _stage(self, name: str, read: int, channels: int) -> Iterator[LayerSpec]:
        conv = partial(LayerSpec, role="encoder", initializer=self.initializer, padding=1)
        yield conv(name, weight_shape=(channels, read, 3, 3), activation="identity", pool=True)
        inside = (channels, channels, 3, 3)
        for block in (f"{name}_block1", f"{name}_block2"):
            yield conv(f"{block}_conv1", weight_shape=inside, reads="relu", wiring="opens_residual")
            yield conv(f"{block}_conv2", weight_shape=inside, activation="identity", wiring="closes_residual")
