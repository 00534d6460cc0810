"""Settings that were built in Python, as the plain data that a benchmark file would hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from plasticbench import plugins


def plain(value: Any) -> Any:
    """``value`` with each ``Config`` in it as ``{kind: ..., ...}``, without what holds by default.

    Other settings, such as ``Evaluation``, become mappings; tuples lists. What is no dataclass stands as it is.
    """
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    kind = _kind(type(value))
    own = {
        field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value) if _is_said(value, field)
    }
    return own if kind is None else {"kind": kind, **own}


def _is_said(config: Any, field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING or getattr(config, field.name) != field.default


def _kind(config_class: type) -> str | None:
    """The plug-in that it configures."""
    module = config_class.__module__
    for group in plugins.PACKAGES:
        for name in plugins.names(group):
            if plugins.module_name(group, name) == module:
                return name
    return None
