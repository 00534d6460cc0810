"""VGG-16 with BatchNorm: thirteen 3x3 convolutions, five pools, and a head of three linear layers.

Simonyan & Zisserman 2015, arXiv 1409.1556, in the form of FIRE's vision code (isaac7778/FIRE, ``vision/``), whose head
has 1,024 units twice for images of 64 x 64. PyTorch's initialisation.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from plasticbench.learning.blueprint import ModuleSettings, image_shape
from plasticbench.settings import PositiveInt

_STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # times the width, and how many convolutions before each pool


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ModuleSettings):
    """``width``: channels of the first convolution; later ones have two, four, eight and eight times as many.

    ``head_units``: of both hidden layers of the head.
    """

    width: PositiveInt = 64
    head_units: PositiveInt = 1024

    def module(self, obs_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """Raises ``ValueError`` for images that five pools leave nothing of."""
        channels, height, width = image_shape(obs_shape)
        if min(height, width) < 32:
            raise ValueError(f"vgg16 halves images five times, so they need 32 x 32 pixels, got {height} x {width}")
        layers: list[nn.Module] = []
        for factor, count in _STAGES:
            for _ in range(count):
                outputs = factor * self.width
                layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
                channels = outputs
            layers.append(nn.MaxPool2d(2))
        features = channels * (height // 32) * (width // 32)
        head = [nn.Linear(features, self.head_units), nn.ReLU(), nn.Linear(self.head_units, self.head_units), nn.ReLU()]
        return nn.Sequential(*layers, nn.Flatten(), *head, nn.Linear(self.head_units, num_outputs))
