"""A trained network with all that belongs to it: target, optimizer, first initialisation and treatments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from plasticbench.contracts.network import NetworkState, NetworkView
from plasticbench.contracts.treatment import Part
from plasticbench.learning.applied import AppliedParts
from plasticbench.learning.clipping import MemberClipping
from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.look import Sample
from plasticbench.learning.members import members_of, stacked
from plasticbench.learning.network import PopulationNetwork
from plasticbench.learning.optimizer import (
    BaseSettings,
    DrawsNoise,
    KeepsMemberState,
    OptimizerConfig,
    PopulationOptimizer,
)
from plasticbench.learning.optimizers import adam
from plasticbench.learning.views import LazyDraw, activations_of, network_state, network_view
from plasticbench.seeding import Streams

Parts = Sequence[Sequence[Part]]
"""The parts of each member's method."""


class _Pass(NamedTuple):
    """What the network read last while it was trained, and what its hidden layers passed on."""

    inputs: Tensor
    hidden: list[Tensor] | None


class TrainedNetwork:
    """``original`` holds the first initialisation in the layout of ``online.flat``; an actor has no target.

    ``sections``: layers of one network that treatments may be placed on as if they were a network of their own.
    """

    def __init__(
        self, name: str, online: PopulationNetwork, optimizer: PopulationOptimizer, target: PopulationNetwork | None
    ) -> None:
        self.name, self.online, self.optimizer, self.target = name, online, optimizer, target
        self.original = torch.zeros_like(online.flat)
        self._parameters = list(online.parameters.values())
        self._descended: list[nn.Parameter] | None = None  # naming them costs a thirtieth of a small update
        self.streams: Sequence[Streams] = ()
        self.parts = AppliedParts(self, ())
        self._clip: MemberClipping | None = None
        self.sections: Mapping[str, frozenset[str]] = {}
        self._last: _Pass | None = None
        self._held: list[Tensor] = []  # what is zero of members that are silent

    @classmethod
    def build(
        cls,
        name: str,
        specs: Sequence[LayerSpec],
        base: BaseSettings,
        streams: Sequence[Streams],
        device: torch.device,
        target: Literal["copy", "none"] = "copy",
        parts: Parts = (),
        max_gradient_norm: float | None = None,
        optimizer: OptimizerConfig | None = None,
        *,
        loss_reaches_others: bool = False,
        sections: Mapping[str, frozenset[str]] | None = None,
    ) -> TrainedNetwork:
        """Initialises each member from its own ``init/<name>`` stream; a target starts as a copy.

        ``parts`` are those of each member; all members have the same structures and kind of optimizer, which is
        ``optimizer``, or else Adam, where their parts name none. Each member's gradient of the agent's loss is held to
        ``max_gradient_norm``. With ``loss_reaches_others`` that loss depends on other networks' weights as well, which
        get no gradient.
        """
        # Nothing is built of a section.
        concerned = [[part for part in member if part.concerns(name)] for member in parts]
        for part in concerned[0] if parts else ():
            if part.family == "structures":
                specs = part.config.layers(specs)
        online = PopulationNetwork(specs, len(streams), device)
        twin = PopulationNetwork(specs, len(streams), device) if target == "copy" else None
        optimizers = [part.config for member in concerned for part in member if part.family == "optimizers"]
        chosen: OptimizerConfig = stacked(optimizers, device) if optimizers else optimizer or adam.Config()
        trained = cls(name, online, chosen.build(online, base), twin)
        trained._descended = trained._parameters if loss_reaches_others else None
        trained.streams, trained.sections = streams, sections or {}
        if isinstance(trained.optimizer, DrawsNoise):
            trained.optimizer.draw_from(streams, f"optimizer/{name}")
        if max_gradient_norm is not None:
            trained._clip = MemberClipping(online.slots, max_gradient_norm)
        online.load(trained._draw(range(len(streams))))
        trained.original.copy_(online.flat)
        trained.sync_target()
        trained.parts = AppliedParts(trained, parts)
        return trained

    def is_concerned(self, part: Part) -> bool:
        """Whether a part acts on this network, or on a section of it."""
        return part.concerns(self.name) or self.section_of(part) is not None

    def section_of(self, part: Part) -> str | None:
        """The section that a part is placed on; ``None`` for one that acts on the whole network, or not at all."""
        return None if part.concerns(self.name) else next(filter(part.concerns, self.sections), None)

    def _draw(self, members: Sequence[int]) -> dict[str, Tensor]:
        return self.online.draw([self.streams[member][f"init/{self.name}"] for member in members])

    def sync_target(self) -> None:
        """Copies the online network of every member into its target."""
        self.move_target(1.0)

    def move_target(self, tau: float) -> None:
        """Every member's target <- tau online + (1 - tau) target, where there is one."""
        if self.target is not None:
            self.target.flat.lerp_(self.online.flat, tau)

    def forward_target(self, x: Tensor) -> Tensor:
        """Outputs of the target network, which must exist."""
        assert self.target is not None
        return self.target.forward(x)

    # -- training ------------------------------------------------------------------------------------------------

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of the online network for the rows that it is about to be trained on: treatments may look at them."""
        hidden: list[Tensor] | None = [] if self.parts.look_at_activations else None
        self._last = _Pass(x, hidden)
        return self.online.forward(x, hidden)

    def descend(self, loss: Tensor, step: int) -> None:
        """One step of every member down ``loss`` ``[M]`` at clock ``step``, and what its treatments do around it.

        The agent's gradient is clipped before treatments see it: what they add is not scaled down because the agent's
        loss happens to be steep, nor does it push the agent's share aside.
        """
        self.online.flat_grad.zero_()
        torch.autograd.backward(loss.sum(), inputs=self._descended)
        if self._clip is not None:
            self._clip(self.online.flat_grad)
        self.follow_gradient(step)

    def follow_gradient(self, step: int, share: float = 1.0) -> None:
        """What follows once ``online.flat_grad`` holds each member's gradient; ``share`` of the optimizer's step."""
        acting = self.parts.due(step)
        for part in acting:
            part.on_gradient(step)
        before = self.online.flat.clone() if share < 1 else None
        self.optimizer.step()
        if before is not None:
            self.online.flat.lerp_(before, 1 - share)
        for part in acting:
            part.on_update(step)
        self._last = None

    def gradient(self, loss: Tensor) -> Tensor:
        """The flat gradient of ``loss`` ``[M]``; the one that the optimizer sees stays as it is."""
        # Some structures leave a parameter unused, whose gradient is zero.
        gradients = torch.autograd.grad(loss.sum(), self._parameters, allow_unused=True, materialize_grads=True)
        return self.online.flatten(gradients)

    def last_sample(self) -> Sample:
        """The rows of the update under way, as treatments look at them."""
        assert self._last is not None
        inputs, hidden = self._last
        return Sample(
            inputs,
            lambda: activations_of(self.online, [passed_on.detach() for passed_on in hidden or ()]),
            lambda: self.online.views(self.online.flat_grad),
        )

    # -- resets --------------------------------------------------------------------------------------------------

    def fresh(self, members: slice) -> LazyDraw:
        """New initial values of some members, drawn when they are read."""
        return LazyDraw(lambda: self._draw(members_of(members)))

    def state_of(
        self,
        members: slice,
        *,
        of: Literal["online", "target"] = "online",
        fresh: LazyDraw | None = None,
        section: str | None = None,
    ) -> NetworkState:
        """The network of some members as treatments see it; ``fresh`` values are a draw of its own, or a given one.

        Of a ``section`` its layers alone, which know their readers in the whole network.
        """
        whole = self._whole_state(members, of, fresh or self.fresh(members))
        if section is None:
            return whole
        layers, norms = (
            [layer for layer in found if layer.name in self.sections[section]] for found in (whole.layers, whole.norms)
        )
        return replace(whole, layers=layers, norms=norms)

    def _whole_state(self, members: slice, of: Literal["online", "target"], fresh: LazyDraw) -> NetworkState:
        if of == "target":
            assert self.target is not None
            return network_state(self.target, members, fresh=fresh, buffers={"original": self.original}, moments={})
        return network_state(
            self.online,
            members,
            fresh=fresh,
            buffers={"original": self.original, "gradient": self.online.flat_grad},
            moments=self.optimizer.moments,
            second_moments=self.optimizer.second_moments,
        )

    def clear_moments(self, members: slice, names: set[str] | None, section: str | None = None) -> None:
        """The optimizer's state of these parameters of these members becomes that of a new optimizer.

        Without names it is that of all parameters, or of all in a section.
        """
        cleared = self._names(section) if names is None else names
        for moment in self.optimizer.moments.values():
            for name, view in self.online.views(moment).items():
                if name in cleared:
                    view[members] = 0.0
        if isinstance(self.optimizer, KeepsMemberState) and len(cleared) == len(self.online.slots):
            self.optimizer.restart(members)
        self.clear_steps(members, cleared)

    def _names(self, section: str | None) -> set[str]:
        layers = None if section is None else self.sections[section]
        return {slot.name for slot in self.online.slots if layers is None or slot.name.rpartition(".")[0] in layers}

    def clear_steps(self, members: slice, names: set[str]) -> None:
        """The optimizer counts the updates of these parameters of these members anew."""
        for row, slot in enumerate(self.online.slots):
            if slot.name in names:
                self.optimizer.steps[row, members] = 0
        self.optimizer.rebuild()

    # -- members that are not finite -----------------------------------------------------------------------------

    def not_finite(self) -> dict[int, str]:
        """Members with weights that are not finite, and the first such parameter of each; waits for the device."""
        found: dict[int, str] = {}
        for prefix, network in (("", self.online), ("target ", self.target)):
            if network is None or bool(network.flat.isfinite().all()):
                continue
            for name, values in network.views(network.flat).items():
                for member in (~values.flatten(1).isfinite().all(1)).nonzero().flatten().tolist():
                    found.setdefault(member, f"parameter {prefix}{self.name}.{name}")
        return found

    def silence(self, members: Sequence[int]) -> None:
        """Weights, moments and treatments' states of these members become zeros; ``hold`` brings the first two back."""
        networks = [network.flat for network in (self.online, self.target) if network is not None]
        named = [self.online.views(flat) for flat in (*networks, *self.optimizer.moments.values())]
        if isinstance(self.optimizer, KeepsMemberState):
            named.append(dict(self.optimizer.member_state))
        self._held = [value[member] for views in named for value in views.values() for member in members]
        self.parts.silence(members)
        self.hold()

    def hold(self) -> None:
        """Zeros again what an update or an event has written of silent members."""
        torch._foreach_zero_(self._held)

    # -- saving, and what probes see -----------------------------------------------------------------------------

    def _saved_parts(self) -> dict[str, dict[str, Tensor]]:
        views = self.online.views
        saved = {"online": views(self.online.flat), "original": views(self.original)}
        saved |= {name: views(moment) for name, moment in self.optimizer.moments.items()}
        if isinstance(self.optimizer, KeepsMemberState):
            saved["optimizer"] = dict(self.optimizer.member_state)
        return saved if self.target is None else saved | {"target": views(self.target.flat)}

    def state_dict(self) -> dict[str, Tensor]:
        """Named tensors, each ``[M, ...]``, and the states of treatments."""
        tensors = {
            f"{self.name}/{part}/{name}": tensor
            for part, named in self._saved_parts().items()
            for name, tensor in named.items()
        }
        return tensors | {f"{self.name}/adam_steps": self.optimizer.steps.T.contiguous()} | self.parts.state_dict()

    def load_state_dict(
        self, state: Mapping[str, Tensor], parents: Sequence[int], plain: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """Member i becomes a copy of the saved member ``parents[i]``; ``plain`` is what ``parts.plain_state`` gave."""
        members = torch.tensor(list(parents))
        with torch.no_grad():
            for part, named in self._saved_parts().items():
                for name, tensor in named.items():
                    tensor.copy_(state[f"{self.name}/{part}/{name}"].index_select(0, members))
        self.optimizer.steps.copy_(state[f"{self.name}/adam_steps"].index_select(0, members).T)
        self.optimizer.rebuild()
        self.parts.load(state, plain, parents)

    def view(
        self, name: str, obs: Tensor, gradients: Tensor, previous: Tensor | None, followed: Tensor | None = None
    ) -> NetworkView:
        """What probes see, under ``name``, of the online network on its inputs ``[M, N, ...]``.

        ``gradients`` is flat and not clipped, as those are that the optimizer would have ``followed``, unless these are
        given; ``previous``, flat, holds the weights before the reset that is being measured.
        """
        views = self.online.views
        if followed is None:
            followed = gradients
            if self._clip is not None:
                self._clip(followed := gradients.clone())
        captured = {
            "initial": views(self.original),
            "gradient": views(gradients),
            "update": views(self.optimizer.preview(followed)),
        }
        if previous is not None:
            captured["previous"] = views(previous)
        return network_view(name, self.online, obs, captured)

    def target_view(self, name: str, obs: Tensor) -> NetworkView:
        """The target network, which must exist; it has no gradients."""
        assert self.target is not None
        return network_view(name, self.target, obs, {"initial": self.online.views(self.original)})


def descend_together(
    networks: Sequence[TrainedNetwork], loss: Tensor, step: int, clip: MemberClipping | None, share: float = 1.0
) -> None:
    """One step of several networks down one loss ``[M]`` that all of them made, each with its own optimizer.

    ``clip`` holds each member's gradient over all of them. ``share``: how much of its step each optimizer makes.
    """
    for network in networks:
        network.online.flat_grad.zero_()
    torch.autograd.backward(loss.sum())
    if clip is not None:
        clip(*(network.online.flat_grad for network in networks))
    for network in networks:
        network.follow_gradient(step, share)
