"""A trained network with all that belongs to it: target, optimizer, first initialisation and treatments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from plasticbench.contracts.learner import Precision
from plasticbench.contracts.network import NetworkState, NetworkView
from plasticbench.contracts.treatment import Part, Report, TargetRule
from plasticbench.learning.applied import Application, AppliedParts, Network
from plasticbench.learning.blueprint import Blueprint
from plasticbench.learning.clipping import MemberClipping
from plasticbench.learning.descent import descend_along, descend_through, descend_together
from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.look import Sample
from plasticbench.learning.members import members_of, not_finite_members, stacked
from plasticbench.learning.module_network import ModuleNetwork
from plasticbench.learning.module_population import module_state, shown_activations, shown_view
from plasticbench.learning.network import PopulationNetwork
from plasticbench.learning.optimizer import (
    BaseSettings,
    DrawsNoise,
    KeepsMemberState,
    OptimizerConfig,
    PopulationOptimizer,
)
from plasticbench.learning.optimizers import adam
from plasticbench.learning.views import LazyDraw, network_state
from plasticbench.seeding import Streams

Parts = Sequence[Sequence[Part]]
"""The parts of each member's method."""


class _Pass(NamedTuple):
    """What the network read last while it was trained, and what its hidden layers passed on."""

    inputs: Tensor
    hidden: list[Tensor] | None
    next_inputs: Tensor | None


