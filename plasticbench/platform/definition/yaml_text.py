"""YAML text and ``--set`` overrides to plain data. Nothing in a file is executed or interpolated."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe subset mended: repeated keys are errors, ``1e-4`` is a number as in YAML 1.2, ``0600`` is no 384."""

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

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Refuses what YAML 1.1 reads in base 8 or 60, and YAML 1.2 and people otherwise."""
        text = str(node.value)
        if re.fullmatch(r"[-+]?(0[0-9_]+|.*:.*)", text):
            plain = text.lstrip("+-0_").replace("_", "") or "0"
            advice = f"write it in quotes if it is text{'' if ':' in text else f', or {plain} if it is a number'}"
            raise yaml.MarkedYAMLError(
                problem=f"{text} would be read in base {60 if ':' in text else 8}: {advice}",
                problem_mark=node.start_mark,
            )
        return int(super().construct_yaml_int(node))


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_yaml_int)
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def decoded(data: bytes) -> str:
    """The text of a file in UTF-8. Raises ``ValueError`` that names the line of anything else."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(
            f"line {line}: holds the byte 0x{data[error.start]:02x}, which is not UTF-8 (in Latin-1 it is "
            f"{data[error.start : error.start + 1].decode('latin-1')!r}). Save the file as UTF-8"
        ) from error


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

    A name that has dots itself, as a method's may, is found as it stands. Sections that are absent are created: whether
    their names are right is decided by the validation that follows.
    """
    path, equals, text = override.partition("=")
    if not equals or not all(parts := path.strip().split(".")):
        raise ValueError(f"--set: must have the form dotted.key=value, got {override!r}")
    *parents, last = _names(data, parts)
    for depth, part in enumerate(parents):
        data = _descend(data, part, ".".join(parents[:depth]))
    if isinstance(data, list):
        data[_index(data, last, ".".join(parents))] = parse_yaml(text)
    elif isinstance(data, dict):
        data[last] = parse_yaml(text)
    else:
        raise ValueError(
            f"--set {path}: {'.'.join(parents)} holds the single value {data!r} and has no settings inside"
        )


def _names(data: Any, parts: Sequence[str]) -> list[str]:
    """The parts of a dotted key, with those put together that are one name in the data."""
    names = []
    while parts:
        lengths = range(len(parts), 1, -1) if isinstance(data, dict) else ()
        length = next((length for length in lengths if ".".join(parts[:length]) in data), 1)
        names.append(".".join(parts[:length]))
        parts = parts[length:]
        if isinstance(data, dict):
            data = data.get(names[-1])
        else:
            data = data[int(names[-1])] if isinstance(data, list) and names[-1] in map(str, range(len(data))) else None
    return names


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
