"""Room for plasticity injection: the last hidden layer and the outputs, three times side by side.

Source: Nikishin et al., NeurIPS 2023, arXiv 2305.15555: h(f(x)) + h1(f(x)) - h2(f(x)), where a head h is here the last
hidden layer with the outputs that read it, as in the code of FIRE (arXiv 2602.08040) for DQN. Three heads side by side
are one hidden layer with three times the units. Until ``plasticity_injection`` fills them, the units of h1 and h2 are
zeros, incoming and outgoing, which no gradient moves; first weights and outputs are those of the network without them.

What probes measure: waiting units count, and are dormant, so until the injection two thirds of that layer's are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.structures._hidden import num_hidden
from plasticbench.settings import Settings

HEADS = 3
_ZERO_AT_ZERO = ("relu", "leaky_relu", "tanh")


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """Nothing to set."""

    def layers(self, specs: Sequence[LayerSpec]) -> list[LayerSpec]:
        """The layers with spare units in the last hidden one.

        Raises ``ValueError`` unless that is a plain linear layer behind whose nonlinearity zeros stay zeros.
        """
        last = num_hidden(specs)
        head = specs[last - 1] if last else None
        if head is None or len(head.weight_shape) != 2 or head.wiring != "chain" or not _keeps_zeros(head):
            found = f"{head.name} (activation: {head.activation})" if head is not None else "none"
            raise ValueError(
                f"injection_heads needs a linear layer with one of {', '.join(_ZERO_AT_ZERO)} right before the "
                f"outputs, got {found}. Leave normalisations and other nonlinearities out, or choose another network"
            )
        units, inputs = head.weight_shape
        spare = (HEADS - 1) * units
        wider = head._replace(weight_shape=(HEADS * units, inputs), spare_units=head.spare_units + spare)
        outputs = [
            spec._replace(weight_shape=(spec.weight_shape[0], HEADS * units), spare_inputs=spec.spare_inputs + spare)
            for spec in specs[last:]
        ]
        return [*specs[: last - 1], wider, *outputs]


PRESETS = {"clean": Config()}


def _keeps_zeros(head: LayerSpec) -> bool:
    return head.activation in _ZERO_AT_ZERO
