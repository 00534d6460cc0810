"""Which layers a treatment acts on, and the rewriting of whole layers with initial weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from plasticbench.contracts.network import LayerState, NetworkState, ParameterState
from plasticbench.learning.treatments._settings import NO_REST, InitSource

if TYPE_CHECKING:
    from torch import Tensor

    from plasticbench.learning.layers import LayerSpec


def split(net: NetworkState, layers: str, *, matrices_alone: bool = False) -> tuple[list[LayerState], list[LayerState]]:
    """The layers that a selector chooses, and the rest; both in the network's order.

    ``encoder`` and ``head`` choose by role, ``hidden`` all but the output layer, ``all`` everything; anything else is a
    glob pattern on layer names, such as ``fc*``. With ``matrices_alone``, embeddings that it chooses are in neither.
    Raises ``ValueError`` naming the layers if it chooses none.
    """
    chosen = [layer for layer in net.layers if _matches(layer, layers)]
    selected = [layer for layer in chosen if not (matrices_alone and layer.is_table)]
    if not selected:
        known = ", ".join(map(_described, net.layers)) or "none: there is no layer with weights of units"
        raise ValueError(f"layers: must select at least one layer of {known}, got {layers!r}")
    names = {layer.name for layer in chosen}
    return selected, [layer for layer in net.layers if layer.name not in names]


def require_selection(specs: Sequence[LayerSpec], layers: str) -> None:
    """Raises ``ValueError`` naming the layers if a selector chooses none of such a network."""
    last = max((i for i, spec in enumerate(specs) if spec.wiring != "sibling"), default=0)
    mixing = [(spec, i >= last) for i, spec in enumerate(specs) if not spec.is_norm]
    roles = {"encoder", "head"}
    chosen = (
        layers == "all"
        or (layers == "hidden" and not is_output)
        or (layers in roles and spec.role == layers)
        or (layers not in {*roles, "hidden"} and fnmatchcase(spec.name, layers))
        for spec, is_output in mixing
    )
    if not any(chosen):
        known = ", ".join(f"{spec.name} ({spec.role})" for spec, _ in mixing)
        raise ValueError(f"layers: must select at least one layer of {known}, got {layers!r}")


def _described(layer: LayerState) -> str:
    facts = [layer.role, *(["embedding"] if layer.is_table else []), *(f"shared with {name}" for name in layer.also)]
    return f"{layer.name} ({', '.join(facts)})"


def _matches(layer: LayerState, layers: str) -> bool:
    match layers:
        case "all":
            return True
        case "hidden":
            return not layer.is_output
        case "encoder" | "head":
            return layer.role == layers
        case pattern:
            return any(fnmatchcase(name, pattern) for name in (layer.name, *layer.also))


def inert_rest(specs: Sequence[LayerSpec], layers: str) -> dict[str, str]:
    """``rest`` where a selector leaves no layer of such a network."""
    mixing = [spec for spec in specs if not spec.is_norm]
    match layers:
        case "hidden":
            is_all = False  # a network has an output layer
        case "encoder" | "head":
            is_all = all(spec.role == layers for spec in mixing)
        case pattern:
            is_all = layers == "all" or all(fnmatchcase(spec.name, pattern) for spec in mixing)
    return {"rest": NO_REST} if is_all else {}


def initial_values(layers: Iterable[LayerState], source: InitSource) -> dict[str, Tensor]:
    """Initial weights and biases ``[m, ...]`` by full name.

    Raises ``ValueError`` if the first initialisation is asked for but unknown; nothing has been written then.
    """
    return {name: _initial(name, parameter, source) for layer in layers for name, parameter in layer.parameters.items()}


def _initial(name: str, parameter: ParameterState, source: InitSource) -> Tensor:
    if source == "fresh":
        return parameter.fresh
    if parameter.original is None:
        raise ValueError(
            f"init_source: 'original' needs the first initialisation of {name}; keep a copy of the untrained network "
            "and pass it as initial=, or use init_source 'fresh'"
        )
    return parameter.original


def reinitialize(layers: Iterable[LayerState], source: InitSource) -> set[str]:
    """Rewrites weights and biases with initial ones; returns their full names. Raises as ``initial_values`` does."""
    layers = list(layers)
    initial = initial_values(layers, source)
    for layer in layers:
        for name, parameter in layer.parameters.items():
            parameter.value.copy_(initial[name])
    return set(initial)
