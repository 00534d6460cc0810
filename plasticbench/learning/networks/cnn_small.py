"""Two convolutions, two pools and two linear layers with ReLU, for small images; PyTorch's initialisation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from plasticbench.learning.blueprint import ModuleSettings, image_shape
from plasticbench.settings import PositiveInt


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ModuleSettings):
    """``width``: channels of the first convolution; the second has twice as many, the hidden layer eight times."""

    width: PositiveInt = 16

    def module(self, obs_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """3x3 convolutions that keep the size, each followed by a 2x2 pool."""
        channels, height, width = image_shape(obs_shape)
        return nn.Sequential(
            nn.Conv2d(channels, self.width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(self.width, 2 * self.width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * self.width * (height // 4) * (width // 4), 8 * self.width),
            nn.ReLU(),
            nn.Linear(8 * self.width, num_outputs),
        )
