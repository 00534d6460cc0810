"""Every transition that the replay holds is as likely as any other.

Source: Lin 1992; the rule of DQN (Mnih et al. 2015) and SAC.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plasticbench.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """Nothing to set."""

    def places(self, uniforms: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Places counted from the oldest ``[M, B]`` for uniforms in [0, 1), of ``sizes`` ``[M]`` transitions."""
        places: np.ndarray = (uniforms * sizes[:, None]).astype(np.int64)
        return places


PRESETS = {"clean": Config()}
