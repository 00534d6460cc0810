"""Any torch module as a population of one: what reset policies and their rules see of it, sharing its memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import SGD, Adadelta, Adam, Adamax, AdamW, Optimizer, RAdam, RMSprop

from plasticbench.contracts.network import LayerState, NetworkState, ParameterState, Role
from plasticbench.plugins import did_you_mean

Fresh = Callable[[], nn.Module]
"""Builds the module anew, where its layers do not start from their own ``reset_parameters``."""

ZERO_STATE_OPTIMIZERS = (Adam, AdamW, RAdam, Adamax, SGD, RMSprop, Adadelta)
"""Optimizers whose state before the first step is all zeros."""


def module_state(
    module: nn.Module,
    seed: int,
    initial: Mapping[str, Tensor] | None = None,
    optimizer: Optimizer | None = None,
    *,
    outputs: Collection[str] = (),
    fresh: Fresh | None = None,
) -> NetworkState:
    """Linear and two-dimensional convolutional layers in the order of their registration.

    Tensors ``[1, ...]`` are views of the module's parameters and the optimizer's state. ``outputs`` are the names of
    the output layers, by default the last one. With convolutions in it, these are the encoder and the linear layers the
    head; else the head is the outputs. A weight that several layers share is listed once. Fresh values come from
    ``fresh``, or else from each layer's own ``reset_parameters``, under ``seed``.
    """
    layers = _layers(module)
    for name in outputs:
        if name not in layers:
            raise ValueError(f"outputs: no Linear or Conv2d layer is called {name!r}. {did_you_mean(name, layers)}")
    has_convolutions = any(isinstance(layer, nn.Conv2d) for layer in layers.values())
    last = set(outputs) or {next(reversed(layers))}

    @cache
    def drawn() -> dict[str, dict[str, Tensor]]:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return _drawn(fresh()) if fresh is not None else {name: _redraw(layer) for name, layer in layers.items()}

    def parameter(layer_name: str, kind: str, value: Tensor) -> ParameterState:
        moments = optimizer.state.get(value, {}) if optimizer is not None else {}
        return ParameterState(
            value=value.detach().unsqueeze(0),
            draw=lambda: drawn()[layer_name][kind].to(value.device)[None],
            original=_original(initial, f"{layer_name}.{kind}", value) if initial is not None else None,
            gradient=value.grad.unsqueeze(0) if value.grad is not None else None,
            moments={name: held.unsqueeze(0) for name, held in moments.items() if _is_moment(held, value)},
        )

    def role(name: str) -> Role:
        in_encoder = isinstance(layers[name], nn.Conv2d) if has_convolutions else name not in last
        return "encoder" if in_encoder else "head"

    return NetworkState(
        layers=[
            LayerState(
                name=name,
                role=role(name),
                is_output=name in last,
                weight=parameter(name, "weight", layer.weight),
                bias=parameter(name, "bias", layer.bias) if layer.bias is not None else None,
            )
            for name, layer in layers.items()
        ],
        second_moments=frozenset({"exp_avg_sq", "square_avg"}),
    )


def _is_moment(held: Any, value: Tensor) -> bool:
    return isinstance(held, Tensor) and held.shape == value.shape


def _layers(module: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    layers: dict[str, nn.Linear | nn.Conv2d] = {}
    seen: set[nn.Parameter] = set()
    for name, layer in module.named_modules():
        if not isinstance(layer, nn.Linear | nn.Conv2d) or layer.weight in seen:
            continue
        if not isinstance(layer.weight, nn.Parameter):
            raise ValueError(f"module: {name}.weight is computed from other tensors; remove its parametrization first")
        if is_lazy(layer.weight):
            raise ValueError(f"module: {name}.weight has no shape yet; run the module once first")
        if isinstance(layer, nn.Conv2d) and layer.groups != 1:
            raise ValueError(f"module: {name} must be an ungrouped convolution, got groups={layer.groups}")
        seen.add(layer.weight)
        layers[name] = layer
    if not layers or "" in layers:
        raise ValueError(f"module: must contain a Linear or Conv2d layer below itself, got {type(module).__name__}")
    return layers


def _redraw(layer: nn.Linear | nn.Conv2d) -> dict[str, Tensor]:
    """New initial values on the CPU, where one seed gives the same draw for every device.

    A shallow copy with parameters of its own: a deep copy would drag along whatever the layer's hooks refer to.
    """
    twin = copy.copy(layer)
    twin._parameters = {
        name: nn.Parameter(torch.empty_like(value, device="cpu")) if value is not None else None
        for name, value in layer._parameters.items()
    }
    twin.reset_parameters()
    return {name: value.detach() for name, value in twin._parameters.items() if value is not None}


def _drawn(module: nn.Module) -> dict[str, dict[str, Tensor]]:
    return {name: {k: p.detach() for k, p in layer.named_parameters()} for name, layer in _layers(module).items()}


def _original(initial: Mapping[str, Tensor], name: str, value: Tensor) -> Tensor:
    if name not in initial:
        raise ValueError(f"initial: must hold every parameter of the module, but {name} is missing")
    if initial[name].shape != value.shape:
        raise ValueError(f"initial: {name} must have shape {list(value.shape)}, got {list(initial[name].shape)}")
    return initial[name].detach().to(value.device).unsqueeze(0)


def require_optimizer_of(module: nn.Module, optimizer: Optimizer) -> None:
    """Raises ``ValueError`` unless the optimizer holds every trainable parameter and its state can be zeroed."""
    if not isinstance(optimizer, ZERO_STATE_OPTIMIZERS):
        known = ", ".join(kind.__name__ for kind in ZERO_STATE_OPTIMIZERS)
        raise ValueError(f"optimizer: must be one of {known}, got {type(optimizer).__name__}")
    held = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and parameter not in held:
            raise ValueError(f"optimizer: must hold every trainable parameter of the module, but lacks {name}")


def clear_optimizer(
    optimizer: Optimizer, module: nn.Module, names: set[str] | None, *, kinds: Collection[str] | None = None
) -> None:
    """Zeroes moments and step counts, or those of these ``kinds``, in place: of these parameters, or of the module."""
    chosen = module.parameters() if names is None else {module.get_parameter(name) for name in names}
    for parameter in chosen:
        for kind, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor) and (kinds is None or kind in kinds):
                value.zero_()


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
