"""Any torch module as a population of one: what reset policies and their rules see of it, sharing its memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adadelta, Adam, Adamax, AdamW, Optimizer, RAdam, RMSprop

from plasticbench.contracts.network import LayerState, NetworkState, ParameterState, Role
from plasticbench.learning.module_layers import Convolution, Share, redrawn, tensors_of
from plasticbench.learning.module_parts import Part, layout, shares, spared
from plasticbench.plugins import did_you_mean

Fresh = Callable[[], nn.Module]
"""Builds the module anew, where its layers do not start from their own ``reset_parameters``."""

ZERO_STATE_OPTIMIZERS = (Adam, AdamW, RAdam, Adamax, SGD, RMSprop, Adadelta)
"""Optimizers whose state before the first step is all zeros."""


@dataclass(slots=True, eq=False)
class ModuleState(NetworkState):
    """``tensor_names``: the module's parameter or buffer that each of the state's parameters is a part of."""

    tensor_names: Mapping[str, str] = field(default_factory=dict)


def module_state(
    module: nn.Module,
    seed: int,
    initial: Mapping[str, Tensor] | None = None,
    optimizer: Optimizer | None = None,
    *,
    outputs: Collection[str] = (),
    fresh: Fresh | None = None,
    left_alone: Collection[str] | None = None,
) -> ModuleState:
    """Weight matrices and embeddings in the order of their registration, all other parameters as normalisations.

    Tensors ``[1, ...]`` are views of the module's parameters and the optimizer's state. ``outputs`` are the names of
    the output layers, by default the last one. With convolutions in it, its linear layers are the head and all others
    the encoder; else the head is the outputs. Fresh values come from ``fresh``, or else from each layer's own
    ``reset_parameters``, under ``seed``. ``left_alone`` names tensors to leave out, by default frozen parameters.

    Raises ``ValueError`` for parameters that are unknown here, and for bad ``outputs``.
    """
    names = spared(module) if left_alone is None else left_alone
    parts = layout(module, names, takes_unknown=fresh is not None)
    if not parts:
        raise ValueError(f"module: {type(module).__name__} has no parameter that a reset could concern")
    last = _outputs(parts, outputs)
    has_convolutions = any(isinstance(part.layer, Convolution) for part in parts)
    values = _Values(module, seed, initial, optimizer, fresh)

    def role(part: Part) -> Role:
        if has_convolutions:
            return "head" if isinstance(part.layer, nn.Linear | nn.Bilinear) else "encoder"
        return "head" if part.name in last else "encoder"

    states = [
        LayerState(
            name=part.name,
            role=role(part),
            is_output=part.name in last,
            weight=values.state(part.weight),
            bias=None if part.bias is None else values.state(part.bias),
            is_table=part.kind == "table",
            also=part.also,
            is_statistic=part.name == f"{part.path}.running".lstrip("."),
        )
        for part in parts
    ]
    is_vector = {part.name: part.kind == "vector" for part in parts}
    return ModuleState(
        layers=[state for state in states if not is_vector[state.name]],
        norms=[state for state in states if is_vector[state.name]],
        second_moments=frozenset({"exp_avg_sq", "square_avg"}),
        tensor_names={
            name: share.tensor
            for part, state in zip(parts, states, strict=True)
            for name, share in zip(state.parameters, shares(part), strict=True)
        },
    )


def _outputs(parts: Sequence[Part], wanted: Collection[str]) -> set[str]:
    """Names of the parts of the output layers; a layer may be named as a whole, or by one of its parts."""
    matrices = [part for part in parts if part.kind == "matrix"]
    known = {part.path for part in matrices} | {part.name for part in matrices}
    for name in wanted:
        if name not in known:
            raise ValueError(f"outputs: no layer of weights is called {name!r}. {did_you_mean(name, known)}")
    chosen = set(wanted)
    return {part.name for part in matrices if (part.is_last if not wanted else {part.name, part.path} & chosen)}


class _Values:
    """A module's tensors as treatments see them, with new draws of them that are made when somebody asks."""

    def __init__(
        self,
        module: nn.Module,
        seed: int,
        initial: Mapping[str, Tensor] | None,
        optimizer: Optimizer | None,
        fresh: Fresh | None,
    ) -> None:
        self._module, self._seed, self._initial, self._fresh = module, seed, initial, fresh
        self._tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        self._moments = optimizer.state if optimizer is not None else {}

    def state(self, share: Share) -> ParameterState:
        """One parameter or buffer, or the part of it that is treated by itself."""
        value = self._tensors[share.tensor]
        moments = self._moments.get(value, {})
        view = share.view
        return ParameterState(
            value=view(value.detach())[None],
            draw=lambda: view(self._drawn(share.tensor, value))[None],
            original=None if self._initial is None else view(_of(self._initial, "initial", share.tensor, value))[None],
            gradient=view(value.grad)[None] if value.grad is not None else None,
            moments={name: view(held)[None] for name, held in moments.items() if _is_moment(held, value)},
        )

    def _drawn(self, name: str, like: Tensor) -> Tensor:
        return _of(self._draws, "fresh", name, like)

    @cached_property
    def _draws(self) -> Mapping[str, Tensor]:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.default_generator.manual_seed(self._seed)
            return redrawn(self._module) if self._fresh is None else tensors_of(self._fresh())


