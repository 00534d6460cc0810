"""Layer normalisation of what every hidden nonlinearity receives.

Source: Lyle et al., ICML 2023, arXiv 2303.01486: pre-activations are normalised over the features of their layer, with
a learned gain and bias, then the nonlinearity follows. Outputs are left alone.

Only what one layer's own units bring to a nonlinearity is normalised. A residual stream, and what writes into it, stay
as they are: in SimBa, which normalises the stream itself, the hidden layers inside the blocks alone gain one.

What probes measure: the units of ``fc1`` are looked at after ``fc1_norm`` and the nonlinearity, so ``dormant_ratio``,
``fraction_active`` and ``zero_activation`` are those of normalised units, and ``feature_norm`` hardly depends on the
size of the weights any more, but on the gains. Weights of normalisations count in no measurement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plasticbench.learning.layers import LayerSpec, Over
from plasticbench.learning.structures._hidden import normalised, num_hidden, takes_norm
from plasticbench.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``over``: of a convolution, one mean and variance of each row's whole map, or one for each position.

    Sources rarely say which of both they use. Gain and bias are one number for each channel in either case.
    """

    over: Over = "map"

    def inert_on(self, specs: Sequence[LayerSpec]) -> dict[str, str]:
        """Settings without effect on such a network, and why."""
        maps = any(len(spec.weight_shape) == 4 and spec.activation != "identity" for spec in specs)
        return {} if maps else {"over": "no nonlinearity stands behind a convolution"}

    def layers(self, specs: Sequence[LayerSpec]) -> list[LayerSpec]:
        """The layers with ``<name>_norm`` behind each that a nonlinearity follows, which moves there.

        Raises ``ValueError`` as ``normalised`` does, and for a single unit, of which nothing would be left.
        """
        for spec in specs[: num_hidden(specs)]:
            is_single = spec.weight_shape[0] == 1 and (len(spec.weight_shape) == 2 or self.over == "channels")
            if is_single and not spec.is_norm and takes_norm(spec):
                raise ValueError(f"layer_norm needs at least 2 units to normalise over, but {spec.name} has 1")
        return normalised(specs, "layer", self.over, "layer_norm")


PRESETS = {"clean": Config()}
