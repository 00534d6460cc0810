"""The DQN network of Mnih et al. 2015 (Nature 518): three convolutions, one hidden layer.

Xavier-uniform weights and zero biases by default, as in FIRE's DQN (isaac7778/FIRE, rl/dqn). The encoder ends with the
convolutions, where FIRE's resets divide the network.
"""

from __future__ import annotations

from dataclasses import dataclass

from plasticbench.learning.layers import Initializer, LayerSpec
from plasticbench.settings import PositiveInt, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """Width of the hidden layer and the initialiser of all layers."""

    hidden_units: PositiveInt = 512
    initializer: Initializer = "xavier_uniform"

    def layers(self, obs_shape: tuple[int, ...], num_outputs: int) -> list[LayerSpec]:
        """``conv1`` to ``conv3``, ``fc1``, ``fc2``. Raises ``ValueError`` for observations smaller than 36x36."""
        if len(obs_shape) != 3 or min(obs_shape[1:]) < 36:
            raise ValueError(
                f"nature_cnn needs observations (channels, height, width) of 36x36 or more, got {obs_shape}"
            )
        channels, height, width = obs_shape
        for kernel, stride in ((8, 4), (4, 2), (3, 1)):
            height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
        return [
            LayerSpec("conv1", "encoder", (32, channels, 8, 8), 4, self.initializer),
            LayerSpec("conv2", "encoder", (64, 32, 4, 4), 2, self.initializer),
            LayerSpec("conv3", "encoder", (64, 64, 3, 3), 1, self.initializer),
            LayerSpec("fc1", "head", (self.hidden_units, 64 * height * width), 1, self.initializer),
            LayerSpec("fc2", "head", (num_outputs, self.hidden_units), 1, self.initializer),
        ]
