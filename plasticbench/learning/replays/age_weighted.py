"""New transitions are likelier: weights fall with a power of the age.

Source: after Sample Weight Decay, arXiv 2604.01913, which has weights fall with age so that gradients keep their size,
and Emphasizing Recent Experience (Wang & Ross 2019, arXiv 1906.04009), which narrows its batches to what is new. The
weights of neither: an age of a transitions, 0 the newest, has the integral of ``x^-power`` from a + 1 to a + 2 for its
weight, about one over a power of the age. Batches of training alone; probes go on to look at all alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plasticbench.settings import PositiveFloat, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``power`` of the age that divides a weight: near 0 all are alike, from 1 on most batches are new."""

    power: PositiveFloat = 0.5

    def places(self, uniforms: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Places counted from the oldest ``[M, B]`` for uniforms in [0, 1), of ``sizes`` ``[M]`` transitions."""
        held, rest = sizes[:, None], 1 - self.power
        ends = np.log(held + 1.0)
        reached = uniforms * ends if rest == 0 else np.log1p(uniforms * np.expm1(rest * ends)) / rest
        age = np.floor(np.exp(reached) - 1)
        places: np.ndarray = held - 1 - np.clip(age, 0, held - 1).astype(np.int64)
        return places


PRESETS = {"clean": Config(), "inverse_age": Config(power=1.0)}
