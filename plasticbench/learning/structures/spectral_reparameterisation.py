"""Sigma-reparameterisation: hidden weights are divided by their largest singular value, times a learned number.

Source: Zhai et al., ICML 2023, arXiv 2303.06296: ``W x + b`` becomes ``(gamma / sigma(W)) W x + b`` with one gamma for
each layer, which starts at 1. The size of W then plays no part, only its directions. A convolution is the matrix
``out x (in kh kw)``. Their sigma takes one step of a power iteration at each update, from vectors that are kept; here
ten steps begin anew in each pass from one fixed vector, so that a network is a function of its weights alone. As theirs
it is at most the true one, and gradients take its vectors for constants. Outputs are left alone.

What probes measure: weights are those before the division. Gammas count in no measurement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.structures._hidden import num_hidden
from plasticbench.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """The method has no settings."""

    excludes: ClassVar[dict[str, str]] = {"nap": "it would project gammas as if they were gains and shifts"}

    def layers(self, specs: Sequence[LayerSpec]) -> list[LayerSpec]:
        """The layers with ``<name>_gamma`` behind each hidden one; ``ValueError`` if there is none."""
        hidden = specs[: num_hidden(specs)]
        if all(spec.is_norm for spec in hidden):
            raise ValueError("spectral_reparameterisation needs a hidden layer, but this network has outputs alone")
        rewritten: list[LayerSpec] = []
        for spec in hidden:
            if spec.is_norm:
                rewritten.append(spec)
                continue
            closes = spec.wiring == "closes_residual"
            gamma = LayerSpec(f"{spec.name}_gamma", spec.role, (1,), activation=spec.activation, norm="gamma")
            rewritten.append(spec._replace(activation="identity", wiring="chain" if closes else spec.wiring))
            rewritten.append(gamma._replace(wiring="closes_residual") if closes else gamma)
        return [*rewritten, *specs[num_hidden(specs) :]]


PRESETS = {"clean": Config()}