def _is_moment(held: Any, value: Tensor) -> bool:
    return isinstance(held, Tensor) and held.shape == value.shape


def _of(values: Mapping[str, Tensor], argument: str, name: str, like: Tensor) -> Tensor:
    if name not in values:
        raise ValueError(f"{argument}: must hold every parameter of the module, but {name} is missing")
    if values[name].shape != like.shape:
        raise ValueError(f"{argument}: {name} must have shape {list(like.shape)}, got {list(values[name].shape)}")
    return values[name].detach().to(like.device)


def require_optimizer_of(module: nn.Module, optimizer: Optimizer, left_alone: Collection[str] = ()) -> None:
    """Raises ``ValueError`` unless the optimizer holds every trainable parameter and its state can be zeroed.

    Those that are left alone may be missing.
    """
    if not isinstance(optimizer, ZERO_STATE_OPTIMIZERS):
        known = ", ".join(kind.__name__ for kind in ZERO_STATE_OPTIMIZERS)
        raise ValueError(f"optimizer: must be one of {known}, got {type(optimizer).__name__}")
    held = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and parameter not in held and name not in left_alone:
            raise ValueError(f"optimizer: must hold every trainable parameter of the module, but lacks {name}")


def clear_optimizer(
    optimizer: Optimizer, module: nn.Module, names: Collection[str], *, kinds: Collection[str] | None = None
) -> None:
    """Zeroes moments and step counts of these parameters, or those of these ``kinds``, in place."""
    for name, parameter in module.named_parameters():
        for kind, value in optimizer.state.get(parameter, {}).items() if name in names else ():
            if isinstance(value, Tensor) and (kinds is None or kind in kinds):
                value.zero_()


def restart_averages(module: nn.Module, names: Collection[str]) -> None:
    """Has normalisations whose ``running_mean`` is among these names count batches anew."""
    buffers = dict(module.named_buffers())
    for name in names:
        layer, _, kind = name.rpartition(".")
        if kind == "running_mean":
            buffers[f"{layer}.num_batches_tracked".lstrip(".")].zero_()


def require_twin(module: nn.Module, target: nn.Module) -> None:
    """Raises ``ValueError`` unless the target has its own tensors of the same names and shapes."""
    ours, theirs = module.state_dict(), target.state_dict()
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours or name not in theirs or ours[name].shape != theirs[name].shape:
            raise ValueError(f"target: must have the same parameters as the module, but {name} differs")
    if any(ours[name].data_ptr() == theirs[name].data_ptr() for name in ours if ours[name].numel()):
        raise ValueError("target: must not share parameters with the module")


def copy_to_target(target: nn.Module, module: nn.Module, names: set[str] | None) -> None:
    """Copies these parameters in place, or everything, buffers included."""
    source = module.state_dict()
    for name, value in target.state_dict().items():
        if names is None or name in names:
            value.copy_(source[name])
