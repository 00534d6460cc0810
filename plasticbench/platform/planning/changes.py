"""What differs between two benchmarks, and what of it a run that has begun can still take over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from plasticbench.platform.definition.benchmark import Benchmark

ABSENT = "nothing"
_LATER = ("checkpoint.", "tracking.", "pictures.", "execution.max_concurrent", "execution.replay_store", "description")
_SHOWN = 6


def changes(before: Benchmark, after: Benchmark) -> dict[str, tuple[Any, Any]]:
    """Both values of each setting in which two benchmarks differ, by dotted key."""
    old, new = _flat(before.resolved(), ""), _flat(after.resolved(), "")
    keys = [key for key in {**old, **new} if old.get(key, ABSENT) != new.get(key, ABSENT)]
    return {key: (old.get(key, ABSENT), new.get(key, ABSENT)) for key in keys}


def can_come_later(key: str) -> bool:
    """Whether a setting changes no result and no division of the work."""
    return key.startswith(_LATER) or re.fullmatch(r"environments\.\d+\.step_timeout_s", key) is not None


def changes_no_course(key: str) -> bool:
    """Whether a setting changes no result where the ids of trials stay: backends that agree bit for bit have one."""
    return key.startswith("execution.") or re.fullmatch(r"environments\.\d+\.backend", key) is not None


def keeps_trials(key: str) -> bool:
    """Whether a run may grow where this setting differs, as long as the ids of the trials that are there stay."""
    return key != "name" and not key.startswith("execution.")


def listed(found: Mapping[str, tuple[Any, Any]], words: str) -> str:
    """One line of both values for each of the first few keys; ``words`` hold the two, as in ``{} there, {} here``."""
    lines = [f"{key}: {words.format(old, new)}" for key, (old, new) in found.items()]
    rest = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return "; ".join([*lines[:_SHOWN], *rest])


def _flat(value: Any, key: str) -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        items = value.items()
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        items = dict(enumerate(value)).items()
    else:
        return {} if value in ("", None) else {key: value}
    return {
        inner: leaf
        for name, item in items
        for inner, leaf in _flat(item, f"{key}.{name}" if key else str(name)).items()
    }
