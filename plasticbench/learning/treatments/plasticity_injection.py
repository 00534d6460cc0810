"""Plasticity injection: at an event the head is frozen, and a new one learns on top, which at first changes no output.

Source: Nikishin, Oh, Ostrovski, Lyle, Pascanu, Dabney & Barreto, NeurIPS 2023, arXiv 2305.15555: the network becomes
h(f(x)) + h1(f(x)) - h2(f(x)), h is frozen, h1 and h2 are one and the same new draw, of which h1 alone is trained. The
encoder f goes on, through all three heads. The target keeps its own h and gets the online network's draw. It needs
``injection_heads`` before it in the method, which says what a head is. Biases of the outputs add up, so there is one,
which is trained. Injected once; a later event changes nothing. Draws come from the treatment's own stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from plasticbench.contracts.network import LayerState, NetworkState
from plasticbench.contracts.treatment import Look, OptimizerRule, Report, State, TargetRule
from plasticbench.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from plasticbench.learning.layers import LayerSpec

_HEADS = 3
_RECYCLES = "it would recycle the units that wait for the injection"
_REWRITES = "it would rewrite heads that are frozen"


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``optimizer``: the new head begins with the state of a new optimizer, or all do, or state and count go on."""

    most_events: ClassVar[int] = 1
    target: ClassVar[TargetRule] = "same_operation"
    excludes: ClassVar[dict[str, str]] = {
        **dict.fromkeys(
            ("redo", "regrama", "partial_reset", "continual_backprop", "self_normalized_resets"), _RECYCLES
        ),
        **dict.fromkeys(("full_reset", "last_layers", "shrink_perturb", "drm", "fire", "hare_tortoise"), _REWRITES),
    }
    optimizer: OptimizerRule = "reset_touched"

    def fits(self, layers: Sequence[LayerSpec]) -> None:
        """Raises ``ValueError`` for a network without room for the heads."""
        if not any(layer.spare_units * _HEADS == layer.weight_shape[0] * (_HEADS - 1) for layer in layers):
            raise ValueError(
                "'plasticity_injection' needs heads to inject into. Put {kind: injection_heads} before it in the "
                "method, behind structures that change widths"
            )

    def build(self) -> PlasticityInjection:
        """The treatment."""
        return PlasticityInjection()


PRESETS = {"clean": Config(), "fire_code": Config(optimizer="reset"), "timoklein": Config(optimizer="keep")}


class PlasticityInjection:
    """Fills the second and the third head, and holds the first and the third.

    The state: ``step`` ``[m]`` of the injection, 0 before it, and what the heads' weights were then, by full name.
    """

    def init(self, net: NetworkState) -> State:
        """Nothing is frozen yet."""
        import torch

        hidden = net.layers[0].weight.value
        plain = torch.contiguous_format
        state = {name: value.clone(memory_format=plain) for name, value, _ in _heads(net, "value")}
        return {"step": hidden.new_zeros(len(hidden), dtype=torch.int64), **state}

    def on_event(self, net: NetworkState, state: State, look: Look) -> Report:
        """Of members that have no injection yet; of the target, of those whose online network just had one."""
        is_target = net.layers[0].weight.gradient is None
        chosen = state["step"] == (look.step if is_target else 0)
        for member in chosen.nonzero().flatten().tolist():
            _inject(net, member, look)
        if not is_target:
            state["step"].masked_fill_(chosen, look.step)
            for name, value, _ in _heads(net, "value"):
                state[name][chosen] = value[chosen]
        touched = {name for name, _, _ in _heads(net, "value")}
        return Report(touched=touched, measurements={"injected": chosen.float()})

    def on_gradient(self, net: NetworkState, state: State, look: Look) -> None:
        """Frozen heads have none."""
        is_free = state["step"] == 0
        for _, gradient, units in _heads(net, "gradient"):
            for head in _frozen(gradient, units):
                head.mul_(is_free.view(-1, *(1,) * (head.ndim - 1)))

    def on_update(self, net: NetworkState, state: State, look: Look) -> None:
        """What momentum or decay did to frozen heads is taken back."""
        is_frozen = state["step"] > 0
        for name, value, units in _heads(net, "value"):
            for head, held in zip(_frozen(value, units), _frozen(state[name], units), strict=True):
                head.copy_(held.where(is_frozen.view(-1, *(1,) * (head.ndim - 1)), head))


def _layers(net: NetworkState) -> tuple[LayerState, list[LayerState]]:
    """The hidden layer of the heads, and the outputs."""
    outputs = [layer for layer in net.layers if layer.is_output]
    return net.layers[len(net.layers) - len(outputs) - 1], outputs


def _heads(net: NetworkState, what: str) -> Iterator[tuple[str, Tensor, int]]:
    """Of each parameter of the heads: full name, tensor ``[m, ...]``, and along which dimension the three lie."""
    hidden, outputs = _layers(net)
    for name, parameter in hidden.parameters.items():
        yield name, getattr(parameter, what), 1
    for layer in outputs:
        yield f"{layer.name}.weight", getattr(layer.weight, what), 2


def _frozen(tensor: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    first, _, third = tensor.chunk(_HEADS, dim=dim)
    return first, third


def _inject(net: NetworkState, member: int, look: Look) -> None:
    """One draw of a new head, added and taken away."""
    hidden, outputs = _layers(net)
    rng = look.rng(member)
    for layer in (hidden, *outputs):
        assert layer.redraw is not None, "layers of a population can be drawn"
        weight, bias = layer.redraw(rng)
        if layer.is_output:
            _, second, third = layer.weight.value[member].chunk(_HEADS, dim=1)
            new = weight.chunk(_HEADS, dim=1)[0]
            second.copy_(new)
            third.copy_(-new)
            continue
        for parameter, drawn in ((layer.weight, weight), (layer.bias, bias)):
            if parameter is not None and drawn is not None:
                for head in parameter.value[member].chunk(_HEADS)[1:]:
                    head.copy_(drawn.chunk(_HEADS)[0])
