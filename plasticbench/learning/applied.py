"""Treatments at work on one trained network: who is concerned, when they act, and what they keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Part, Report, State, TargetRule, hooks_of
from plasticbench.learning.event import apply_event
from plasticbench.learning.look import MemberLook, Sample
from plasticbench.learning.members import members_of, regular_slices, shared_settings, stacked
from plasticbench.learning.module_network import ModuleNetwork
from plasticbench.learning.network import PopulationNetwork
from plasticbench.learning.optimizer import PopulationOptimizer
from plasticbench.learning.views import LazyDraw
from plasticbench.seeding import Streams

Network = PopulationNetwork | ModuleNetwork
"""Layers that run batched, or modules one by one."""


class Treated(Protocol):
    """A trained network as its treatments need it; ``TrainedNetwork`` is one."""

    name: str
    streams: Sequence[Streams]
    online: Network
    target: Network | None

    @property
    def optimizer(self) -> PopulationOptimizer:
        """What makes its steps."""
        ...

    def saved_parts(self) -> Mapping[str, Mapping[str, Tensor]]:
        """All that is trained or follows training, ``[M, ...]`` by part and name; counts of updates aside."""
        ...

    def fresh(self, members: slice) -> LazyDraw:
        """New initial values of some members, drawn when they are read."""
        ...

    def is_concerned(self, part: Part) -> bool:
        """Whether a part acts on this network, or on a section of it."""
        ...

    def section_of(self, part: Part) -> str | None:
        """The section that a part is placed on; ``None`` for one that acts on the whole network, or not at all."""
        ...

    def state_of(
        self,
        members: slice,
        *,
        of: Literal["online", "target"] = "online",
        fresh: LazyDraw | None = None,
        section: str | None = None,
    ) -> NetworkState:
        """The network of some members, or a section of it, as treatments see it."""
        ...

    def clear_moments(self, members: slice, names: set[str] | None, section: str | None = None) -> None:
        """The optimizer's state of these parameters (or all) of these members becomes that of a new optimizer."""
        ...

    def clear_steps(self, members: slice, names: set[str]) -> None:
        """Updates of these parameters of these members are counted anew."""
        ...

    def renew_buffers(self, members: slice, report: Report, target_rule: TargetRule) -> None:
        """Buffers that belong to what an event has rewritten start anew."""
        ...

    def last_sample(self) -> Sample:
        """The rows of the update under way."""
        ...


class _PopulationSubject:
    """Some members of a population as a reset event sees them: one draw of fresh values serves network and target."""

    def __init__(self, trained: Treated, members: slice, section: str | None) -> None:
        self._trained, self._members, self._section = trained, members, section
        self._fresh = trained.fresh(members)

    @cached_property
    def online(self) -> NetworkState:
        return _state_of(self._trained, self._members, self._fresh, self._section)

    @cached_property
    def target(self) -> NetworkState | None:
        if self._trained.target is None:
            return None
        return self._trained.state_of(self._members, of="target", fresh=self._fresh, section=self._section)

    def clear_moments(self, names: set[str] | None) -> None:
        self._trained.clear_moments(self._members, names, self._section)

    def clear_steps(self, names: set[str]) -> None:
        self._trained.clear_steps(self._members, names)

    def sync_target(self, names: set[str] | None) -> None:
        assert self._trained.target is not None
        for name, parameter in self._trained.target.parameters.items():
            if names is None or name in names:
                parameter[self._members] = self._trained.online.parameters[name][self._members]

    def require_finite(self) -> None:
        """Whoever carries out the event looks at every member by itself: one must not end the others."""

    def tensors(self) -> Mapping[str, Tensor]:
        target = self._trained.target
        twin = {f"target.{name}": value for name, value in target.parameters.items()} if target is not None else {}
        return {**self._trained.online.parameters, **twin}


