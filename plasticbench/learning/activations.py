"""Nonlinearities by name: the function, how much wider it makes a layer, and when a unit is dead.

A unit that no input of a batch can move any more passes nothing on and gets no gradient. What shows that depends on the
nonlinearity; the rules for tanh (hardly any spread) and leaky ReLU (its small slope alone) are those of Moalla et al.
2024, arXiv 2405.00662.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

_DEAD_TANH_DEVIATION = 1e-3


class Activation(NamedTuple):
    """``function`` maps ``[M, B, units]`` or ``[M, B, units, h, w]`` to ``width_factor`` times as many units.

    ``is_dead`` tells for each entry of an output ``[M, N, units, positions]``, or of a whole unit where it needs the
    spread, whether it speaks for a dead unit; a unit is dead if all of its entries do. With ``mixes_units`` an output
    is no longer that of one unit.
    """

    function: Callable[[Tensor], Tensor]
    width_factor: int
    is_dead: Callable[[Tensor], Tensor]
    mixes_units: bool = False


def _identity(x: Tensor) -> Tensor:
    return x


def _relu(x: Tensor) -> Tensor:
    # In place saves SAC an eighth of its update; but a convolution's maps may be views, where it costs.
    return x.relu_() if x.ndim == 3 else x.relu()


def _crelu(x: Tensor) -> Tensor:
    """Concatenated ReLU (Shang et al. 2016, arXiv 1603.05201): the positive parts of all units, then the negative."""
    return torch.cat((x, -x), dim=2).relu()


def _fourier(x: Tensor) -> Tensor:
    """Sines of all units, then their cosines."""
    return torch.cat((x.sin(), x.cos()), dim=2)


def _maxmin(x: Tensor) -> Tensor:
    """Of each pair of neighbours the larger, then the smaller."""
    first, second = x[:, :, 0::2], x[:, :, 1::2]
    return torch.stack((torch.maximum(first, second), torch.minimum(first, second)), dim=3).flatten(2, 3)


def _never(x: Tensor) -> Tensor:
    return torch.zeros_like(x, dtype=torch.bool)


def _still(x: Tensor) -> Tensor:
    """Whether a unit's values stay within a standard deviation of 0.001 over rows and positions."""
    return x.std(dim=(1, 3), keepdim=True, correction=0) < _DEAD_TANH_DEVIATION


ACTIVATIONS = {
    "identity": Activation(_identity, 1, _never),
    "relu": Activation(_relu, 1, lambda x: x <= 0),
    "leaky_relu": Activation(functional.leaky_relu, 1, lambda x: x < 0),
    "sloped_relu": Activation(_identity, 1, lambda x: x <= 0),  # the layer that holds the slopes applies them
    "aid": Activation(_identity, 1, lambda x: x <= 0),  # the network applies it, who knows whether it is trained
    "tanh": Activation(torch.tanh, 1, _still),
    "gelu": Activation(functional.gelu, 1, _never),
    "silu": Activation(functional.silu, 1, _never),
    "crelu": Activation(_crelu, 2, lambda x: x <= 0),
    "fourier": Activation(_fourier, 2, _never),
    "maxmin": Activation(_maxmin, 1, _never, mixes_units=True),
}


def by_unit(activation: Tensor, name: str) -> Tensor:
    """An output as ``[M, N, units, entries]``: positions of a map, and both halves of what is passed on twice."""
    factor = ACTIVATIONS[name].width_factor if name in ACTIVATIONS else 1
    members, rows = activation.shape[:2]
    halves = activation.reshape(members, rows, factor, activation.shape[2] // factor, -1)
    return halves.movedim(2, 3).flatten(3)


def dead_units(activation: Tensor, name: str) -> Tensor:
    """Which units ``[M, units]`` are dead on a batch, by the rule of the nonlinearity."""
    entries = by_unit(activation, name)
    return ACTIVATIONS[name].is_dead(entries).expand_as(entries).all(dim=3).all(dim=1)
