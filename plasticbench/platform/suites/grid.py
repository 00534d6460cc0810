"""What a method is tuned over: ``tune`` maps dotted keys of the method to lists of values, and all combinations count.

A single list of mappings does as well, where values belong together: ``tune: [{keep: 0.2, noise: 0.8}, ...]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any, NamedTuple

MAX_CANDIDATES = 6
"""Of each method; more would make a suite a search."""


class Candidate(NamedTuple):
    """A method with some of its settings chosen; ``data`` is what a benchmark file holds of it."""

    name: str
    values: Mapping[str, Any]
    data: Any


def candidates(name: str, data: Any) -> list[Candidate]:
    """All candidates of a method. Raises ``ValueError`` for what is no grid."""
    plain = without_grid(data)
    return [Candidate(_label(name, values), values, _with(plain, values)) for values in _grid(data)]


def without_grid(data: Any) -> Any:
    """A method as it is by itself."""
    if isinstance(data, Mapping) and "tune" in data:
        return {key: value for key, value in data.items() if key != "tune"}
    return data


def _grid(data: Any) -> list[dict[str, Any]]:
    given = data.get("tune") if isinstance(data, Mapping) else None
    if given is None:
        return []
    if isinstance(given, list) and given and all(isinstance(one, Mapping) for one in given):
        return [dict(one) for one in given]
    if isinstance(given, Mapping) and given and all(isinstance(one, list) and one for one in given.values()):
        return [dict(zip(given, values, strict=True)) for values in product(*given.values())]
    raise ValueError(f"tune: must map settings to lists of values, or be a list of such settings, got {given!r}")


def _label(name: str, values: Mapping[str, Any]) -> str:
    shown = (f"{key.rpartition('.')[2]}={_text(value)}" for key, value in values.items())
    return " ".join([name, *shown])


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _with(data: Any, values: Mapping[str, Any]) -> Any:
    for key, value in values.items():
        data = _set(data, key.split("."), value)
    return data


def _set(data: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    head, *rest = path
    if isinstance(data, list) and head.isdigit() and int(head) < len(data):
        return [_set(one, rest, value) if i == int(head) else one for i, one in enumerate(data)]
    if data is None or isinstance(data, Mapping):
        own = dict(data or {})
        return own | {head: _set(own.get(head), rest, value)}
    raise ValueError(f"tune: {head!r} is no setting of {data!r}")
