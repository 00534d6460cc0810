"""Any ``torch.nn.Module`` as probes see it; looking leaves no trace in it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from plasticbench import plugins
from plasticbench.contracts.network import LayerView, NetworkView
from plasticbench.learning.module_layers import Convolution, Share
from plasticbench.learning.module_parts import Part, ignored, layout

Batch = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]
"""What a module is called with (a tuple is spread over its arguments); the first dimension is the N rows."""

Initial = nn.Module | Mapping[str, Tensor]
"""The first initialisation: a copy of the module, or its state dict."""


@dataclass(slots=True)
class _Call:
    """The first run of one layer, with its matrices."""

    layer: nn.Module
    parts: list[Part]
    output_shape: torch.Size | None = None
    activation: Tensor | None = None


class _Tape:
    """Notes every layer that has weight matrices in the order of their first runs.

    What a layer receives is the previous layer's output after the nonlinearity, be that a module or a function.
    """

    def __init__(self, parts: Sequence[Part], inputs: Sequence[Tensor]) -> None:
        self._parts: dict[nn.Module, list[Part]] = {}
        for part in parts:
            if part.kind == "matrix":
                self._parts.setdefault(part.layer, []).append(part)
        self._received = list(inputs)
        self.calls: dict[nn.Module, _Call] = {}
        self.features: Tensor | None = None  # [N, d], what the latest layer received

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Hooks the layers for the duration of the block."""
        handles = []
        try:
            for layer in self._parts:
                handles.append(layer.register_forward_pre_hook(self._enter, with_kwargs=True))
                handles.append(layer.register_forward_hook(self._leave))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        received = next(iter([*args, *kwargs.values()]), None)
        if not isinstance(received, Tensor):  # such as a packed sequence
            self.calls.setdefault(layer, _Call(layer, self._parts[layer]))
            return
        rows_and = layer.weight.ndim if isinstance(layer, Convolution) else 2
        if received.ndim < rows_and:
            raise ValueError(f"batch: needs a first dimension of rows, but a layer received {list(received.shape)}")
        previous = next(reversed(self.calls.values()), None)
        # Memory that an earlier layer received starts a branch beside the previous layer; it is not its activation.
        branches = any(received.data_ptr() == other.data_ptr() for other in self._received)
        if previous and previous.activation is None and not branches:
            previous.activation = _activation(previous, received)
        self._received.append(received)
        if layer not in self.calls:
            self.calls[layer] = _Call(layer, self._parts[layer])
            # A copy, as below, because the module may go on to change the tensor in place.
            self.features = _plain(received).flatten(1).clone()

    def _leave(self, layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor):  # a recurrent layer's units are read in several ways at once
            self.calls[layer].output_shape = output.shape


def _plain(tensor: Tensor) -> Tensor:
    """Detached, in float32 or wider: sums of squares overflow in half precision."""
    return tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32))


def _activation(call: _Call, received: Tensor) -> Tensor | None:
    """The activation ``[N, units]`` or ``[N, channels, h, w]`` of ``call``, from what the next layer received.

    Undoes a flattening; after pooling all positions stand in one column. ``None`` where the sizes show that something
    else came in, as after a concatenation or at the start of another branch.
    """
    shape = call.output_shape
    if shape is None or received.shape[0] != shape[0]:
        return None
    if received.numel() == shape.numel():
        if not isinstance(call.layer, Convolution):
            return _plain(received).reshape(-1, shape[-1]).clone()
        return _plain(received).reshape(*shape[:2], -1, shape[-1] if len(shape) > 3 else 1).clone()
    positions, rest = divmod(received.shape[1:].numel(), shape[1])
    if not isinstance(call.layer, Convolution) or rest or received.numel() > shape.numel():
        return None
    return _plain(received).reshape(shape[0], shape[1], positions, 1).clone()


def _run(module: nn.Module, args: tuple[Any, ...]) -> None:
    """One pass in evaluation mode without gradients; training flags, buffers and random state stay as they were."""
    flags = [(part, part.training) for part in module.modules()]
    devices = {parameter.device for parameter in module.parameters() if parameter.device.type == "cuda"}
    # The pass works on copies of the buffers: writing the old content back would break a pending backward pass.
    buffers = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
    with torch.no_grad(), torch.random.fork_rng(devices=list(devices)):
        try:
            for part, _ in flags:
                part.training = False
            functional_call(module, buffers, args)
        finally:
            for part, training in flags:
                part.training = training


def _initial_of(initial: Mapping[str, Tensor], key: str, like: Tensor) -> Tensor:
    """The initial value of one parameter, on the device of today's."""
    if key not in initial:
        raise ValueError(f"initial: has no {key!r}. {plugins.did_you_mean(key, initial)}")
    if initial[key].shape != like.shape:
        shapes = f"{list(like.shape)}, got {list(initial[key].shape)}"
        raise ValueError(f"initial: {key!r} must have the module's shape {shapes}")
    return _plain(initial[key]).to(like.device)


def _layer_view(
    call: _Call, part: Part, tensors: Mapping[str, Tensor], initial: Mapping[str, Tensor], is_output: bool
) -> LayerView:
    def shown(share: Share | None, of: Callable[[str, Tensor], Tensor | None]) -> Tensor | None:
        found = None if share is None else of(share.tensor, tensors[share.tensor])
        return None if found is None or share is None else share.view(_plain(found))[None]

    def first(name: str, value: Tensor) -> Tensor | None:
        return _initial_of(initial, name, value) if initial else None

    activation = None if is_output or call.activation is None else call.activation
    weight = shown(part.weight, lambda name, value: value)
    assert weight is not None
    return LayerView(
        name=part.name,
        weight=weight,
        bias=shown(part.bias, lambda name, value: value),
        initial_weight=shown(part.weight, first),
        initial_bias=shown(part.bias, first),
        activation=None if activation is None else activation[:, part.units or slice(None)][None],
        weight_gradient=shown(part.weight, lambda name, value: value.grad),
        bias_gradient=shown(part.bias, lambda name, value: value.grad),
    )


def view_of(
    module: nn.Module,
    batch: Batch,
    *,
    initial: Initial | None = None,
    name: str = "module",
    ignore: Collection[str] = (),
) -> NetworkView:
    """A view with M = 1 of the weight matrices that one pass over ``batch`` runs, as ``module_layers`` knows them.

    The layer that runs last is the output layer, and what it receives are the features. A layer without a successor of
    its own (the end of a branch), and what is inside a recurrent or attention layer, has no activation. Gradients are
    those that the parameters hold. Weights share memory with the module. Weights, buffers, gradients, modes, hooks and
    torch's random state stay as they are.

    Raises ``ValueError`` for a parameter that no known layer has, unless a pattern in ``ignore`` matches its name.
    """
    module = getattr(module, "_orig_mod", module)  # hooks do not fire inside a compiled graph
    args = batch if isinstance(batch, tuple) else (batch,)
    given = batch.values() if isinstance(batch, Mapping) else args
    tape = _Tape(layout(module, ignored(module, ignore)), [value for value in given if isinstance(value, Tensor)])
    with tape.recording():
        _run(module, args)
    calls = list(tape.calls.values())
    if tape.features is None:
        raise ValueError(f"module: must run at least one layer with weights, got {type(module).__name__}")
    initial = getattr(initial, "_orig_mod", initial)
    start = initial.state_dict() if isinstance(initial, nn.Module) else initial or {}
    tensors = dict(module.named_parameters())
    layers = tuple(_layer_view(call, part, tensors, start, call is calls[-1]) for call in calls for part in call.parts)
    return NetworkView(name=name, layers=layers, features=tape.features[None])