class Application:
    """One part of the methods of members ``first::step``; their settings differ at most where ``PerMember`` allows."""

    def __init__(self, trained: Treated, index: int, parts: Sequence[Part], members: slice) -> None:
        self.index, self.parts, self.members = index, parts, members
        self._trained, self._device = trained, trained.online.flat.device
        self._section = trained.section_of(parts[0])
        self._treatment = self._built(range(len(parts)))[1]
        self._hooks = hooks_of(self._treatment)
        self.acts_at_passes, self.acts_at_pass_back = "pass" in self._hooks, "backward" in self._hooks
        self.acts_at_updates = self._hooks not in ((), ("event",))
        self.takes_turns = "turn" in self._hooks
        self.state: State | None = None
        self._kept: State | None = None  # what takes turns, once it lies where it is trained
        self.is_stale = False
        self.last_step = parts[0].begin_step

    def _built(self, positions: Sequence[int]) -> tuple[Any, Any]:
        config = stacked([self.parts[position].config for position in positions], self._device)
        return config, config.build()

    @cached_property
    def _net(self) -> NetworkState:
        return _state_of(self._trained, self.members, None, self._section)

    def _begun(self) -> State:
        """The state, made when the treatment first acts: what it starts from are the weights of that moment."""
        if self.state is None:
            with torch.no_grad():
                self.state = self._treatment.init(self._net) if hasattr(self._treatment, "init") else {}
        return self.state

    def is_due(self, step: int) -> bool:
        """Whether it acts in an update at this clock; with a period, once in each."""
        part = self.parts[0]
        if step <= part.begin_step or (
            part.every_steps and step // part.every_steps == self.last_step // part.every_steps
        ):
            return False
        self.last_step = step
        return True

    @torch.no_grad()
    def on_pass(self, step: int) -> None:
        """Before the pass that is trained on."""
        if "pass" in self._hooks:
            self._treatment.on_pass(self._net, self._begun(), self._look(step, self.members, None))

    @torch.no_grad()
    def on_backward(self, step: int) -> Mapping[str, Tensor]:
        """Before the pass backward."""
        if "backward" not in self._hooks:
            return {}
        look = self._look(step, self.members, self._trained.last_sample())
        found: Mapping[str, Tensor] = self._treatment.on_backward(self._net, self._begun(), look)
        return found

    @torch.no_grad()
    def on_gradient(self, step: int) -> None:
        """Between backward and the optimizer's step."""
        state = self._begun()
        if "gradient" in self._hooks:
            self._treatment.on_gradient(self._net, state, self._look(step, self.members, self._trained.last_sample()))

    @torch.no_grad()
    def on_update(self, step: int) -> None:
        """After the optimizer's step."""
        if "update" in self._hooks:
            look = self._look(step, self.members, self._trained.last_sample())
            self._treatment.on_update(self._net, self._begun(), look)
        self._net.renew()

    @torch.no_grad()
    def on_turn(self, step: int) -> None:
        """Before the turn of what it keeps."""
        self._treatment.on_turn(self._net, self._begun(), self._look(step, self.members, None))

    @torch.no_grad()
    def keep_in(self, trained: Treated) -> bool:
        """Has what takes turns lie where it is trained from now on; returns whether that was written to from here."""
        state = self._begun()
        if state is not self._kept:
            for name, tensor in _whole(trained, self.members).items():
                tensor.copy_(state[name])
                state[name] = tensor
            self._kept, self.is_stale = state, True
        was_stale, self.is_stale = self.is_stale, False
        return was_stale

    def _look(self, step: int, members: slice, sample: Sample | None) -> MemberLook:
        stream = f"treatment/{self._trained.name}/{self.parts[0].kind}"
        return MemberLook(self._trained.streams, stream, members, step, sample, self._trained.online)

    def on_event(self, positions: slice, step: int, sample: Sample | None) -> Report:
        """The event of those of its members that stand at ``positions``."""
        config, treatment = self._built(members_of(positions))
        own = members_of(self.members)[positions]
        members = slice(own.start, own.stop, own.step)
        state = {name: tensor[positions] for name, tensor in self._begun().items()}
        subject = _PopulationSubject(self._trained, members, self._section)
        report = apply_event(treatment, config, subject, state, self._look(step, members, sample))
        self._trained.renew_buffers(members, report, getattr(config, "target", "keep"))
        if self.takes_turns:
            self._trained.optimizer.rebuild()
            self.is_stale = True
        return report


def _state_of(trained: Treated, members: slice, fresh: LazyDraw | None, section: str | None) -> NetworkState:
    """The network of some members as treatments see it, the whole of it included."""
    state = trained.state_of(members, fresh=fresh, section=section)
    return replace(state, whole=lambda: _whole(trained, members))


def _whole(trained: Treated, members: slice) -> dict[str, Tensor]:
    parts = trained.saved_parts().items()
    named = {f"{part}/{name}": tensor[members] for part, own in parts for name, tensor in own.items()}
    return named | {"steps": trained.optimizer.steps.T[members]}


