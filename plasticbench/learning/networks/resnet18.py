"""ResNet-18 for small images: a 3x3 stem without a pool, four stages of two basic blocks, and a head of two layers.

He et al. 2016, arXiv 1512.03385, in the form of FIRE's vision code (isaac7778/FIRE, ``vision/``): BatchNorm, 1x1
shortcuts where a stage changes size, average pool, and a hidden layer with ReLU before the outputs. PyTorch's
initialisation.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from plasticbench.learning.blueprint import ModuleSettings, image_shape
from plasticbench.settings import PositiveInt


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ModuleSettings):
    """``width``: channels of stem and first stage, doubled by each further stage; the hidden layer has eight times."""

    width: PositiveInt = 64

    def module(self, obs_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """The network for images of any size."""
        return ResNet18(image_shape(obs_shape)[0], self.width, num_outputs)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """``relu(block(x) + shortcut(x))``."""
        inner = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        activated: Tensor = self.relu(inner + self.shortcut(x))
        return activated


class ResNet18(nn.Module):
    """Images ``[rows, channels, height, width]`` to outputs ``[rows, outputs]``."""

    def __init__(self, channels: int, width: int, num_outputs: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        blocks: list[nn.Module] = []
        inputs = width
        for stage in range(4):
            outputs = width * 2**stage
            blocks += [BasicBlock(inputs, outputs, 1 if stage == 0 else 2), BasicBlock(outputs, outputs, 1)]
            inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Sequential(nn.Linear(inputs, inputs), nn.ReLU(), nn.Linear(inputs, num_outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.head(self.pool(self.blocks(self.stem(x))))
        return logits