class TrainedNetwork:
    """``original`` holds the first initialisation in the layout of ``online.flat``; an actor has no target.

    ``sections``: layers of one network that treatments may be placed on as if they were a network of their own.
    """

    def __init__(self, name: str, online: Network, optimizer: PopulationOptimizer, target: Network | None) -> None:
        self.name, self.online, self.optimizer, self.target = name, online, optimizer, target
        self.original = torch.zeros_like(online.flat)
        self.original_buffers: dict[str, Tensor] = {}
        self.descended: list[Any] | None = None  # naming them costs a thirtieth of a small update
        self.streams: Sequence[Streams] = ()
        self.parts = AppliedParts(self, ())
        self._clip: MemberClipping | None = None
        self.sections: Mapping[str, frozenset[str]] = {}
        self._last: _Pass | None = None
        self._acting: list[Application] | None = None
        self.cut: Tensor | None = None  # outputs at which the graph of the pass that is trained on begins
        self.make: Callable[[], tuple[Network, PopulationOptimizer, Network | None]]  # others like its own
        self.double: Any = None  # where what takes turns lies: learning/turns.py
        self.watch: Callable[[Sample], None] | None = None  # sees the rows of each update
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
        precision: Precision = "float32",
    ) -> TrainedNetwork:
        """Initialises each member from its own ``init/<name>`` stream; a target starts as a copy.

        ``parts`` are those of each member; all members have the same structures and kind of optimizer, which is
        ``optimizer``, or else Adam, where their parts name none. Each member's gradient of the agent's loss is held to
        ``max_gradient_norm``. With ``loss_reaches_others`` that loss depends on other networks' weights as well, which
        get no gradient.
        """
        concerned = [[part for part in own if part.concerns(name)] for own in parts]  # of sections nothing is built
        for part in concerned[0] if parts else ():
            if part.family == "structures":
                specs = part.config.layers(specs)
        kind: Any = partial(ModuleNetwork if isinstance(specs, Blueprint) else PopulationNetwork, precision=precision)
        optimizers = [part.config for member in concerned for part in member if part.family == "optimizers"]
        chosen: OptimizerConfig = stacked(optimizers, device) if optimizers else optimizer or adam.Config()

        def make() -> tuple[Network, PopulationOptimizer, Network | None]:
            made: Network = kind(specs, len(streams), device)
            made.draw_from([own.seeds(f"forward/{name}") for own in streams])
            return made, chosen.build(made, base), kind(specs, len(streams), device) if target == "copy" else None

        trained = cls(name, *make())
        online, trained.make = trained.online, make
        trained.descended = online.leaves if loss_reaches_others else None
        trained.streams, trained.sections = streams, sections or {}
        if isinstance(trained.optimizer, DrawsNoise):
            trained.optimizer.draw_from(streams, f"optimizer/{name}")
        if max_gradient_norm is not None:
            trained._clip = MemberClipping(online.slots, max_gradient_norm)
        online.load(trained._draw(range(len(streams))))
        trained.original.copy_(online.flat)
        trained.original_buffers = {name: value.clone() for name, value in online.buffers.items()}
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
        """Copies online networks into targets."""
        self.move_target(1.0)

    def move_target(self, tau: float) -> None:
        """Every member's target <- tau online + (1 - tau) target, where there is one."""
        if self.target is not None:
            self.target.flat.lerp_(self.online.flat, tau)
            self.target.copy_buffers(self.online)

    def forward_target(self, x: Tensor) -> Tensor:
        """Outputs of the target network, which must exist."""
        assert self.target is not None
        return self.target.forward(x)

    def begin(self, step: int) -> None:
        """What comes before ``forward`` in an update at clock ``step``, which ``descend`` ends."""
        self._acting = self.parts.due(step)
        for part in self._acting:
            part.on_pass(step)

    def forward(self, x: Tensor, next_inputs: Tensor | None = None) -> Tensor:
        """Outputs of the online network for the rows that it is about to be trained on: treatments may look at them."""
        looks = self.parts.look_at_activations or self.watch is not None
        if self.online.chain is not None and self._acting is not None and not looks:
            self.cut = self.online.chain.forward(x, keeps=True).requires_grad_()
            return self.cut
        hidden: list[Tensor] | None = [] if looks else None
        self._last = _Pass(x, hidden, next_inputs)
        return self.online.trained_forward(x, hidden)

    def descend(self, loss: Tensor, step: int, share: float = 1.0) -> None:
        """One step of every member down ``loss`` ``[M]`` at clock ``step``, and what its treatments do around it.

        ``share``: how much of its step the optimizer makes, which is linear in its learning rate. The agent's gradient
        is clipped before treatments see it, so that a steep loss does not scale down what they add.
        """
        descend_together((self,), loss, step, self._clip, share)

    def descend_through(self, losses: Iterable[Tensor], step: int, share: float = 1.0) -> None:
        """The same down the sum of several losses ``[M]``, each of which is let go before the next is made."""
        descend_through(self, losses, step, self._clip, share)

    def descend_along(self, pull: Tensor, step: int) -> None:
        """The same where ``cut`` is given, and the gradient of the loss there is ``pull``."""
        descend_along(self, pull, step, self._clip)

    def begun(self, step: int) -> list[Application]:
        """Who acts in the update under way."""
        acting = self.parts.due(step) if self._acting is None else self._acting
        assert self._acting is not None or not any(part.acts_at_passes for part in acting), "begin comes before forward"
        self._acting = None
        return acting

    def pass_back(self) -> None:
        """Finishes the pass back where the graph did not reach the weights."""
        if self.cut is not None and self.online.chain is not None:
            self.online.chain.backward(self.cut.grad)
            self.cut = None

    def follow_gradient(self, acting: Sequence[Application], step: int, share: float) -> None:
        """What follows once ``online.flat_grad`` holds each member's gradient."""
        if self.watch is not None and not self.parts.is_turn:
            self.watch(self.last_sample())
        for part in acting:
            part.on_gradient(step)
        before = self.online.flat.clone() if share != 1.0 else None
        self.optimizer.step()
        if before is not None:
            self.online.flat.lerp_(before, 1 - share)
        self.online.settle()
        for part in acting:
            part.on_update(step)
        self._last = None

    def passed_on(self, names: Iterable[str]) -> list[Tensor]:
        """What layers passed on in the pass that is trained on, with its graph."""
        assert self._last is not None
        found = shown_activations(self.online, self._last.hidden or [])
        return [found[name] for name in names]

    def last_sample(self) -> Sample:
        """The rows of the update under way, as treatments look at them."""
        assert self._last is not None
        inputs, hidden, next_inputs = self._last
        return Sample(
            inputs,
            lambda: shown_activations(self.online, [passed_on.detach() for passed_on in hidden or ()]),
            lambda: self.online.views(self.online.flat_grad),
            next_inputs,
        )

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
        """The network of some members, or a ``section`` of it, as treatments see it: ``fresh`` values or new ones."""
        if isinstance(self.online, ModuleNetwork):
            return self._module_state(members, fresh or self.fresh(members), of == "target", fresh is not None)
        whole = self._whole_state(members, of, fresh or self.fresh(members))
        if section is None:
            return whole
        own = self.sections[section]
        layers, norms = ([layer for layer in found if layer.name in own] for found in (whole.layers, whole.norms))
        return replace(whole, layers=layers, norms=norms)

    def _whole_state(self, members: slice, of: Literal["online", "target"], fresh: LazyDraw) -> NetworkState:
        assert isinstance(self.online, PopulationNetwork)
        if of == "target":
            assert isinstance(self.target, PopulationNetwork)
            return network_state(self.target, members, fresh=fresh, buffers={"original": self.original}, moments={})
        return network_state(
            self.online,
            members,
            fresh=fresh,
            buffers={"original": self.original, "gradient": self.online.flat_grad},
            moments=self.optimizer.moments,
            second_moments=self.optimizer.second_moments,
        )

    def _module_state(self, members: slice, fresh: LazyDraw, of_target: bool, is_event: bool) -> NetworkState:
        """Running statistics are rewritten by events alone."""
        network = self.target if of_target else self.online
        assert isinstance(network, ModuleNetwork)
        own = {} if of_target else {"gradient": network.flat_grad}
        return module_state(
            network,
            members,
            fresh=fresh.__getitem__,
            renew=fresh.renew,
            buffers={"original": self.original, **own},
            original_buffers=self.original_buffers,
            moments={} if of_target else self.optimizer.moments,
            second_moments=self.optimizer.second_moments,
            with_statistics=is_event,
        )

    def renew_buffers(self, members: slice, report: Report, target_rule: TargetRule) -> None:
        """Statistics start anew with their gains, in targets that follow as well; other buffers in a new network."""
        is_batched = isinstance(self.online, PopulationNetwork)
        for name, value in self.online.buffers.items():
            layer, _, kind = name.rpartition(".")
            is_count = kind == "num_batches_tracked" and f"{layer}.running.weight".lstrip(".") in report.touched
            is_statistic = kind in ("running_mean", "running_var")
            follows = is_batched and is_statistic and f"{layer}.weight" in report.touched
            if is_count or follows or (report.is_new and not is_statistic):
                value[members] = self.original_buffers[name][members]
            is_followed = (is_batched and target_rule == "sync") or (follows and target_rule != "keep")
            if is_followed and self.target is not None:
                self.target.buffers[name][members] = value[members]

    def clear_moments(self, members: slice, names: set[str] | None, section: str | None = None) -> None:
        """The optimizer state of these parameters, or all, or all in a section, becomes that of a new one."""
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
        for row in (row for row, slot in enumerate(self.online.slots) if slot.name in names):
            self.optimizer.steps[row, members] = 0
        self.optimizer.rebuild()

    def not_finite(self) -> dict[int, str]:
        """Members with weights that are not finite, and the first such parameter of each; waits for the device."""
        found: dict[int, str] = {}
        for prefix, network in (("target ", self.target), ("", self.online)):
            if network is not None and not bool(network.flat.isfinite().all()):
                found |= not_finite_members(network.views(network.flat), f"parameter {prefix}{self.name}")
        return found

    def silence(self, members: Sequence[int]) -> None:
        """Weights, moments and treatments' states of these members become zeros; ``hold`` brings the first two back."""
        networks = [network.flat for network in (self.online, self.target) if network is not None]
        named = [self.online.views(flat) for flat in (*networks, *self.optimizer.moments.values())]
        kept = [network.buffers for network in (self.online, self.target) if network is not None]
        named += [{name: value for name, value in own.items() if value.is_floating_point()} for own in kept]
        if isinstance(self.optimizer, KeepsMemberState):
            named.append(dict(self.optimizer.member_state))
        self._held = [value[member] for views in named for value in views.values() for member in members]
        self.parts.silence(members)
        self.hold()

    def hold(self) -> None:
        """Zeros again what an update or an event has written of silent members."""
        torch._foreach_zero_(self._held)

    def saved_parts(self) -> dict[str, dict[str, Tensor]]:
        """All that is trained or follows training, ``[M, ...]`` by part and name; counts of updates aside."""
        views = self.online.views
        saved = {"online": views(self.online.flat), "original": views(self.original)}
        saved |= {name: views(moment) for name, moment in self.optimizer.moments.items()}
        saved |= {"buffers": self.online.buffers, "original_buffers": self.original_buffers}
        if isinstance(self.optimizer, KeepsMemberState):
            saved["optimizer"] = dict(self.optimizer.member_state)
        twin = self.target
        return saved if twin is None else saved | {"target": views(twin.flat), "target_buffers": twin.buffers}

    def state_dict(self) -> dict[str, Tensor]:
        """Named tensors, each ``[M, ...]``, and the states of treatments."""
        tensors = {
            f"{self.name}/{part}/{name}": tensor
            for part, named in self.saved_parts().items()
            for name, tensor in named.items()
        }
        return tensors | {f"{self.name}/adam_steps": self.optimizer.steps.T.contiguous()} | self.parts.state_dict()

    def load_state_dict(
        self, state: Mapping[str, Tensor], parents: Sequence[int], plain: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """Member i becomes a copy of the saved member ``parents[i]``; ``plain`` is what ``parts.plain_state`` gave."""
        with torch.no_grad():
            for part, named in self.saved_parts().items():
                for name, tensor in named.items():
                    for own, parent in zip(tensor, parents, strict=True):  # copies nothing else on the way
                        own.copy_(state[f"{self.name}/{part}/{name}"][parent])
        self.optimizer.steps.copy_(state[f"{self.name}/adam_steps"][list(parents)].T)
        self.optimizer.rebuild()
        self.parts.load(state, plain, parents)

    def clipped(self, gradients: Tensor) -> Tensor:
        """Flat gradients of the agent's loss as the optimizer would follow them."""
        if self._clip is not None:
            self._clip(gradients := gradients.clone())
        return gradients

    def view(
        self, name: str, obs: Tensor, gradients: Tensor, previous: Tensor | None, followed: Tensor | None = None
    ) -> NetworkView:
        """What probes see, under ``name``, of the online network on its inputs ``[M, N, ...]``.

        ``gradients`` is flat and not clipped, as those are that the optimizer would have ``followed``, unless these are
        given; ``previous``, flat, holds the weights before the reset that is being measured.
        """
        views = self.online.views
        followed = self.clipped(gradients) if followed is None else followed
        captured = {
            "initial": views(self.original),
            "gradient": views(gradients),
            "update": views(self.optimizer.preview(followed)),
        }
        if previous is not None:
            captured["previous"] = views(previous)
        return shown_view(name, self.online, obs, captured)

    def target_view(self, name: str, obs: Tensor) -> NetworkView:
        """The target network, which must exist; it has no gradients."""
        assert self.target is not None
        return shown_view(name, self.target, obs, {"initial": self.online.views(self.original)})