class AppliedParts:
    """All treatments of one trained network, each member's in the order of its method."""

    def __init__(self, trained: Treated, parts: Sequence[Sequence[Part]]) -> None:
        self._trained = trained
        self.applications = [
            Application(trained, index, [parts[member][index] for member in members_of(members)], members)
            for index, together in _grouped(parts, trained)
            for members in regular_slices(together)
        ]
        self._at_updates = [application for application in self.applications if application.acts_at_updates]
        self.is_turn = False  # of what one of them keeps, in which nothing else acts

    @property
    def look_at_activations(self) -> bool:
        """Whether the passes that are trained on should be remembered."""
        return bool(self._at_updates)

    def due(self, step: int) -> list[Application]:
        """Those that act in an update at this clock."""
        return [] if self.is_turn else [application for application in self._at_updates if application.is_due(step)]

    def taking_turns(self, step: int) -> list[Application]:
        """Those whose turn follows an update at this clock."""
        return [one for one in self.applications if one.takes_turns and step > one.parts[0].begin_step]

    def event(self, index: int, members: Sequence[int], step: int, sample: Sample | None) -> Report:
        """The event of the members' part number ``index``; measurements ``[m]`` in the order of ``members``."""
        merged = Report()
        row = {member: number for number, member in enumerate(members)}
        for application in self.applications:
            own = list(members_of(application.members))
            concerned = [position for position, member in enumerate(own) if member in row]
            if application.index != index or not concerned:
                continue
            for positions in regular_slices(concerned):
                report = application.on_event(positions, step, sample)
                merged.touched |= report.touched
                rows = [row[own[position]] for position in members_of(positions)]
                for name, values in report.measurements.items():
                    merged.measurements.setdefault(name, values.new_full((len(row),), torch.nan))[rows] = values
        return merged

    def silence(self, members: Sequence[int]) -> None:
        """What is kept of these members becomes zeros."""
        for application in self.applications:
            rows = [row for row, member in enumerate(members_of(application.members)) if member in members]
            for tensor in (application.state or {}).values():
                tensor[rows] = 0

    # -- saving and going on -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors ``[m, ...]`` of the members that ``plain_state`` names."""
        return {
            f"{self._trained.name}/treatment/{number}/{name}": tensor
            for number, application in enumerate(self.applications)
            for name, tensor in (application.state or {}).items()
        }

    def plain_state(self) -> list[dict[str, Any]]:
        """Of each application: whose state it is, by part and member, and when it last acted."""
        return [
            {
                "members": list(members_of(application.members)),
                "parts": [part.id for part in application.parts],
                "names": None if application.state is None else list(application.state),
                "last_step": application.last_step,
            }
            for application in self.applications
        ]

    def load(self, tensors: Mapping[str, Tensor], plain: Sequence[Mapping[str, Any]], parents: Sequence[int]) -> None:
        """Member i goes on with the states of the saved member ``parents[i]``, part by part; others begin later."""
        saved = {
            (part, member): (number, row)
            for number, entry in enumerate(plain)
            for row, (part, member) in enumerate(zip(entry["parts"], entry["members"], strict=True))
        }
        for application in self.applications:
            keys = [(p.id, parents[m]) for p, m in zip(application.parts, members_of(application.members), strict=True)]
            found = [saved[key] for key in keys if key in saved]
            if not found:
                continue
            assert len(found) == len(keys), "members that act together have acted together"
            application.last_step = plain[found[0][0]]["last_step"]
            if (names := plain[found[0][0]]["names"]) is not None:
                application.state = {name: self._gathered(tensors, name, found) for name in names}

    def _gathered(self, tensors: Mapping[str, Tensor], name: str, found: Sequence[tuple[int, int]]) -> Tensor:
        rows = [tensors[f"{self._trained.name}/treatment/{number}/{name}"][row] for number, row in found]
        return torch.stack(rows).to(self._trained.online.flat.device)


def _grouped(parts: Sequence[Sequence[Part]], trained: Treated) -> list[tuple[int, list[int]]]:
    """Position in the method, and the members whose part there can act together; in the order of the methods' parts."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for member, own in enumerate(parts):
        for index, part in enumerate(own):
            if part.family == "treatments" and trained.is_concerned(part):
                shared = shared_settings(part.config)
                key = (index, shared, part.begin_step, part.every_steps, trained.section_of(part))
                groups.setdefault(key, []).append(member)
    return [(key[0], members) for key, members in sorted(groups.items(), key=lambda item: item[0][0])]
