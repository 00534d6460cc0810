"""What torch's own layers are made of, and how they start: weight matrices, tables, vectors, running statistics.

A gate of a recurrent layer, a projection of an attention layer and a group of a convolution are matrices of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.parameter import is_lazy

PieceKind = Literal["matrix", "table", "vector"]
"""What mixes its inputs, what is looked up row by row (embeddings), and what acts on each unit by itself."""


def _whole(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True, slots=True)
class Share:
    """A view of a layer's parameter or buffer, ``tensor``, in the shape that treatments know; shares its memory."""

    tensor: str
    view: Callable[[Tensor], Tensor] = _whole


@dataclass(frozen=True, slots=True)
class Piece:
    """A matrix ``[out, in]`` or ``[out, in, kh, kw]``, a table or a vector, with the bias that belongs to it.

    ``name`` stands below the layer's, and is empty where the layer is one piece. ``units`` are which of the layer's
    outputs this piece makes, where it does not make all.
    """

    name: str
    weight: Share
    bias: Share | None = None
    kind: PieceKind = "matrix"
    units: slice | None = None


Convolution = _ConvNd


def pieces(layer: nn.Module) -> list[Piece]:
    """The pieces of one layer; none of a class that is not known here. What is unknown in a known layer is left out."""
    found = next((list(take(layer)) for kinds, take in _KNOWN if isinstance(layer, kinds)), [])
    return [piece for piece in found if _held(layer, piece.weight)]


def is_known(layer: nn.Module) -> bool:
    """Whether a layer's class is one of torch's own that have parameters."""
    return any(isinstance(layer, kinds) for kinds, _ in _KNOWN)


def _held(layer: nn.Module, share: Share) -> bool:
    found: Any = layer
    for name in share.tensor.split("."):
        found = getattr(found, name, None)
    return found is not None


def _optional(layer: nn.Module, share: Share) -> Share | None:
    return share if _held(layer, share) else None


def _plain(layer: nn.Module) -> Iterator[Piece]:
    yield Piece("", Share("weight"), _optional(layer, Share("bias")))


def _bilinear(layer: nn.Module) -> Iterator[Piece]:
    yield Piece("", Share("weight", lambda weight: weight.flatten(1)), _optional(layer, Share("bias")))


def _table(layer: nn.Module) -> Iterator[Piece]:
    yield Piece("", Share("weight"), kind="table")


def _vector(layer: nn.Module) -> Iterator[Piece]:
    yield Piece("", Share("weight"), _optional(layer, Share("bias")), "vector")


def _norm_with_statistics(layer: nn.Module) -> Iterator[Piece]:
    yield from _vector(layer)
    yield Piece("running", Share("running_mean"), Share("running_var"), "vector")


def _convolution(layer: nn.Module) -> Iterator[Piece]:
    """Transposed ones keep ``(in, out / groups, ...)``, the others ``(out, in / groups, ...)``."""
    assert isinstance(layer, _ConvNd)
    is_transposed, groups = isinstance(layer, _ConvTransposeNd), layer.groups
    width = layer.out_channels // groups
    stored_width = (layer.in_channels if is_transposed else layer.out_channels) // groups
    for group in range(groups):
        units = slice(group * width, (group + 1) * width)
        stored = slice(group * stored_width, (group + 1) * stored_width)
        weight = Share("weight", lambda weight, stored=stored: _kernel(weight[stored], is_transposed))  # type: ignore[misc]
        bias = _optional(layer, Share("bias", lambda bias, units=units: bias[units]))  # type: ignore[misc]
        yield Piece(f"group{group}" if groups > 1 else "", weight, bias, units=units)


def _kernel(weight: Tensor, is_transposed: bool) -> Tensor:
    """As ``[out, in, kh, kw]``, whatever the number of spatial dimensions."""
    weight = weight.transpose(0, 1) if is_transposed else weight
    if weight.ndim == 3:
        return weight.unsqueeze(-1)
    return weight if weight.ndim == 4 else weight.view(*weight.shape[:2], -1, weight.shape[-1])


def _recurrent(layer: nn.Module) -> Iterator[Piece]:
    assert isinstance(layer, nn.RNNBase)
    for depth in range(layer.num_layers):
        for suffix in ("", "_reverse")[: 1 + layer.bidirectional]:
            yield from _gates(layer, f"_l{depth}{suffix}")
            projection = Share(f"weight_hr_l{depth}{suffix}")
            if _held(layer, projection):
                yield Piece(f"hr_l{depth}{suffix}", projection)


