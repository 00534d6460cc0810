"""One update of trained networks: a loss passes back, treatments act around it, and every optimizer makes its step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from plasticbench.learning.applied import Application, Network
from plasticbench.learning.clipping import MemberClipping
from plasticbench.learning.denormals import flushed


class Descending(Protocol):
    """A trained network as an update needs it; ``TrainedNetwork`` is one.

    ``descended``: the parameters that a loss passes back to, or ``None`` for all that it reaches. ``cut``: outputs
    that it passes back to in their place, from which ``pass_back`` goes on.
    """

    online: Network
    descended: list[Any] | None
    cut: Tensor | None

    def begun(self, step: int) -> list[Application]:
        """Who acts in the update under way."""
        ...

    def passed_on(self, names: Iterable[str]) -> list[Tensor]:
        """What layers passed on in the pass that is trained on, with its graph."""
        ...

    def pass_back(self) -> None:
        """Finishes the pass back where the graph did not reach the weights."""
        ...

    def follow_gradient(self, acting: Sequence[Application], step: int, share: float) -> None:
        """What follows once ``online.flat_grad`` holds each member's gradient."""
        ...


@flushed()
def descend_together(
    networks: Sequence[Descending], loss: Tensor, step: int, clip: MemberClipping | None, share: float = 1.0
) -> None:
    """One step of several networks down one loss ``[M]`` that all of them made, each with its own optimizer.

    ``clip`` holds each member's gradient of the loss over all of them; what treatments' penalties add is not clipped,
    and passes back by itself then. ``share``: how much of its step each optimizer makes.
    """
    acting, inputs = _begun(networks, step)
    layers, pulls = _penalties(networks, acting, step)
    if clip is None:
        torch.autograd.backward([loss.sum(), *layers], [None, *pulls], inputs=inputs)
        _pass_back(networks)
    else:
        torch.autograd.backward(loss.sum(), inputs=inputs, retain_graph=bool(layers))
        _pass_back(networks)
        clip(*(network.online.flat_grad for network in networks))
        if layers:
            torch.autograd.backward(layers, pulls, inputs=inputs)
    for network, own in zip(networks, acting, strict=True):
        network.follow_gradient(own, step, share)


@flushed()
def descend_along(network: Descending, pull: Tensor, step: int, clip: MemberClipping | None) -> None:
    """One step of a network whose ``cut`` has outputs, where the gradient of the loss is ``pull`` ``[M, B, outputs]``.

    Nothing penalises such a pass: what it passed on is not looked at.
    """
    assert network.cut is not None
    [acting], _ = _begun([network], step)
    network.cut.grad = pull
    network.pass_back()
    if clip is not None:
        clip(network.online.flat_grad)
    network.follow_gradient(acting, step, 1.0)


@flushed()
def descend_through(
    network: Descending, losses: Iterable[Tensor], step: int, clip: MemberClipping | None, share: float = 1.0
) -> None:
    """One step of a network down the sum of several losses ``[M]``, each of which is let go before the next is made.

    Penalties look at the last of these passes.
    """
    [acting], inputs = _begun([network], step)
    is_penalised = any(part.acts_at_pass_back for part in acting)
    for loss in losses:
        torch.autograd.backward(loss.sum(), inputs=inputs, retain_graph=is_penalised)
    if clip is not None:
        clip(network.online.flat_grad)
    if is_penalised:
        layers, pulls = _penalties([network], [acting], step)
        torch.autograd.backward(layers, pulls, inputs=inputs)
    network.follow_gradient(acting, step, share)


def _begun(networks: Sequence[Descending], step: int) -> tuple[list[list[Application]], list[Any] | None]:
    """Who acts, and what the loss passes back to: ``None`` for all that it reaches."""
    is_cut = any(network.cut is not None for network in networks)
    named: list[Any] = []
    for network in networks:
        if network.cut is None:
            network.online.flat_grad.zero_()
            named += (network.online.leaves if is_cut else network.descended) or ()
        else:
            named.append(network.cut)
    return [network.begun(step) for network in networks], named or None


def _pass_back(networks: Sequence[Descending]) -> None:
    for network in networks:
        network.pass_back()


def _penalties(
    networks: Sequence[Descending], acting: Sequence[Sequence[Application]], step: int
) -> tuple[list[Tensor], list[Tensor]]:
    """What layers passed on, and the gradients of treatments' penalties on it, ``[M, N, ...]`` each."""
    layers: list[Tensor] = []
    gradients: list[Tensor] = []
    for network, own in zip(networks, acting, strict=True):
        pulls = _pulls(network.online.num_members, own, step)
        layers += network.passed_on(pulls) if pulls else ()
        gradients += pulls.values()
    return layers, gradients


def _pulls(num_members: int, acting: Sequence[Application], step: int) -> Mapping[str, Tensor]:
    pulls: dict[str, Tensor] = {}
    for part in acting:
        for name, pull in part.on_backward(step).items():
            if name not in pulls:
                pulls[name] = pull.new_zeros(num_members, *pull.shape[1:])
            pulls[name][part.members] += pull
    return pulls
