"""Plain data to frozen settings: strict types, unknown keys answered with the nearest name, all problems at once."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from types import MappingProxyType
from typing import Any, TypeVar, get_args, get_type_hints

import pydantic

from plasticbench import plugins
from plasticbench.platform.definition.clock import STEPS, Clock
from plasticbench.platform.definition.effects import Effects, defaults
from plasticbench.platform.definition.names import elsewhere
from plasticbench.plugins import PluginField, did_you_mean

Section = TypeVar("Section")


class BenchmarkError(ValueError):
    """A benchmark file that cannot be run; one line per problem: file, dotted key, rule, value received."""


class Problems:
    """Collects everything that is wrong with one source, so that the user hears it all at once."""

    def __init__(self, source: str, clock: Clock = STEPS) -> None:
        self.source, self.clock = source, clock
        self.effects = Effects()
        self._lines: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, key: str, message: str) -> None:
        """Notes a problem; a message that starts with a setting's name extends the dotted key."""
        joint = "." if key and re.match(r"[a-z_][a-z0-9_]*(\.[a-z0-9_]+)*: ", message) else ": " if key else ""
        self._lines[f"{self.source}: {self.clock.words(f'{key}{joint}{message}')}"] = None

    @contextmanager
    def caught(self, key: str) -> Iterator[None]:
        """Turns each line of a ``ValueError`` into a problem at ``key``."""
        try:
            yield
        except ValueError as error:
            for line in str(error).split("\n"):
                self.add(key, line)

    def raise_any(self) -> None:
        """Raises one ``BenchmarkError`` with all problems, if there are any."""
        if self._lines:
            raise BenchmarkError("\n".join(self._lines))


_IN_YAML = {
    "list_type": "must be a list, in square brackets",
    "tuple_type": "must be a list, in square brackets",
    "dict_type": "must be a mapping, as in {name: value}",
}
"""Rules that pydantic words for readers of JSON, by the type of its error."""


@cache
def _adapter(hint: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(hint, config=pydantic.ConfigDict(strict=True, allow_inf_nan=False))


def typed(hint: Any, value: Any, key: str, problems: Problems) -> Any:
    """``value`` as the type ``hint``: lists as tuples, ``1e5`` as the whole number that it is; all else is refused."""
    try:
        # JSON is the one form in which strict pydantic reads lists as tuples.
        return _adapter(hint).validate_json(json.dumps(value))
    except pydantic.ValidationError as error:
        if places := [d["loc"] for d in error.errors() if d["type"] == "int_type" and _is_whole(d["input"])]:
            return typed(hint, _with_whole_numbers(value, places), key, problems)
        for detail in error.errors():
            place = ".".join(str(part) for part in (key, *detail["loc"]))
            rule = _IN_YAML.get(detail["type"]) or detail["msg"].replace("Input should be", "must be")
            problems.add(place, f"{rule}, got {detail['input']!r}")
    except (TypeError, ValueError):
        problems.add(key, f"must be plain text, numbers, lists or mappings, got {value!r}")
    return None


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def _with_whole_numbers(value: Any, places: Sequence[tuple[int | str, ...]]) -> Any:
    """``value`` with the floats at these places as whole numbers."""
    if () in places:
        return int(value)
    changed: Any = dict(value) if isinstance(value, Mapping) else list(value)
    for head in {place[0] for place in places}:
        changed[head] = _with_whole_numbers(changed[head], [place[1:] for place in places if place[0] == head])
    return changed


def mapping(value: Any, key: str, problems: Problems) -> dict[str, Any]:
    """``value`` as a mapping with text keys; an absent one is empty."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        problems.add(key, f"must be a mapping of settings, got {value!r}")
        return {}
    for name in value:
        if not isinstance(name, str):
            problems.add(key, f"names must be text (put it in quotes), got {name!r}")
    return {name: item for name, item in value.items() if isinstance(name, str)}


def unknown_keys(
    data: Mapping[str, Any],
    known: Sequence[str],
    key: str,
    problems: Problems,
    reasons: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Notes every key that is not in ``known``; ``reasons`` say why there is none of a name that others have."""
    for name in data:
        if name not in known:
            reason = f"{reasons[name]}. Remove it" if name in reasons else None
            advice = reason or elsewhere(name, known) or did_you_mean(name, known)
            problems.add(dotted(key, name), f"there is no such setting. {advice}")


def dotted(key: str, name: str) -> str:
    """``key.name``, or ``name`` at the top."""
    return f"{key}.{name}" if key else name


def _settings(cls: Any, data: Mapping[str, Any], key: str, problems: Problems) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    fields = [field.name for field in dataclasses.fields(cls)]
    unknown_keys(data, fields, key, problems, getattr(cls, "not_settings", {}))
    values = {}
    for name in data.keys() & set(fields):
        group, section = _plugin_group(hints[name]), _section(hints[name])
        if section is not None and isinstance(data[name], Mapping):
            values[name] = read_section(section, data[name], dotted(key, name), problems)
        elif group is None:
            values[name] = typed(hints[name], data[name], dotted(key, name), problems)
        elif (plugin := read_plugin(group, data[name], dotted(key, name), problems)) is not None:
            values[name] = plugin[1]
    return values


def _required(cls: Any, data: Mapping[str, Any], key: str, problems: Problems) -> None:
    for field in dataclasses.fields(cls):
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if not has_default and field.name not in data:
            problems.add(dotted(key, field.name), "is missing and has no default")


def _plugin_group(hint: Any) -> str | None:
    return next((mark.group for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, PluginField)), None)


