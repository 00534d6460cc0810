"""Types of the settings that treatments at events share."""

from __future__ import annotations

from typing import Literal

InitSource = Literal["fresh", "original"]
"""Where initial weights come from: a new draw of the initialiser, or the network's first initialisation."""

Rest = Literal["keep", "reset"]
"""What happens to the layers that were not selected."""

Solver = Literal["newton_schulz", "svd"]
"""How the nearest isometry is found: by the authors' iteration, or exactly."""

Scale = Literal["muon", "norm_preserving", "none"]
"""What an isometry is multiplied by."""

NOTHING_DRAWN = "no layer takes initial weights"
NO_REST = "all layers are selected"
