"""Numbers of whole members, applied to the flat buffers of a population: by views, parameter after parameter.

Whatever is as large as the network is written into buffers that are kept: memory of that size is fetched from the
system and given back at each allocation, which was measured to take longer than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from plasticbench.learning.optimizer import FlatParameters


def by_slot(network: FlatParameters, flat: Tensor) -> list[Tensor]:
    """Each parameter's part of a flat buffer as ``[M, size]``; shares its memory."""
    return [flat[slot.start : slot.stop].view(network.num_members, -1) for slot in network.slots]


def by_member(network: FlatParameters, flat: Tensor) -> list[Tensor]:
    """A flat buffer as ``[M, size]``: one part if there is one member, else one per parameter; shares its memory."""
    return [flat.view(1, -1)] if network.num_members == 1 else by_slot(network, flat)


def multiply(values: Sequence[Tensor], factors: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """Each part ``[M, size]`` times the members' own factors for it, ``[M]``."""
    for part, factor, product in zip(values, factors, out, strict=True):
        torch.mul(part, factor.unsqueeze(1), out=product)
