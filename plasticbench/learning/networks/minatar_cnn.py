"""The MinAtar network of Young & Tian 2019 (arXiv 1903.03176): a 3x3 convolution and one hidden layer."""

from __future__ import annotations

from dataclasses import dataclass

from plasticbench.learning.layers import Initializer, LayerSpec
from plasticbench.settings import PositiveInt, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """Channels, hidden width and initialiser; the published network uses PyTorch's default initialisation."""

    channels: PositiveInt = 16
    hidden_units: PositiveInt = 128
    initializer: Initializer = "torch_default"

    def layers(self, obs_shape: tuple[int, ...], num_outputs: int) -> list[LayerSpec]:
        """``conv1``, ``fc1``, ``fc2``. Raises ``ValueError`` unless observations are ``(channels, height, width)``."""
        if len(obs_shape) != 3 or min(obs_shape[1:]) < 3:
            raise ValueError(
                f"minatar_cnn needs observations (channels, height, width) of 3x3 or more, got {obs_shape}"
            )
        in_channels, height, width = obs_shape
        flat_features = self.channels * (height - 2) * (width - 2)
        return [
            LayerSpec("conv1", "encoder", (self.channels, in_channels, 3, 3), 1, self.initializer),
            LayerSpec("fc1", "head", (self.hidden_units, flat_features), 1, self.initializer),
            LayerSpec("fc2", "head", (num_outputs, self.hidden_units), 1, self.initializer),
        ]
