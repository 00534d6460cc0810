"""AltNet: a twin learns beside the agent, and at an event takes its place, so that a reset costs no drop.

Source: Maheshwari, Raisbeck & Castro da Silva, AAMAS 2026, arXiv 2512.01034, and the authors' code
(mansi99000/AltNet): two agents, of whom one acts. Both are trained on the same batches of the one replay, each with
targets, optimizers and an entropy temperature of its own. At an event the twin becomes the agent that acts, and the
other one starts anew in all of this, as the twin. A schedule of ``U / (replay ratio x 2)`` agent steps is the paper's
for resets every U updates of each network. Here the target of a new network is a copy of it, and both take the same
draws of an update (the policy's noise, shifts of pixels). Until it acts, a twin is not measured. Other treatments are
refused beside it: they would act on whichever of the two happens to be trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Family, Look, Report, State
from plasticbench.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from plasticbench.learning.layers import LayerSpec

_WEIGHTS = ("online", "target", "original")
_OF_A_WHOLE = "it keeps numbers or chance of a whole network, which a twin would share"


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """The method has no settings but its schedule."""

    is_for_events: ClassVar[bool] = True  # without any, nobody ever sees the twin
    is_for_agents: ClassVar[bool] = True
    has_twin: ClassVar[bool] = True
    excludes: ClassVar[dict[str, str]] = dict.fromkeys(("trac", "kron", "upgd", "batch_norm"), _OF_A_WHOLE)
    excludes_families: ClassVar[dict[Family, str]] = {"treatments": "nothing else may act on a network or on its twin"}

    def fits(self, layers: Sequence[LayerSpec]) -> None:
        """Raises ``ValueError`` for a network that is a module, whose buffers no treatment can exchange."""
        if hasattr(layers, "make"):
            raise ValueError("'altnet' needs a network that is a list of layers, such as mlp, and this one is a module")

    def build(self) -> AltNet:
        """The treatment."""
        return AltNet()


COSTS = "2.2 times as long as with none, because the twin gets an update of its own"
PRESETS = {"clean": Config()}


class AltNet:
    """The state is the twin: all that a trained network is, ``[m, ...]`` by part and parameter."""

    def init(self, net: NetworkState) -> State:
        """A new network."""
        import torch

        plain = torch.contiguous_format
        twin = {name: tensor.detach().clone(memory_format=plain) for name, tensor in net.whole().items()}
        _renew(twin, net)
        return twin

    def on_turn(self, net: NetworkState, state: State, look: Look) -> None:
        """The twin has its turn as it is."""

    def on_event(self, net: NetworkState, state: State, look: Look) -> Report:
        """They change places for good, and the one that acted is a new network."""
        _exchange(net.whole(), state)
        _renew(state, net)
        return Report(touched=set(net.parameters), is_new=True)


def _exchange(ours: Mapping[str, Tensor], theirs: State) -> None:
    import torch

    own, others = list(ours.values()), [theirs[name] for name in ours]
    before = [tensor.clone() for tensor in own]
    torch._foreach_copy_(own, others)
    torch._foreach_copy_(others, before)


def _renew(twin: State, net: NetworkState) -> None:
    """Weights, and copies of them, are a new draw; everything else begins at zero."""
    parameters = net.parameters
    for name, tensor in twin.items():
        part, _, parameter = name.partition("/")
        if part in _WEIGHTS:
            tensor.copy_(parameters[parameter].fresh)
        else:
            tensor.zero_()
