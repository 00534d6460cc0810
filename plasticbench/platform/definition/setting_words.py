"""Settings of a ``Config`` in words: types and ranges, defaults, and what a preset changes, with code in backquotes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from plasticbench import plugins
from plasticbench.settings import Bound, MinLen, OneOf


def default_of(field: dataclasses.Field[Any]) -> Any:
    """What a setting is where nobody gives it; ``dataclasses.MISSING`` if it must be given."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def differences(cls: Any, preset: Any) -> Iterator[str]:
    """What a preset says otherwise than the defaults."""
    for field in dataclasses.fields(cls):
        default = default_of(field)
        if (value := getattr(preset, field.name, dataclasses.MISSING)) not in (default, dataclasses.MISSING):
            yield f"`{field.name}` {shown(value)}"


def allowed(hint: Any, markers: tuple[Any, ...] = ()) -> str:
    """A type and its constraints in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return allowed(arguments[0], (*arguments[1:], *markers))
    if origin is Literal:
        return ", ".join(map(shown, arguments))
    if origin in (Union, UnionType):
        kinds = [allowed(kind, markers) for kind in arguments if kind is not NoneType]
        return " or ".join(kinds) + (" or `null`" if NoneType in arguments else "")
    if origin is tuple:
        least = next((marker.length for marker in markers if isinstance(marker, MinLen)), 0)
        return f"list of {least or 'no'} or more: {allowed(arguments[0])}"
    if (
        group := next((marker.group for marker in markers if isinstance(marker, plugins.PluginField)), None)
    ) is not None:
        return f"`{{kind: ...}}` of {group}"
    if (one_of := next((marker for marker in markers if isinstance(marker, OneOf)), None)) is not None:
        return ", ".join(map(shown, one_of.names)) if len(one_of.names) < 20 else "one of `plasticbench list envs`"
    if dataclasses.is_dataclass(hint):
        return f"`{{{', '.join(f'{field.name}: ...' for field in dataclasses.fields(hint))}}}`"
    name = {int: "whole number", float: "number", str: "text", bool: "`true` or `false`"}.get(hint, "mapping")
    bounds = [f"{marker.words} {marker.value:g}" for marker in markers if isinstance(marker, Bound)]
    return ", ".join([name, *dict.fromkeys(bounds)])


def shown(value: Any) -> str:
    """A value as YAML has it."""
    if dataclasses.is_dataclass(value):
        base: Any = type(value)()  # type: ignore[misc]
        own = [f"{f.name}: {_plain(getattr(value, f.name))}" for f in dataclasses.fields(value)]
        changed = [text for f, text in zip(dataclasses.fields(value), own, strict=True)
                   if getattr(value, f.name) != getattr(base, f.name)]  # fmt: skip
        return f"`{{kind: {', '.join([type(value).__module__.rpartition('.')[2], *changed])}}}`"
    return f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return f"{value:_}"
    if isinstance(value, float):
        return re.sub(r"^(-?\d+)e", r"\1.0e", f"{value:.6g}")  # YAML takes 1e-8 for text
    if isinstance(value, tuple):
        return f"[{', '.join(map(_plain, value))}]"
    return "{}" if value == {} else str(value)
