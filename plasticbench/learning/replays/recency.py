"""New transitions are likelier: ages are geometric, cut off at what the replay holds.

Source: truncated geometric replay, Korniak et al. 2026, arXiv 2605.10236: the probability of an age of a transitions is
in proportion to ``exp(-a / scale)``. Old data weighs less after a change, and is not forgotten at once, as by ``replay:
clear`` of a scenario. Batches of training alone; probes go on to look at all transitions alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plasticbench.settings import PositiveFloat, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``scale_transitions``: the mean age, of a replay that holds much more than that. The default is ours."""

    scale_transitions: PositiveFloat = 10_000.0

    def places(self, uniforms: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Places counted from the oldest ``[M, B]`` for uniforms in [0, 1), of ``sizes`` ``[M]`` transitions."""
        held = sizes[:, None]
        within = -np.expm1(-held / self.scale_transitions)  # what ages below the size would have without a cut
        age = np.floor(-self.scale_transitions * np.log1p(-uniforms * within))
        places: np.ndarray = held - 1 - np.minimum(age, held - 1).astype(np.int64)
        return places


PRESETS = {"clean": Config()}
