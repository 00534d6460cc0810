"""Which tensors of a module are treated, each once, and which of its layers they belong to."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from operator import attrgetter

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from plasticbench.learning.module_layers import Piece, PieceKind, Share, pieces
from plasticbench.plugins import did_you_mean


@dataclass(frozen=True, slots=True)
class Part:
    """What is treated as one: ``weight`` and ``bias`` name tensors of the module by their first names.

    ``units`` are which of the layer's outputs this part makes, where it does not make all; ``also`` are names of other
    layers that use the same weight. ``is_last`` is said of the last layer with matrices, be that treated or not.
    """

    name: str
    layer: nn.Module
    path: str
    kind: PieceKind
    weight: Share
    bias: Share | None = None
    units: slice | None = None
    also: tuple[str, ...] = ()
    is_last: bool = False


def shares(part: Part | Piece) -> tuple[Share, ...]:
    """Weight and bias, where there is one."""
    return (part.weight,) if part.bias is None else (part.weight, part.bias)


def spared(module: nn.Module, ignore: Collection[str] = (), include: Collection[str] = ()) -> frozenset[str]:
    """Names of the tensors to leave alone: what ``ignore`` matches, and frozen parameters that ``include`` does not.

    Both hold glob patterns on names of parameters or of modules that contain them. Raises ``ValueError`` for one that
    matches nothing, and where nothing is left to treat.
    """
    names = _first_names(module)
    every = _every_name(module)
    frozen = {name for tensor, name in names.items() if isinstance(tensor, nn.Parameter) and not tensor.requires_grad}
    named = _matched("include", include, {name: first for name, first in every.items() if first in frozen})
    left = ignored(module, ignore) | (frozen - named)
    parameters = [name for name, _ in module.named_parameters()]
    if parameters and left.issuperset(parameters):
        raise ValueError("module: every parameter is frozen or ignored; name those to treat all the same in include=")
    return frozenset(left)


def ignored(module: nn.Module, ignore: Collection[str]) -> set[str]:
    """Names of the tensors that ``ignore`` matches. Raises ``ValueError`` for a pattern that matches nothing."""
    return _matched("ignore", ignore, _every_name(module))


def _matched(argument: str, patterns: Collection[str], names: Mapping[str, str]) -> set[str]:
    if isinstance(patterns, str):
        raise ValueError(f"{argument}: must be a list of patterns, got the text {patterns!r}")
    matched: set[str] = set()
    for pattern in patterns:
        found = {first for name, first in names.items() if _matches(name, pattern)}
        if not found:
            what = "frozen parameter" if argument == "include" else "parameter"
            raise ValueError(f"{argument}: no {what} is called {pattern!r}. {did_you_mean(pattern, names)}")
        matched |= found
    return matched


def _matches(name: str, pattern: str) -> bool:
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:length]), pattern) for length in range(1, len(parts) + 1))


def layout(module: nn.Module, left_alone: Collection[str], *, takes_unknown: bool = False) -> list[Part]:
    """The parts of a module in the order of registration, without the tensors that are left alone.

    A tensor that several layers share belongs to the first of them. Raises ``ValueError`` for one that cannot be
    written and, unless ``takes_unknown``, for a parameter that no known layer has; with it, each of those is a vector.
    """
    placed = list(_placed(module, _first_names(module), left_alone))
    owner, users = dict[str, str](), dict[str, dict[str, str]]()
    for part in placed:
        users.setdefault(part.weight.tensor, {})[part.name] = part.path
        for share in shares(part):
            owner.setdefault(share.tensor, part.path)
    free = {tensor: path for tensor, path in owner.items() if tensor not in left_alone}
    others = {tensor: using for tensor, using in users.items() if len(set(using.values())) > 1}
    *_, last = [None, *((part.path, part.name) for part in placed if part.kind == "matrix")]
    kept = [
        replace(kept, is_last=last is not None and (part.path == last[0] or part.name == last[1]))
        for part in placed
        if (kept := _own(part, free, others.get(part.weight.tensor, {}))) is not None
    ]
    strangers = [name for name in free_parameters(module) if name not in left_alone]
    if strangers and not takes_unknown:
        raise ValueError(_unknown(module, strangers))
    return [*kept, *(Part(name, module, "", "vector", Share(name)) for name in strangers)]


def free_parameters(module: nn.Module) -> list[str]:
    """Names of the parameters that no known layer has: a model's own log standard deviation, a positional encoding."""
    known = {
        attrgetter(share.tensor)(layer)
        for layer in module.modules()
        for piece in pieces(layer)
        for share in shares(piece)
    }
    return [name for name, parameter in module.named_parameters() if parameter not in known]


def _placed(module: nn.Module, names: Mapping[Tensor, str], left_alone: Collection[str]) -> Iterator[Part]:
    for path, layer in module.named_modules():
        own = [names[parameter] for parameter in layer.parameters()]
        is_left = bool(own) and set(own).issubset(left_alone)  # with the statistics of a normalisation
        for piece in pieces(layer):
            name = _below(path, piece.name) or type(layer).__name__.lower()
            weight = Share(own[0]) if is_left else _located(names, path, layer, piece.weight)
            bias = None if is_left or piece.bias is None else _located(names, path, layer, piece.bias)
            yield Part(name, layer, path, piece.kind, weight, bias, piece.units)


def _located(names: Mapping[Tensor, str], path: str, layer: nn.Module, share: Share) -> Share:
    tensor: Tensor = attrgetter(share.tensor)(layer)
    if tensor not in names:
        name = _below(path, share.tensor)
        raise ValueError(f"module: {name} is computed from other tensors; remove its parametrization first")
    if is_lazy(tensor):
        raise ValueError(f"module: {_below(path, share.tensor)} has no shape yet; run the module once first")
    return Share(names[tensor], share.view)


def _own(part: Part, owner: Mapping[str, str], users: Mapping[str, str]) -> Part | None:
    """What of a part belongs to its layer and may be written: all of it, one of weight and bias, or nothing.

    ``users``: parts of several layers that use its weight, with the layers' paths.
    """
    weight, bias = (
        share if share and owner.get(share.tensor) == part.path else None for share in (part.weight, part.bias)
    )
    if weight is not None:
        also = tuple(name for name, path in users.items() if path != part.path and name != part.name)
        return replace(part, bias=bias, also=also)
    return None if bias is None else replace(part, name=f"{part.name}.bias", kind="vector", weight=bias, bias=None)


def _unknown(module: nn.Module, names: list[str]) -> str:
    holders = {type(module.get_submodule(name.rpartition(".")[0])).__name__ for name in names}
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return (
        f"module: {listed} of {', '.join(sorted(holders))}: how such a parameter starts is unknown. Pass fresh= with a "
        f"function that builds the module anew, or leave it alone with ignore=[{names[0]!r}]"
    )


def _every_name(module: nn.Module) -> dict[str, str]:
    """All names of tensors, with the first name of each."""
    first = _first_names(module)
    return {name: first[tensor] for name, tensor in _named_tensors(module)}


def _first_names(module: nn.Module) -> dict[Tensor, str]:
    return {tensor: name for name, tensor in reversed(list(_named_tensors(module)))}


def _named_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _below(path: str, name: str) -> str:
    return ".".join(filter(None, (path, name)))
