"""Any torch module as a population: M modules whose parameters are views of one flat buffer.

Weights of all members lie side by side, ``[M, ...]``, and so do gradients and buffers; each member runs its own
``forward``. So optimizers, treatments, probes, checkpoints and forks are those of batched networks. Under ``no_grad`` a
population is in evaluation mode, else in training mode; ``undisturbed`` is for looks that need gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from plasticbench.contracts.learner import Precision
from plasticbench.learning.blueprint import Blueprint
from plasticbench.learning.module_wiring import ModuleWire
from plasticbench.learning.network import ParameterSlot
from plasticbench.learning.precision import rounding


class PlainSlot(ParameterSlot):
    """Values in the order in which a module has them."""

    def view(self, flat: Tensor) -> Tensor:
        """The parameter's values ``[M, ...]`` in a flat buffer; shares its memory."""
        return flat[self.start : self.stop].view(self.shape)


class ModuleNetwork:
    """M modules in lockstep. Weights and buffers change in place only."""

    chain = None

    def __init__(
        self, blueprint: Blueprint, num_members: int, device: torch.device, precision: Precision = "float32"
    ) -> None:
        self.precision = precision
        self.blueprint, self.specs, self.num_members = blueprint, tuple(blueprint), num_members
        self.outputs = tuple(spec for spec in blueprint if spec.name in blueprint.outputs)
        with torch.random.fork_rng(devices=[]):
            self.modules = [blueprint.make().to(device) for _ in range(num_members)]
        trained = {name: p for name, p in self.modules[0].named_parameters() if p.requires_grad}
        self.slots = _layout(trained, num_members)
        self.flat = torch.zeros(self.slots[-1].stop, device=device)
        self.flat_grad = torch.zeros_like(self.flat)
        self.parameters = self.views(self.flat)
        kept = {name: value for name, value in _tensors(self.modules[0]).items() if name not in trained}
        self.buffers = {name: torch.stack([value.detach()] * num_members) for name, value in kept.items()}
        self._leaves: list[list[nn.Parameter]] = [
            _bind(module, self._of(member), self._of(member, self.flat_grad), self._buffers_of(member))
            for member, module in enumerate(self.modules)
        ]
        self.wires = blueprint.wires
        self._holders = [
            [(*_owner(module, name), own[member]) for name, own in self.buffers.items()]
            for member, module in enumerate(self.modules)
        ]
        self._seeds: Sequence[Callable[[], int]] = ()
        self._is_disturbed = True

    def _of(self, member: int, flat: Tensor | None = None) -> dict[str, Tensor]:
        return {name: value[member] for name, value in self.views(self.flat if flat is None else flat).items()}

    def _buffers_of(self, member: int) -> dict[str, Tensor]:
        return {name: value[member] for name, value in self.buffers.items()}

    @property
    def leaves(self) -> list[nn.Parameter]:
        """What gradients are computed of, member by member."""
        return [leaf for own in self._leaves for leaf in own]

    def draw_from(self, seeds: Sequence[Callable[[], int]]) -> None:
        """Where the chance of each member's forward passes in training comes from: dropout and its like."""
        self._seeds = seeds

    # -- flat buffers --------------------------------------------------------------------------------------------

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """A flat buffer as named tensors ``[M, ...]`` that share its memory."""
        return {slot.name: slot.view(flat) for slot in self.slots}

    def matrices(self, layers: str) -> set[str]:
        """Names of the parameters that are weight matrices, of hidden layers or of all."""
        chosen = [part for part in self.blueprint.parts if part.kind == "matrix"]
        return {part.weight.tensor for part in chosen if layers == "all" or part.name not in self.blueprint.outputs}

    def gradient(self, loss: Tensor) -> Tensor:
        """The flat gradient of ``loss`` ``[M]``; the one that the optimizer sees stays as it is."""
        return self.gathered(torch.autograd.grad(loss.sum(), self.leaves, allow_unused=True, materialize_grads=True))

    def gathered(self, of_leaves: Sequence[Tensor]) -> Tensor:
        """What belongs to the leaves, in their order, as a new flat buffer."""
        flat, count = torch.empty_like(self.flat), len(self.slots)
        for number, slot in enumerate(self.slots):
            slot.view(flat).copy_(torch.stack(list(of_leaves[number::count])))
        return flat

    def spread(self, flat: Tensor) -> list[Tensor]:
        """A flat buffer as what belongs to each of the leaves; shares its memory."""
        views = self.views(flat).values()
        return [value[member] for member in range(self.num_members) for value in views]

    def flatten(self, values: Iterable[Tensor]) -> Tensor:
        """Tensors ``[M, ...]`` in the order of the parameters as a new flat buffer."""
        flat = torch.empty_like(self.flat)
        for slot, value in zip(self.slots, values, strict=True):
            slot.view(flat).copy_(value)
        return flat

    def draw(self, streams: Sequence[np.random.Generator]) -> dict[str, Tensor]:
        """New values of all parameters and buffers: each member a new module, under a seed from its own stream."""
        drawn: list[dict[str, Tensor]] = []
        for rng in streams:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(int(rng.integers(2**63)))
                drawn.append(_tensors(self.blueprint.make()))
        names = (*self.parameters, *self.buffers)
        return {name: torch.stack([own[name].detach() for own in drawn]).to(self.flat.device) for name in names}

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Copies named tensors ``[M, ...]`` into weights and buffers."""
        with torch.no_grad():
            for name, own in (*self.parameters.items(), *self.buffers.items()):
                own.copy_(values[name])

    def copy_buffers(self, other: Any) -> None:
        """Takes over another population's buffers."""
        for name, own in self.buffers.items():
            own.copy_(other.buffers[name])

    # -- forward -------------------------------------------------------------------------------------------------

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Inside, passes are in evaluation mode whether or not gradients are wanted."""
        before, self._is_disturbed = self._is_disturbed, False
        try:
            yield
        finally:
            self._is_disturbed = before

    def forward(
        self, x: Tensor, activations: list[Tensor] | None = None, parameters: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Outputs ``[M, B, ...]`` of inputs ``[M, B, ...]``; appends what the readers of units received, and features.

        With ``parameters`` of some members, by name, it is their outputs in place of those of the network's own.
        """
        trains = self._is_disturbed and torch.is_grad_enabled() and parameters is None
        outputs: list[Tensor] = []
        received: list[list[Tensor]] = []
        for member in range(x.shape[0]):
            module = self.modules[member]
            if module.training != trains:
                module.train(trains)
            with self._chance(member) if trains else nullcontext():
                taps: list[Tensor] = []
                with self._tapped(module, taps) if activations is not None else nullcontext():
                    own = None if parameters is None else {name: v[member] for name, v in parameters.items()}
                    with rounding(self.precision, x.device):
                        made = module(x[member]) if own is None else functional_call(module, own, (x[member],))
                    outputs.append(made.to(self.flat.dtype))
                received.append(taps)
            if trains:
                self._keep_buffers(member)
        if activations is not None:
            activations += [torch.stack(together).to(self.flat.dtype) for together in zip(*received, strict=True)]
        return torch.stack(outputs)

    def settle(self) -> None:
        """Nothing holds a module's weights."""

    trained_forward = forward
    """Passes with gradients are in training mode."""

    @contextmanager
    def _chance(self, member: int) -> Iterator[None]:
        if not self._seeds or not self.blueprint.is_random:
            yield
            return
        devices = [self.flat.device] if self.flat.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self._seeds[member]())
            yield

    @contextmanager
    def _tapped(self, module: nn.Module, taps: list[Tensor]) -> Iterator[None]:
        """Notes what the first reader of each layer's units receives, in the order of ``tapped``, then the features."""
        with self._receiving(module) as found:
            yield
        taps += [wire.by_unit(found[wire.readers[0].path]) for wire in self.tapped.values()]
        taps.append(_rows(found[self._last_path]))

    def unit_gradients(self, x: Tensor, direction: Tensor) -> dict[str, Tensor]:
        """Gradients of outputs, weighed by ``direction``, of what units pass on, by layer; in evaluation mode."""
        found: list[list[Tensor]] = []
        for member, module in enumerate(self.modules):
            with torch.enable_grad(), self.undisturbed(), self._receiving(module) as received:
                module.train(False)
                with rounding(self.precision, x.device):
                    outputs = module(x[member]).to(self.flat.dtype)
            heard = [received[wire.readers[0].path] for wire in self.tapped.values()]
            slopes = torch.autograd.grad(outputs, heard, direction[member], allow_unused=True, materialize_grads=True)
            found.append(
                [
                    wire.by_unit(slope.to(self.flat.dtype))
                    for wire, slope in zip(self.tapped.values(), slopes, strict=True)
                ]
            )
        return dict(zip(self.tapped, map(torch.stack, zip(*found, strict=True)), strict=True))

    @contextmanager
    def _receiving(self, module: nn.Module) -> Iterator[dict[str, Tensor]]:
        """By path what the layers that read units receive, and the last one."""
        found: dict[str, Tensor] = {}

        def note(path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
            def at_entry(layer: nn.Module, args: tuple[Any, ...]) -> None:
                found.setdefault(path, args[0])

            return at_entry

        paths = {*(wire.readers[0].path for wire in self.tapped.values()), self._last_path}
        handles = [module.get_submodule(path).register_forward_pre_hook(note(path)) for path in sorted(paths)]
        try:
            yield found
        finally:
            for handle in handles:
                handle.remove()

    @property
    def tapped(self) -> dict[str, ModuleWire]:
        """Layers whose units are read through a nonlinearity, in order."""
        return {name: wire for name, wire in self.wires.items() if wire.activation != "identity"}

    @property
    def _last_path(self) -> str:
        return self.blueprint.last_path

    def _keep_buffers(self, member: int) -> None:
        """A module that put another tensor in a buffer's place gets its own back, with the new values."""
        for owner, leaf, own in self._holders[member]:
            now = owner._buffers.get(leaf)
            if now is not None and now is not own and now.data_ptr() != own.data_ptr():
                own.copy_(now.detach())
                owner._buffers[leaf] = own


def _rows(features: Tensor) -> Tensor:
    """Features ``[rows, d]``; every position of a sequence is a row."""
    return features.reshape(-1, features.shape[-1]) if features.ndim == 3 else features.flatten(1)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _layout(trained: Mapping[str, Tensor], num_members: int) -> list[ParameterSlot]:
    slots: list[ParameterSlot] = []
    start = 0
    for name, value in trained.items():
        stop = start + num_members * value.numel()
        slots.append(PlainSlot(name, start, stop, (num_members, *value.shape)))
        start = stop
    return slots


def _bind(
    module: nn.Module, values: Mapping[str, Tensor], gradients: Mapping[str, Tensor], buffers: Mapping[str, Tensor]
) -> list[nn.Parameter]:
    """Puts views in the place of a module's tensors, one for all the places of a tied one; returns the leaves."""
    first = {parameter: name for name, parameter in reversed(list(module.named_parameters()))}
    made: dict[str, nn.Parameter] = {}
    for name, value in values.items():
        made[name] = nn.Parameter(value)
        made[name].grad = gradients[name]
    for owner in module.modules():
        for leaf, parameter in owner._parameters.items():
            if parameter is None:
                continue
            name = first[parameter]
            frozen = nn.Parameter(buffers[name], requires_grad=False) if name in buffers else None
            owner._parameters[leaf] = made[name] if frozen is None else frozen
    names = {buffer: name for name, buffer in reversed(list(module.named_buffers()))}
    for owner in module.modules():
        for leaf, buffer in owner._buffers.items():
            if buffer is not None and buffer in names:
                owner._buffers[leaf] = buffers[names[buffer]]
    return list(made.values())


def _owner(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return module.get_submodule(path), leaf
