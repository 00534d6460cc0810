"""Batch normalisation of inputs and of what every hidden nonlinearity passes on.

Source: CrossQ + WN, Palenicek, Vogt, Watson & Peters 2025, arXiv 2502.07523, after CrossQ (Bhatt, Palenicek, et al.,
ICLR 2024, arXiv 1902.05605) and its code (adityab/CrossQ): of each unit mean and variance over the rows of the batch,
with a learned gain and shift; running means of both (momentum 0.99) where a network is not trained. Weights before a
normalisation have a size that matters to nothing but how fast they learn: beside it, the paper's weight normalisation
is ``{kind: weight_projection, preset: crossq_wn}``, which holds every unit's incoming weights at length 1. Channels of
a convolution have one mean and variance each.

CrossQ has no targets, and normalises an update's rows and the next ones together. Agents here have targets, which go by
the running means, as does everything but the rows that are trained on; penalties go by the statistics of their rows.

Behind a unit that is active on all rows of a batch nothing of its bias is left, so that its gradient is rounding, of
which Adam makes whole steps: there a member agrees less closely with itself in other company.

What probes measure: units are looked at before the normalisation; features after it. Running statistics start anew with
the gains, in a reset that concerns them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.structures._hidden import activations, num_hidden
from plasticbench.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``inputs``: whether they are normalised as well, as in CrossQ."""

    inputs: bool = True

    def layers(self, specs: Sequence[LayerSpec]) -> list[LayerSpec]:
        """The layers with ``<name>_norm`` behind each nonlinearity; ``ValueError`` if there is none."""
        first, rewritten = specs[0], []
        for spec in specs[: num_hidden(specs)]:
            rewritten.append(spec)
            if spec.activation != "identity" and spec.wiring != "closes_residual":
                rewritten.append(_norm(f"{spec.name}_norm", spec, spec.weight_shape[0] * _width(spec)))
        if len(rewritten) == num_hidden(specs):
            raise ValueError(
                f"batch_norm needs a hidden nonlinearity, but this network has none (nonlinearities: "
                f"{activations(specs)}). Leave batch_norm out, or choose another network"
            )
        if self.inputs and not first.is_norm:
            rewritten.insert(0, _norm("input_norm", first, first.weight_shape[1]))
        return [*rewritten, *specs[num_hidden(specs) :]]


PRESETS = {"clean": Config()}


def _norm(name: str, beside: LayerSpec, units: int) -> LayerSpec:
    return LayerSpec(name, beside.role, (units,), activation="identity", norm="batch")


def _width(spec: LayerSpec) -> int:
    from plasticbench.learning.activations import ACTIVATIONS

    return ACTIVATIONS[spec.activation].width_factor
