"""GPT-2's form of a language model: learned positions, pre-norm blocks with causal attention, a head tied to tokens.

Radford et al. 2019, as nanoGPT (karpathy/nanoGPT) trains it without biases. Queries, keys and values have projections
of their own, so that treatments see each by itself. Linear layers and embeddings start from N(0, 0.02), those that
write into the residual stream from N(0, 0.02 / sqrt(2 blocks)). Defaults are small; GPT-2 has 12 blocks and heads and
a width of 768.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from plasticbench.learning.blueprint import Inputs, ModuleSettings
from plasticbench.learning.networks.vit_tiny import Block
from plasticbench.settings import HalfOpenFraction, PositiveInt

_DEVIATION = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ModuleSettings):
    """``tied_head``: whether outputs are products with the tokens' own embeddings. ``dropout``: of the embeddings."""

    inputs: ClassVar[Inputs] = "tokens"
    num_blocks: PositiveInt = 4
    num_heads: PositiveInt = 4
    width: PositiveInt = 128
    tied_head: bool = True
    dropout: HalfOpenFraction = 0.0

    def __post_init__(self) -> None:
        ModuleSettings.__post_init__(self)
        if self.width % self.num_heads:
            raise ValueError(f"width: must be a multiple of num_heads ({self.num_heads}), got {self.width}")

    @property
    def is_random(self) -> bool:
        """With dropout."""
        return self.dropout > 0

    def module(self, obs_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """Raises ``ValueError`` for inputs that are no sequences."""
        if len(obs_shape) != 1:
            raise ValueError(f"gpt reads sequences of tokens, got inputs {list(obs_shape)}")
        return GPT(self, obs_shape[0], num_outputs)


class GPT(nn.Module):
    """Tokens ``[rows, context]`` to logits of the next ones ``[rows, context, vocabulary]``."""

    def __init__(self, config: Config, context: int, vocabulary: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, config.width)
        self.positions = nn.Embedding(context, config.width)
        self.dropout = nn.Dropout(config.dropout)
        made = (Block(config.width, config.num_heads, causal=True, bias=False) for _ in range(config.num_blocks))
        self.blocks = nn.Sequential(*made)
        self.norm = nn.LayerNorm(config.width, bias=False)
        self.head = nn.Linear(config.width, vocabulary, bias=False)
        if config.tied_head:
            self.head.weight = self.tokens.weight
        writers = tuple(f"blocks.{i}.{name}" for i in range(config.num_blocks) for name in ("attention.to_out", "down"))
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Linear | nn.Embedding):
                scale = math.sqrt(2 * config.num_blocks) if name in writers else 1.0
                nn.init.normal_(layer.weight, std=_DEVIATION / scale)

    def forward(self, x: Tensor) -> Tensor:
        """Logits at every position."""
        embedded = self.tokens(x) + self.positions(torch.arange(x.shape[1], device=x.device))
        logits: Tensor = self.head(self.norm(self.blocks(self.dropout(embedded))))
        return logits
