"""Normalize-and-Project: behind normalisations, weights are scaled back to their first size after every update.

Source: Lyle et al., NeurIPS 2024, arXiv 2407.01800. A normalisation stands before every nonlinearity, so the size of
the weights before it changes nothing but the effective learning rate, which stays what its schedule says. The output
layer is free. Of a normalisation, gain and shift are projected together to the length that they began with, or decay to
1 and 0, or are left free; the paper offers the first two. The method needs ``layer_norm`` beside it, or a network with
normalisations before all of its nonlinearities; the optimizer's state is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from plasticbench.contracts.network import LayerState, NetworkState
from plasticbench.contracts.treatment import Look, State
from plasticbench.learning.treatments._projection import initial_sizes, project
from plasticbench.settings import Fraction, PerMember, Settings

if TYPE_CHECKING:
    from torch import Tensor

    from plasticbench.learning.layers import LayerSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``norms``: what happens to gains and shifts; ``decay``: their share of the way to 1 and 0 at each update."""

    norms: Literal["project", "decay", "free"] = "project"
    decay: Annotated[Fraction, PerMember] = 1e-3

    def inert(self) -> dict[str, str]:
        """Settings without effect under the current values, and why."""
        return {} if self.norms == "decay" else {"decay": f"norms is {self.norms}"}

    def fits(self, layers: Sequence[LayerSpec]) -> None:
        """Raises ``ValueError`` naming the layers without a normalisation before their nonlinearity."""
        from plasticbench.learning.structures._hidden import num_hidden

        hidden = layers[: num_hidden(layers)]
        if any(layer.has_unit_rows for layer in layers):
            raise ValueError("'nap' would scale weights whose rows the network itself holds at length 1. Leave it out")
        if bare := [layer.name for layer in hidden if layer.activation != "identity" and not layer.is_norm]:
            raise ValueError(
                f"'nap' needs a normalisation before every nonlinearity, but {', '.join(bare)} "
                f"{'have' if len(bare) > 1 else 'has'} none. "
                "Put {kind: layer_norm} before it in the method, or use weight_projection"
            )

    def build(self) -> Nap:
        """The treatment."""
        return Nap(self)


PRESETS = {"clean": Config(), "decay": Config(norms="decay"), "free_norms": Config(norms="free")}


class Nap:
    """Rescales hidden weights, and holds normalisations. The state: sizes ``[m, 1, ...]`` by layer."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def init(self, net: NetworkState) -> State:
        """What hidden weights are brought back to."""
        return initial_sizes(_hidden(net), "initial")

    def on_update(self, net: NetworkState, state: State, look: Look) -> None:
        """Weights ``[m, out, in, ...]``, then gains and shifts ``[m, units]``."""
        for layer in _hidden(net):
            project(layer.weight.value, state[layer.name], "initial")
        if self.config.norms == "free":
            return
        for norm in (norm for norm in net.norms if not norm.is_output):
            assert norm.bias is not None
            if self.config.norms == "project":
                _project_together(norm.weight.value, norm.bias.value)
            else:
                _decay(norm.weight.value, norm.bias.value, self.config.decay)


def _hidden(net: NetworkState) -> list[LayerState]:
    return [layer for layer in net.layers if not layer.is_output]


def _project_together(gain: Tensor, shift: Tensor) -> None:
    """To the length of gains of 1 and shifts of 0, which is the root of the number of units."""
    length = (gain.square().sum(dim=1, keepdim=True) + shift.square().sum(dim=1, keepdim=True)).sqrt_()
    factor = (gain.shape[1] ** 0.5 / length).masked_fill_(length == 0, 1.0)
    gain.mul_(factor)
    shift.mul_(factor)


def _decay(gain: Tensor, shift: Tensor, rate: Any) -> None:
    from plasticbench.learning.members import column

    gain.lerp_(gain.new_ones(()).expand_as(gain), column(rate, gain))
    shift.mul_(1 - column(rate, shift))
