"""Depth multiplier: every residual block, or else every hidden linear layer, stands there several times.

Source: the scaling studies of deep RL, which add blocks to a residual network (SimBa: Lee et al., ICLR 2025, arXiv
2410.09754) or hidden layers to a plain one (Bjorck et al., NeurIPS 2021, arXiv 2106.01151). A repetition has the width,
initialiser, nonlinearity and normalisations of what it repeats, and weights of its own. Convolutions outside of blocks
stay as they are.

What probes measure: values by layer are of other layers under ``<name>_2`` and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.structures._hidden import num_hidden
from plasticbench.settings import PositiveInt, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``factor``: how often each stands there; 1 is the network as it was."""

    factor: PositiveInt = 2

    def layers(self, specs: Sequence[LayerSpec]) -> list[LayerSpec]:
        """The layers with the repetitions; ``ValueError`` if there is no block and no hidden linear layer."""
        last = num_hidden(specs)
        is_residual = any(spec.wiring == "opens_residual" for spec in specs)
        pieces = (_blocks if is_residual else _with_norms)(specs[:last])
        rewritten: list[LayerSpec] = []
        is_repeated = False
        for index, piece in enumerate(pieces):
            rewritten += piece
            if (piece[0].wiring == "opens_residual") if is_residual else len(piece[0].weight_shape) == 2:
                is_repeated = True
                reader = pieces[index + 1][0] if index + 1 < len(pieces) else specs[last]
                for number in range(2, self.factor + 1):
                    rewritten += _repetition(piece, number, None if is_residual else reader.weight_shape[1])
        if not is_repeated:
            raise ValueError(
                "depth needs a residual block or a hidden linear layer to repeat, but this network has none. "
                "Leave depth out, or choose another network"
            )
        return [*rewritten, *specs[last:]]


PRESETS = {"clean": Config()}


def _repetition(piece: Sequence[LayerSpec], number: int, inputs: int | None) -> list[LayerSpec]:
    """The layers under new names; with ``inputs`` the first of them reads so many values."""
    renamed = [spec._replace(name=f"{spec.name}_{number}") for spec in piece]
    if inputs is not None:
        renamed[0] = renamed[0]._replace(weight_shape=(renamed[0].weight_shape[0], inputs))
    return renamed


def _blocks(hidden: Sequence[LayerSpec]) -> list[list[LayerSpec]]:
    """Residual blocks, and the layers between them one by one."""
    pieces: list[list[LayerSpec]] = []
    is_open = False
    for spec in hidden:
        if is_open:
            pieces[-1].append(spec)
        else:
            pieces.append([spec])
        is_open = (is_open or spec.wiring == "opens_residual") and spec.wiring != "closes_residual"
    return pieces


def _with_norms(hidden: Sequence[LayerSpec]) -> list[list[LayerSpec]]:
    """Layers, each with what normalises its units."""
    pieces: list[list[LayerSpec]] = []
    for spec in hidden:
        if spec.is_norm and pieces:
            pieces[-1].append(spec)
        else:
            pieces.append([spec])
    return pieces
