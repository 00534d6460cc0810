"""Plug-ins by file name: ``kind: fire`` is ``learning/treatments/fire.py``, and there is no registry to edit."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import importlib
import importlib.metadata
import importlib.util
import pkgutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

PACKAGES = {
    "agents": "plasticbench.agents",
    "learners": "plasticbench.agents.learners",
    "networks": "plasticbench.learning.networks",
    "treatments": "plasticbench.learning.treatments",
    "structures": "plasticbench.learning.structures",
    "optimizers": "plasticbench.learning.optimizers",
    "replays": "plasticbench.learning.replays",
    "envs": "plasticbench.envs",
    "scenarios": "plasticbench.envs.scenarios",
    "datasets": "plasticbench.envs.datasets",
    "streams": "plasticbench.envs.streams",
    "probes": "plasticbench.analysis.probes",
}
"""Groups of plug-ins. Installed packages add theirs under the entry point ``plasticbench.<group>``."""


@dataclasses.dataclass(frozen=True, slots=True)
class PluginField:
    """Marks a config field that holds another plug-in: ``network: Annotated[Any, PluginField("networks")]``."""

    group: str


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence with the nearest known name, or with all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."


@functools.cache  # a scan of everything that is installed: 40 ms, and one benchmark file asks a hundred times
def _installed(group: str) -> dict[str, str]:
    return {entry.name: entry.value for entry in importlib.metadata.entry_points(group=f"plasticbench.{group}")}


def names(group: str) -> list[str]:
    """All plug-ins of a group: the files and packages of its folder that are no group, and installed entry points."""
    package = importlib.import_module(PACKAGES[group])
    modules = {module.name for module in pkgutil.iter_modules(package.__path__) if module.name[0] != "_"}
    found = {name for name in modules if f"{package.__name__}.{name}" not in PACKAGES.values()}
    return sorted(found | _installed(group).keys())


def load(group: str, name: str) -> ModuleType:
    """The module of a plug-in. Raises ``ValueError`` with the nearest name if there is none."""
    return importlib.import_module(module_name(group, name))


def module_name(group: str, name: str) -> str:
    """Where a plug-in is defined. Raises ``ValueError`` with the nearest name if there is none."""
    if name not in (known := names(group)):
        raise ValueError(f"no {group} plug-in is called {name!r}. {did_you_mean(name, known)}")
    return _installed(group).get(name, f"{PACKAGES[group]}.{name}")


def config_from(group: str, kind: str, settings: Mapping[str, Any], preset: str | None = None) -> Any:
    """The plug-in's ``Config``: a preset's values (or the defaults), overridden by ``settings``.

    Raises ``ValueError`` for unknown names and for explicit settings that have no effect.
    """
    config = unchecked_config(group, kind, settings, preset)
    for name, reason in without_effect(config).items():
        if name in settings:
            raise ValueError(f"{name}: this setting has no effect: {reason}. Remove it, or change what makes it inert")
    return config


def unchecked_config(group: str, kind: str, settings: Mapping[str, Any], preset: str | None = None) -> Any:
    """The same, whether or not all settings have an effect."""
    module = load(group, kind)
    fields = {field.name for field in dataclasses.fields(module.Config)}
    for name in settings:
        if name not in fields:
            raise ValueError(f"{name}: {kind!r} has no such setting. {did_you_mean(name, fields)}")
    if preset is None:
        return module.Config(**settings)
    if preset in (presets := getattr(module, "PRESETS", {})):
        return dataclasses.replace(presets[preset], **settings)
    raise ValueError(f"preset: {kind!r} has no preset {preset!r}. {did_you_mean(preset, presets)}")


def docstring(group: str, name: str) -> str:
    """All that a plug-in says about itself, from its source where that can be read: running it may import PyTorch."""
    found = importlib.util.find_spec(module_name(group, name))
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        return load(group, name).__doc__ or ""
    return ast.get_docstring(ast.parse(Path(found.origin).read_bytes())) or ""


def inert(config: Any) -> Mapping[str, str]:
    """Settings without effect under the current values, and why; a ``Config`` that has none need not say so."""
    found: Mapping[str, str] = getattr(config, "inert", dict)()
    return found


def without_effect(config: Any) -> Mapping[str, str]:
    """``inert``, which no trial id holds, and ``inert_but_hashed``, which was found later and stands in ids."""
    hashed: Mapping[str, str] = getattr(config, "inert_but_hashed", dict)()
    return {**inert(config), **hashed}


def find(kind: str, groups: Iterable[str]) -> str:
    """The group that has a plug-in of this name. Raises ``ValueError`` with the nearest name of any of them."""
    known = {name: group for group in groups for name in names(group)}
    if kind not in known:
        raise ValueError(f"nothing is called {kind!r}. {did_you_mean(kind, known)}")
    return known[kind]


def summary(group: str, name: str) -> str:
    """First line of the plug-in's docstring."""
    return outline(group, name).summary


class Outline(NamedTuple):
    """What a list shows of a plug-in."""

    summary: str
    presets: tuple[str, ...]
    has_tasks: bool


def outline(group: str, name: str) -> Outline:
    """Docstring's first line, presets, whether it names tasks: from the source, as most would import PyTorch."""
    found = importlib.util.find_spec(module_name(group, name))
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        return _imported_outline(group, name)
    module = ast.parse(Path(found.origin).read_bytes())
    docstring = (ast.get_docstring(module) or "").strip().partition("\n")[0]
    values = [node.value for node in module.body if isinstance(node, ast.Assign) and _assigns(node, "PRESETS")]
    keys = values[-1].keys if values and isinstance(values[-1], ast.Dict) else []
    presets = [key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
    if len(presets) < len(keys) or (values and not keys):  # they are computed
        return _imported_outline(group, name)
    has_tasks = any(isinstance(node, ast.FunctionDef) and node.name == "tasks" for node in module.body)
    return Outline(docstring, tuple(sorted(presets)), has_tasks)


def _assigns(node: ast.Assign, name: str) -> bool:
    return any(isinstance(target, ast.Name) and target.id == name for target in node.targets)


def _imported_outline(group: str, name: str) -> Outline:
    module = load(group, name)
    docstring = (module.__doc__ or "").strip().partition("\n")[0]
    return Outline(docstring, tuple(sorted(getattr(module, "PRESETS", ()))), hasattr(module, "tasks"))
