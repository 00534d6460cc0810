"""AID in place of every hidden ReLU: by chance a unit passes on what is positive or what is negative.

Source: activation by interval-wise dropout, Park, Han, Oh & Kim, ICML 2025, arXiv 2502.01342: in training each entry
has a mask that is 1 with probability p: ``mask relu(x) - (1 - mask) relu(-x)``; in evaluation a leaky ReLU with slopes
p above 0 and 1 - p below, its mean. The less likely interval brings networks closer to linear ones, which do not lose
plasticity. Rewards were raised with p from 0.99 on. Whether the published agents have noise in targets and while they
act could not be looked up: here masks are drawn for the rows that a network is trained on alone. Acting, targets,
what an actor hears from its critics, penalties and probes go by the slopes.

What probes measure: a unit is dead on a batch where no input is above 0, although it passes on a share of its input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.structures._hidden import hidden_relus
from plasticbench.settings import OpenFraction, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``keep``: the probability that what is positive is let through, and what is negative held back."""

    keep: OpenFraction = 0.99

    def layers(self, specs: Sequence[LayerSpec]) -> list[LayerSpec]:
        """The layers with every hidden ReLU replaced; raises ``ValueError`` if there is none."""
        replaced = hidden_relus(specs, "aid")
        return [
            spec._replace(activation="aid", constant=self.keep) if spec.name in replaced else spec for spec in specs
        ]


PRESETS = {"clean": Config(), "images": Config(keep=0.9)}
