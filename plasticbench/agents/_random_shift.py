"""Random shifts of pixels: what a network is trained on stands a few pixels elsewhere each time.

Source: DrQ (Yarats, Kostrikov & Fergus, ICLR 2021, arXiv 2004.13649): an image is padded by its outermost pixels, cut
out again at random, all frames of a stack alike, an observation and the next one each by itself. Ma et al., ICLR 2024
(arXiv 2310.07418) find it essential for plasticity where agents see pixels, and that of critics to matter most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from plasticbench.agents._uniforms import MemberUniforms
from plasticbench.contracts.task import EnvSpec
from plasticbench.seeding import Streams


def require_maps(spec: EnvSpec) -> None:
    """Raises ``ValueError`` for observations that have no height and width."""
    if len(spec.obs_shape) != 3:
        raise ValueError(
            f"random_shift_pixels shifts maps (channels, height, width), but observations are {spec.obs_shape}. "
            "Leave it out"
        )


class RandomShifts:
    """Shifts of up to ``pixels`` in each direction; each member draws from its own stream ``random_shift``."""

    def __init__(self, streams: Sequence[Streams], pixels: int, batch_rows: int) -> None:
        self._pixels = pixels
        self.draws = MemberUniforms(streams, "random_shift", (2, batch_rows, 2))

    def draw(self, device: torch.device) -> Tensor:
        """The next corners ``[M, 2, B, 2]``, of an observation and of the next one."""
        corners = (self.draws.draw() * (2 * self._pixels + 1)).astype(np.int64)
        return torch.from_numpy(corners).to(device)

    def shifted(self, pair: tuple[Tensor, Tensor], corners: Tensor) -> tuple[Tensor, Tensor]:
        """Observation and next one ``[M, B, c, h, w]``, each cut out at its corners."""
        obs, next_obs = (self._cut(image, corners[:, number]) for number, image in enumerate(pair))
        return obs, next_obs

    def _cut(self, images: Tensor, corners: Tensor) -> Tensor:
        """``corners`` ``[M, B, 2]``: how many rows and columns of the padded images are left out before the cut."""
        flat, device = images.flatten(0, 1), images.device
        padded = pad(flat, (self._pixels,) * 4, mode="replicate")
        first = corners.reshape(-1, 2)
        height, width = flat.shape[2:]
        rows = (first[:, :1] + torch.arange(height, device=device)).view(-1, 1, height, 1)
        columns = (first[:, 1:] + torch.arange(width, device=device)).view(-1, 1, 1, width)
        image = torch.arange(len(flat), device=device).view(-1, 1, 1, 1)
        channel = torch.arange(flat.shape[1], device=device).view(1, -1, 1, 1)
        return padded[image, channel, rows, columns].view(images.shape)

    def state_dict(self) -> dict[str, Any]:
        """Plain data."""
        return self.draws.state_dict()

    def load_state_dict(self, state: dict[str, Any], parents: Sequence[int]) -> None:
        """Member i goes on where member ``parents[i]`` was saved."""
        self.draws.load_state_dict(state, parents)
