"""Writes docs/settings.md from the ``Config`` classes; with ``--check`` it only says whether that is due."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from plasticbench import plugins
from plasticbench.platform.definition import benchmark
from plasticbench.platform.definition.reading import DEFAULT_PROBES
from plasticbench.schedules import At, Every, Trigger
from plasticbench.settings import Bound, MinLen, OneOf

PAGE = Path(__file__).with_name("settings.md")
INTRODUCTION = """\
# Settings

Every key of a benchmark file. This page is made from the code by `make docs`; `make check` says when that is due.
What has no default must be given where its section or kind is used.

| key | value |
| --- | --- |
| `name`, `description` | text; the name must contain a letter or a digit |
| `environments` | a list of `{kind: ..., name: ..., scenario: {kind: ...}}` with settings of the kind |
| `agent` | `{kind: ...}` or `{kind: ..., preset: ...}`, with settings of the kind |
| `resets` | a schedule (below) for reset policies that have none of their own |
| `methods` | a mapping from names to a part, a list of parts, or `{parts: [...], agent: {...}}` |
| `seeds` | how many, from 0 on, or a list of different ones |
| `budget_steps` | agent steps of each trial, at least 1 |
| `evaluation` to `pictures` | the sections below |

An environment's `name` is its task and its scenario `stationary` where they are left out. A method's `agent` holds what
differs from the file's.

A **part** is `{kind: ..., preset: ...}` with settings of a treatment, a structure or an optimizer, and where and when
it acts: `networks` (`all`, or one of the agent's), `from` (a fraction of the budget), and for treatments one of the
schedules below; `at`, `every`, `until` and `when` may stand beside `parts` as well. In place of any value,
`{sweep: [...]}` makes one method of each.
"""
SECTIONS = ("evaluation", "probes", "records", "tracking", "checkpoint", "execution", "pictures")
SCHEDULES = {"at": At, "every": Every, "when": Trigger}


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION, "## Sections\n"]
    parts += [_described(f"`{name}`", getattr(benchmark, name.capitalize())) for name in SECTIONS]
    parts += ["## Schedules\n", *(_described(f"`{name}`", kind) for name, kind in SCHEDULES.items())]
    for group in plugins.PACKAGES:
        parts += [f"## {group.capitalize()}\n", *(_plugin(group, kind) for kind in plugins.names(group))]
    return "\n".join(parts)


def known() -> set[str]:
    """Dotted keys of all sections, and of the settings of all agents: ``execution.num_gpus``, ``agent.discount``."""
    kinds = {name: [getattr(benchmark, name.capitalize())] for name in SECTIONS}
    kinds["agent"] = [plugins.load("agents", kind).Config for kind in plugins.names("agents")]
    names = {f"{key}.{field.name}" for key, own in kinds.items() for cls in own for field in dataclasses.fields(cls)}
    return names | {"probes.kinds"}


def _plugin(group: str, kind: str) -> str:
    module = plugins.load(group, kind)
    heading = f"`{kind}`"
    presets = "".join(
        f"* preset `{name}`: {'; '.join(_differences(module.Config, preset)) or 'the defaults'}\n"
        for name, preset in getattr(module, "PRESETS", {}).items()
        if name != "clean"
    )
    return _described(heading, module.Config, plugins.summary(group, kind)) + (f"{presets}\n" if presets else "")


def _described(heading: str, cls: Any, summary: str = "") -> str:
    text = "\n\n".join(filter(None, [summary, inspect.getdoc(cls) or ""]))
    rows = "".join(f"| {' | '.join(row)} |\n" for row in _rows(cls))
    table = f"| setting | value | default |\n| --- | --- | --- |\n{rows}\n" if rows else ""
    return f"### {heading}\n\n{text.replace('``', '`')}\n\n{table}"


def _rows(cls: Any) -> Iterator[tuple[str, str, str]]:
    hints = get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        if cls is benchmark.Probes and field.name == "probes":
            yield (
                "`kinds`",
                "list of probes, each a name or `{kind: ...}` with its settings",
                _shown(DEFAULT_PROBES),
            )
            continue
        default = _default(field)
        shown = "" if default is dataclasses.MISSING else _shown(default)
        if cls in (benchmark.Probes, benchmark.Records) and field.name == "every_steps":
            shown = "a hundredth of the budget"
        yield f"`{field.name}`", _values(hints[field.name]), shown


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _differences(cls: Any, preset: Any) -> Iterator[str]:
    """What a preset says otherwise than the defaults."""
    for field in dataclasses.fields(cls):
        default = _default(field)
        if (value := getattr(preset, field.name, dataclasses.MISSING)) not in (default, dataclasses.MISSING):
            yield f"`{field.name}` {_shown(value)}"


def _values(hint: Any, markers: tuple[Any, ...] = ()) -> str:
    """A type and its constraints in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _values(arguments[0], (*arguments[1:], *markers))
    if origin is Literal:
        return ", ".join(map(_shown, arguments))
    if origin in (Union, UnionType):
        kinds = [_values(kind, markers) for kind in arguments if kind is not NoneType]
        return " or ".join(kinds) + (" or `null`" if NoneType in arguments else "")
    if origin is tuple:
        least = next((marker.length for marker in markers if isinstance(marker, MinLen)), 0)
        return f"list of {least or 'no'} or more: {_values(arguments[0])}"
    if (
        group := next((marker.group for marker in markers if isinstance(marker, plugins.PluginField)), None)
    ) is not None:
        return f"`{{kind: ...}}` of {group}"
    if (one_of := next((marker for marker in markers if isinstance(marker, OneOf)), None)) is not None:
        return ", ".join(map(_shown, one_of.names)) if len(one_of.names) < 20 else "one of `plasticbench list envs`"
    name = {int: "whole number", float: "number", str: "text", bool: "`true` or `false`"}.get(hint, "mapping")
    bounds = [f"{marker.words} {marker.value:g}" for marker in markers if isinstance(marker, Bound)]
    return ", ".join([name, *dict.fromkeys(bounds)])


def _shown(value: Any) -> str:
    """A value as YAML has it."""
    if dataclasses.is_dataclass(value):
        base = type(value)()
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


def main() -> None:
    """Writes the page, or exits with a message where it is not what it would write."""
    text = page().rstrip("\n") + "\n"
    if "--check" not in sys.argv:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        raise SystemExit("docs/settings.md is not what the code says: run `make docs`")


if __name__ == "__main__":
    main()