def _gates(layer: nn.Module, suffix: str = "") -> Iterator[Piece]:
    """In the order in which torch stacks them: those of an LSTM, of a GRU, or the only one."""
    assert isinstance(layer, nn.RNNBase | nn.RNNCellBase)
    names = {4: "ifgo", 3: "rzn"}.get(getattr(layer, f"weight_ih{suffix}").shape[0] // layer.hidden_size, "")
    for read in ("ih", "hh"):
        weight, bias = f"weight_{read}{suffix}", f"bias_{read}{suffix}"
        for number, gate in enumerate(names or [""]):
            part = _part(number, len(names) or 1)
            name = ".".join(filter(None, (f"{read}{suffix}", gate)))
            yield Piece(name, Share(weight, part), _optional(layer, Share(bias, part)))


def _part(number: int, count: int) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor.chunk(count)[number]


def _attention(layer: nn.Module) -> Iterator[Piece]:
    """The output projection is a linear layer below this one, but runs as a part of it, and starts with a zero bias."""
    for number, name in enumerate("qkv"):
        part = _part(number, 3)
        bias = _optional(layer, Share("in_proj_bias", part))
        packed, own = Share("in_proj_weight", part), Share(f"{name}_proj_weight")
        yield Piece(name, packed if _held(layer, packed) else own, bias)
    yield Piece("out_proj", Share("out_proj.weight"), _optional(layer, Share("out_proj.bias")))
    yield Piece("bias_k", Share("bias_k"), kind="vector")
    yield Piece("bias_v", Share("bias_v"), kind="vector")


_KNOWN: tuple[tuple[Any, Callable[[nn.Module], Iterator[Piece]]], ...] = (
    (nn.Linear, _plain),
    (_ConvNd, _convolution),
    (nn.Bilinear, _bilinear),
    (nn.RNNBase, _recurrent),
    (nn.RNNCellBase, _gates),
    (nn.MultiheadAttention, _attention),
    ((nn.Embedding, nn.EmbeddingBag), _table),
    (_NormBase, _norm_with_statistics),
    ((nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.PReLU), _vector),
)


def redrawn(module: nn.Module) -> dict[str, Tensor]:
    """New initial values of all parameters and buffers by name, on the CPU, where one seed gives one draw everywhere.

    Layers start as torch starts them, in the order of their registration, what they contain first. Tensors of classes
    that are not known here hold nothing of use.
    """
    twin = _twin(module, {})
    for layer in _inside_out(twin, set()):
        if isinstance(layer, nn.MultiheadAttention | nn.Transformer):
            layer._reset_parameters()
        elif is_known(layer) and not hasattr(layer, "parametrizations"):
            layer.reset_parameters()  # type: ignore[operator]
    return tensors_of(twin)


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by each of their names, detached."""
    named = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    return {name: tensor.detach() for name, tensor in named}


def _twin(module: nn.Module, made: dict[Any, Any]) -> nn.Module:
    """The same modules with tensors of their own; a deep copy would drag along whatever their hooks refer to."""
    if module not in made:
        twin = made[module] = module.__new__(type(module))
        twin.__dict__.update(module.__dict__)
        twin.__dict__["_modules"] = {k: child and _twin(child, made) for k, child in module._modules.items()}
        twin.__dict__["_parameters"] = {k: _empty(value, made) for k, value in module._parameters.items()}
        twin.__dict__["_buffers"] = {k: _empty(value, made) for k, value in module._buffers.items()}
    found: nn.Module = made[module]
    return found


def _empty(value: Tensor | None, made: dict[Any, Any]) -> Tensor | None:
    if value is None or is_lazy(value):
        return value
    if value not in made:
        empty = torch.empty_like(value.detach(), device="cpu")
        made[value] = nn.Parameter(empty, value.requires_grad) if isinstance(value, nn.Parameter) else empty
    found: Tensor = made[value]
    return found


def _inside_out(module: nn.Module, seen: set[nn.Module]) -> Iterator[nn.Module]:
    if module not in seen:
        seen.add(module)
        for child in module.children():
            yield from _inside_out(child, seen)
        yield module
