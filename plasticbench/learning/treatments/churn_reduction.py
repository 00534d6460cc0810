"""Churn reduction: an update is kept from changing outputs for states that it was not made for.

Source: C-CHAIN, Tang et al., ICML 2025 (after Tang & Berseth, NeurIPS 2024, arXiv 2409.04792): the loss plus strength
times the mean squared difference between the network and itself before its last update, on a reference batch other than
the one that is trained on. Outputs that move together with whatever is learnt lose rank, and plasticity with it. The
reference batch is that of the update before, which is as random a sample of the replay; all outputs count. The papers
adapt the strength to the size of the loss, which is not offered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, State
from plasticbench.learning.treatments._penalty import Outcome, add_penalty
from plasticbench.settings import Ge, PerMember, Settings

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``strength`` of the penalty."""

    strength: Annotated[float, Ge(0), PerMember] = 1.0

    def build(self) -> ChurnReduction:
        """The treatment."""
        return ChurnReduction(self)


COSTS = "1.7 to 2.2 times as long as with none, because of two passes forward and one backward"
PRESETS = {"clean": Config()}

_INPUTS = "reference inputs"


class ChurnReduction:
    """The state: all parameters before the last update ``[m, ...]`` by full name, and the rows that it trained on.

    It needs two passes of its own, one of them backward.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    def init(self, net: NetworkState) -> State:
        """Nothing has changed yet. In one layout whether restored or not, on which the rounding of products depends."""
        import torch

        plain = torch.contiguous_format
        return {name: parameter.value.clone(memory_format=plain) for name, parameter in net.parameters.items()}

    def on_gradient(self, net: NetworkState, state: State, look: Look) -> None:
        """Penalises what the last update did to the rows before; these are what to look back at next."""
        reference = state.get(_INPUTS)
        if reference is not None:
            before = {name: state[name] for name in net.parameters}
            old = look.evaluate(before, reference)[0]

            def penalty(outcome: Outcome) -> Tensor:
                return (outcome[0] - old).square().mean(dim=(1, 2))

            add_penalty(net, look, reference, self.config.strength, penalty)
        for name, parameter in net.parameters.items():
            state[name].copy_(parameter.value)
        state[_INPUTS] = look.inputs.detach().clone()