def _section(hint: Any) -> Any:
    """The settings dataclass that a field may hold, which is no plug-in."""
    kinds = (kind for kind in (hint, *get_args(hint)) if isinstance(kind, type))
    return next((kind for kind in kinds if dataclasses.is_dataclass(kind)), None)


def read_section(cls: type[Section], data: Any, key: str, problems: Problems) -> Section | None:
    """A settings dataclass from a mapping, or ``None`` where problems were noted."""
    before = len(problems)
    data = mapping(data, key, problems)
    values = _settings(cls, data, key, problems)
    _required(cls, data, key, problems)
    if len(problems) == before:
        with problems.caught(key):
            return cls(**values)
    return None


def read_plugin(group: str, data: Any, key: str, problems: Problems) -> tuple[str, Any] | None:
    """Kind and ``Config`` from ``{kind: ..., preset: ..., <settings>}``, or ``None`` where problems were noted."""
    before = len(problems)
    settings = mapping(data, key, problems)
    if len(problems) > before:
        return None
    kind, preset = (
        typed(str | None, settings.pop(name, None), dotted(key, name), problems) for name in ("kind", "preset")
    )
    if kind is None:
        if len(problems) == before:
            problems.add(dotted(key, "kind"), f"is missing. Known: {', '.join(plugins.names(group))}")
        return None
    with problems.caught(dotted(key, "kind")):
        config_class = plugins.load(group, kind).Config
        values = _settings(config_class, settings, key, problems)
        if preset is None:
            _required(config_class, settings, key, problems)
    if len(problems) == before:
        with problems.caught(key):
            config = plugins.unchecked_config(group, kind, values, preset)
            _note_effects(config, key, problems)
            return kind, _canonical(config)
    return None


def _note_effects(config: Any, key: str, problems: Problems) -> None:
    names = (field.name for field in dataclasses.fields(config))
    problems.effects.note("others", key, names, plugins.without_effect(config), quiet=defaults(config))


def _canonical(config: Any) -> Any:
    """Settings without effect take their defaults, so that trials that cannot differ have equal settings."""
    inert = plugins.inert(config)
    defaults = {f.name: f.default for f in dataclasses.fields(config) if f.name in inert}
    return dataclasses.replace(config, **{k: v for k, v in defaults.items() if v is not dataclasses.MISSING})


def to_dict(kind: str, config: Any) -> dict[str, Any]:
    """Inverse of ``read_plugin``: all settings as plain data with their ``kind``, those without effect left out."""
    hints = get_type_hints(type(config), include_extras=True)
    settings: dict[str, Any] = {"kind": kind}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        is_new = field.metadata.get("unhashed_default") and value == field.default
        if field.name not in plugins.inert(config) and not is_new:
            group = _plugin_group(hints[field.name])
            settings[field.name] = _plain(value) if group is None else to_dict(_kind_of(group, value), value)
    return settings


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _kind_of(group: str, config: Any) -> str:
    stem = type(config).__module__.rpartition(".")[2]
    by_likelihood = sorted(plugins.names(group), key=lambda name: name != stem)
    return next(name for name in by_likelihood if plugins.load(group, name).Config is type(config))


def merge_agent(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """A method's changes to the benchmark's agent; naming a ``kind`` starts the agent anew.

    A nested plug-in is changed setting by setting, unless the override names another ``kind`` of it.
    """
    if "kind" in override:
        return dict(override)
    merged = {**base, **override}
    for name, changes in override.items():
        nested = base.get(name)
        if isinstance(nested, Mapping) and isinstance(changes, Mapping):
            same = changes.get("kind", nested.get("kind")) == nested.get("kind")
            merged[name] = {**nested, **changes} if same else changes
    return merged
