"""Who reads whom in a module, as far as a symbolic trace of it shows.

From a layer the way is followed through what acts on each unit by itself (normalisations, one nonlinearity, pooling,
flattening, dropout) to the linear layers or convolutions that read it. Where it leads anywhere else (a sum, an
attention, an output) nobody knows who reads a unit, and it is left alone. A module that cannot be traced has no wires.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from plasticbench.learning.module_parts import Part

_ACTIVATIONS: Mapping[Any, str] = {
    **{kind: "relu" for kind in (nn.ReLU, functional.relu, torch.relu, "relu", "relu_")},
    **{kind: "tanh" for kind in (nn.Tanh, functional.tanh, torch.tanh, "tanh")},
    **{kind: "leaky_relu" for kind in (nn.LeakyReLU, functional.leaky_relu)},
    **{kind: "gelu" for kind in (nn.GELU, functional.gelu)},
    **{kind: "silu" for kind in (nn.SiLU, functional.silu)},
}
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.RMSNorm)
_THROUGH: tuple[Any, ...] = (
    *(nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, functional.dropout, torch.flatten, "flatten"),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    *(functional.max_pool2d, functional.avg_pool2d, functional.adaptive_avg_pool2d, torch.max_pool2d),
)


@dataclass(frozen=True, slots=True)
class ModuleReader:
    """A part that reads units: ``positions`` columns of each."""

    name: str
    path: str
    positions: int


@dataclass(frozen=True, slots=True)
class ModuleWire:
    """How the units of one part are read; identity and nobody where that is not known."""

    units: int
    activation: str = "identity"
    readers: tuple[ModuleReader, ...] = ()
    norms: tuple[str, ...] = ()

    def by_unit(self, received: Tensor) -> Tensor:
        """What the first reader received, as ``[rows, units]`` or ``[rows, units, positions, 1]``."""
        if received.ndim == 4:
            return received.flatten(2).unsqueeze(-1)
        rows = received.reshape(-1, received.shape[-1])
        return rows if rows.shape[1] == self.units else rows.view(len(rows), self.units, -1, 1)


def module_wiring(module: nn.Module, parts: Sequence[Part]) -> dict[str, ModuleWire]:
    """The wires of all parts with weight matrices, by name."""
    whole = {part.path: part for part in parts if part.kind == "matrix" and part.name == part.path}
    units = {
        part.name: int(getattr(part.layer, "out_features", getattr(part.layer, "out_channels", 0))) for part in parts
    }
    wires = {part.name: ModuleWire(units[part.name]) for part in parts if part.kind == "matrix"}
    try:
        graph = fx.Tracer().trace(module)
    except Exception:  # whatever a module does that cannot be traced, it has no wires
        return wires
    calls: dict[str, list[fx.Node]] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            calls.setdefault(str(node.target), []).append(node)
    norms = {part.path: part.name for part in parts if part.kind == "vector" and part.name == part.path}
    for path, part in whole.items():
        if len(calls.get(path, ())) == 1 and isinstance(part.layer, nn.Linear | nn.Conv2d):
            follow = _Follow(module, whole, norms, units[part.name])
            if follow.all_of(calls[path][0]) and follow.readers and follow.activation is not None:
                wires[part.name] = ModuleWire(
                    units[part.name], follow.activation, tuple(follow.readers), tuple(follow.norms)
                )
    return wires


class _Follow:
    """The way from one layer's units to their readers."""

    def __init__(self, module: nn.Module, whole: Mapping[str, Part], norms: Mapping[str, str], units: int) -> None:
        self._module, self._whole, self._known_norms, self._units = module, whole, norms, units
        self.activation: str | None = None
        self.readers: list[ModuleReader] = []
        self.norms: list[str] = []

    def all_of(self, node: fx.Node) -> bool:
        """Whether everything that uses the node's values is understood."""
        return bool(node.users) and all(self._use(user) for user in node.users)

    def _use(self, node: fx.Node) -> bool:
        what = self._module.get_submodule(str(node.target)) if node.op == "call_module" else node.target
        kind = type(what) if node.op == "call_module" else what
        if node.op == "call_module" and str(node.target) in self._whole:
            return self._read(self._whole[str(node.target)])
        if node.op == "call_module" and isinstance(what, _NORMS):
            return self._normalise(str(node.target), what) and self.all_of(node)
        if kind in _ACTIVATIONS:
            if self.activation is not None:
                return False
            self.activation = _ACTIVATIONS[kind]
            return self.all_of(node)
        return kind in _THROUGH and self.all_of(node)

    def _read(self, part: Part) -> bool:
        width = int(getattr(part.layer, "in_features", getattr(part.layer, "in_channels", 0)))
        positions, rest = divmod(width, self._units)
        if rest or not isinstance(part.layer, nn.Linear | nn.Conv2d) or getattr(part.layer, "groups", 1) > 1:
            return False
        self.readers.append(ModuleReader(part.name, part.path, positions))
        return True

    def _normalise(self, path: str, norm: nn.Module) -> bool:
        if path in self._known_norms:
            self.norms.append(self._known_norms[path])
        return True
