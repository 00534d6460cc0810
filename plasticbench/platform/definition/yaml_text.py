"""YAML text and ``--set`` overrides to plain data. Nothing in a file is executed or interpolated."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe subset with two mends: a repeated key is an error, and ``1e-4`` is a number as in YAML 1.2."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if (key := key_node.value) in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key!r} stands here twice", problem_mark=key_node.start_mark
                )
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep)


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse_yaml(text: str) -> Any:
    """Plain data of one YAML document. Raises ``ValueError`` that names line and column."""
    try:
        return yaml.load(text, _StrictLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{place}not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"not valid YAML: {error}") from error


def apply_override(data: Any, override: str) -> None:
    """Writes ``dotted.key=value`` into nested data; the value is YAML, list items are named by their index.

    Sections that are absent are created: whether their names are right is decided by the validation that follows.
    """
    path, equals, text = override.partition("=")
    if not equals or not all(parts := path.strip().split(".")):
        raise ValueError(f"--set: must have the form dotted.key=value, got {override!r}")
    *parents, last = parts
    for depth, part in enumerate(parents):
        data = _descend(data, part, ".".join(parts[:depth]))
    if isinstance(data, list):
        data[_index(data, last, ".".join(parents))] = parse_yaml(text)
    elif isinstance(data, dict):
        data[last] = parse_yaml(text)
    else:
        raise ValueError(
            f"--set {path}: {'.'.join(parents)} holds the single value {data!r} and has no settings inside"
        )


def _descend(data: Any, part: str, path: str) -> Any:
    if isinstance(data, list):
        return data[_index(data, part, path)]
    if not isinstance(data, dict):
        raise ValueError(f"--set {path}.{part}: {path} holds the single value {data!r} and has no settings inside")
    if data.get(part) is None:
        data[part] = {}
    return data[part]


def _index(items: Sequence[Any], part: str, path: str) -> int:
    if not part.isdecimal() or int(part) >= len(items):
        raise ValueError(f"--set {path}.{part}: {path} is a list, so name an item 0 to {len(items) - 1}, got {part!r}")
    return int(part)
