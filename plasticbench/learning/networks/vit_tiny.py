"""ViT-Tiny: patches of an image as tokens of a small pre-norm transformer, read out by a class token.

Dosovitskiy et al. 2021, arXiv 2010.11929, with the sizes of FIRE's vision code (isaac7778/FIRE, ``vision/``): patches
of 4, width 192, 12 blocks, 3 heads of 64, 768 hidden units with GELU, separate projections of queries, keys and values
without bias, positions and class token drawn from N(0, 1). PyTorch's initialisation everywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from plasticbench.learning.blueprint import ModuleSettings, image_shape
from plasticbench.settings import PositiveInt


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ModuleSettings):
    """``width`` is that of tokens; the hidden layer of a block is four times as wide."""

    patch: PositiveInt = 4
    width: PositiveInt = 192
    num_blocks: PositiveInt = 12
    num_heads: PositiveInt = 3

    def __post_init__(self) -> None:
        ModuleSettings.__post_init__(self)
        if self.width % self.num_heads:
            raise ValueError(f"width: must be a multiple of num_heads ({self.num_heads}), got {self.width}")

    def module(self, obs_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """Raises ``ValueError`` for images that patches do not tile."""
        _, height, width = image_shape(obs_shape)
        if height % self.patch or width % self.patch:
            raise ValueError(f"patch: patches of {self.patch} do not tile images of {height} x {width}")
        return ViT(obs_shape, self, num_outputs)


class Attention(nn.Module):
    """Softmax attention of tokens ``[rows, tokens, width]`` to each other; with ``causal`` to none that comes later."""

    def __init__(self, width: int, num_heads: int, *, causal: bool = False, bias: bool = False) -> None:
        super().__init__()
        self.num_heads, self.causal = num_heads, causal
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=bias) for _ in range(3))
        self.to_out = nn.Linear(width, width, bias=not causal or bias)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens of the same shape."""
        rows, tokens, width = x.shape
        heads = (rows, tokens, self.num_heads, width // self.num_heads)
        q, k, v = (project(x).view(heads).transpose(1, 2) for project in (self.to_q, self.to_k, self.to_v))
        mixed = scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        out: Tensor = self.to_out(mixed.transpose(1, 2).reshape(rows, tokens, width))
        return out


class Block(nn.Module):
    """Attention and two linear layers, each normalised before and added to what came in."""

    def __init__(self, width: int, num_heads: int, *, causal: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, bias=bias)
        self.attention = Attention(width, num_heads, causal=causal)
        self.norm2 = nn.LayerNorm(width, bias=bias)
        self.up = nn.Linear(width, 4 * width, bias=bias)
        self.gelu = nn.GELU()
        self.down = nn.Linear(4 * width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens of the same shape."""
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.down(self.gelu(self.up(self.norm2(x))))
        return out


class ViT(nn.Module):
    """Images ``[rows, channels, height, width]`` to outputs ``[rows, outputs]``."""

    def __init__(self, obs_shape: tuple[int, ...], config: Config, num_outputs: int) -> None:
        super().__init__()
        channels, height, width = image_shape(obs_shape)
        self.patch, tokens = config.patch, (height // config.patch) * (width // config.patch)
        self.embed = nn.Linear(channels * config.patch**2, config.width)
        self.class_token = nn.Parameter(torch.randn(1, 1, config.width))
        self.positions = nn.Parameter(torch.randn(1, tokens + 1, config.width))
        self.blocks = nn.Sequential(*(Block(config.width, config.num_heads) for _ in range(config.num_blocks)))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        size = self.patch
        patches = x.unfold(2, size, size).unfold(3, size, size).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        tokens = torch.cat((self.class_token.expand(x.shape[0], -1, -1), self.embed(patches)), dim=1) + self.positions
        logits: Tensor = self.head(self.norm(self.blocks(tokens))[:, 0])
        return logits
