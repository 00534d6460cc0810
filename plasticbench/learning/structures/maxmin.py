"""MaxMin in place of every hidden ReLU: pairs of units are sorted, which changes no length.

Source: Anil, Lucas & Grosse, ICML 2019, arXiv 1811.05381 (GroupSort with groups of two); the nonlinearity with which
AdamO's authors train (Rosseau et al. 2026, arXiv 2606.09762), since with orthogonal layers the whole network is then an
isometry almost everywhere. Of the units 2i and 2i + 1 (channels, position by position) the larger goes first. What a
reader's column reads is no longer one unit, so units cannot be judged or exchanged one by one: ``redo`` and its kin
refuse such a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.structures._hidden import with_activation
from plasticbench.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """Nothing to set."""

    def layers(self, specs: Sequence[LayerSpec]) -> list[LayerSpec]:
        """The layers with every hidden ReLU replaced; raises ``ValueError`` if there is none, or for an odd width."""
        rewritten = with_activation(specs, "maxmin", "maxmin")
        if odd := [f"{s.weight_shape[0]} in {s.name}" for s in rewritten if s.activation == "maxmin" and _is_odd(s)]:
            raise ValueError(f"maxmin sorts pairs, so it needs even numbers of units, got {', '.join(odd)}")
        return rewritten


def _is_odd(spec: LayerSpec) -> bool:
    return spec.weight_shape[0] % 2 == 1


PRESETS = {"clean": Config()}
