"""What there is, first of all to keep networks plastic, read from the plug-ins themselves: for commands and pages."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_type_hints

from plasticbench import plugins
from plasticbench.contracts.treatment import FAMILIES, Family, hooks_of
from plasticbench.platform.definition import setting_words

_CLAUSE_END = re.compile(r"(?:[;:]|(?<!al)\.)\s")
_CITES = re.compile(r"\b(?:19|20)\d\d\b|arXiv")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """One plug-in of the three families. ``source`` is empty for ``none``, which nobody published.

    ``hooks``: event, gradient and update for treatments, or the family's own word. ``presets`` are names.
    """

    name: str
    family: Family
    summary: str
    source: str
    hooks: tuple[str, ...]
    presets: tuple[str, ...]

    @property
    def citation(self) -> str:
        """The first clause of the source that names a year or a paper."""
        clauses = _CLAUSE_END.split(f"{self.source} ")
        return next((clause.strip() for clause in clauses if _CITES.search(clause)), clauses[0].strip())


def kinds(families: Sequence[Family] = FAMILIES) -> list[Kind]:
    """All kinds on disk and of installed packages; nothing imports torch, which takes seconds."""
    return [_kind(family, name) for family in families for name in plugins.names(family)]


def rows(group: str, family: str | None) -> list[dict[str, Any]]:
    """What ``list`` shows of a family; of ``treatments``, the word for all of them, all three unless one is named.

    Empty for groups of other plug-ins. Raises ``ValueError`` for a family that there is not, or not in this group.
    """
    if family is not None and (group != "treatments" or family not in FAMILIES):
        raise ValueError(
            f"--family: must be one of {', '.join(FAMILIES)}, after 'list treatments', got {family!r} after {group!r}"
        )
    of_all = group == "treatments" and family is None
    chosen = [name for name in FAMILIES if of_all or name == (family or group)]
    return [{**dataclasses.asdict(kind), "citation": kind.citation} for kind in kinds(chosen)]


def _kind(family: Family, name: str) -> Kind:
    doc = plugins.docstring(family, name)
    paragraphs = (" ".join(part.split()) for part in doc.split("\n\n"))
    source = next((part.removeprefix("Source: ") for part in paragraphs if part.startswith("Source: ")), "")
    return Kind(
        name=name,
        family=family,
        summary=doc.strip().partition("\n")[0],
        source=source,
        hooks=_hooks(family, name),
        presets=plugins.outline(family, name).presets,
    )


def _hooks(family: Family, name: str) -> tuple[str, ...]:
    if family == "treatments":
        return hooks_of(plugins.load(family, name).Config().build())
    return (family.removesuffix("s"),)


def explain(name: str) -> str:
    """A page about each plug-in of this name. Raises ``ValueError`` with the nearest name where there is none."""
    plugins.find(name, plugins.PACKAGES)
    groups = [group for group in plugins.PACKAGES if name in plugins.names(group)]
    return "\n\n\n".join(re.sub(r"`+", "", "\n\n".join(_page(group, name))) for group in groups)


def _page(group: str, name: str) -> Iterator[str]:
    module = plugins.load(group, name)
    family = next((known for known in FAMILIES if known == group), None)
    kind = None if family is None else _kind(family, name)
    yield f"{name} ({group})"
    yield plugins.docstring(group, name)
    if kind is not None:
        yield f"Acts: {_acts(kind)}."
    yield from _settings(module.Config)
    yield from _presets(module)
    if kind is not None:
        yield from _costs(module)
        yield "Excludes: " + "; ".join(_excludes(kind, module.Config()))
        yield "Works with:\n" + "\n".join(f"  {where}: {answer}" for where, answer in _works(kind, module.Config()))


def with_settings(group: str, name: str) -> dict[str, Any]:
    """What a list says of one plug-in, and of each of its settings what is allowed and the default, if there is one.

    ``treatments`` is the word for all three families. Raises ``ValueError`` with the nearest name.
    """
    group = plugins.find(name, FAMILIES if group == "treatments" else [group])
    cls = plugins.load(group, name).Config
    return {**plugin_row(group, name), "settings": dict(_allowed_and_default(cls))}


def _acts(kind: Kind) -> str:
    return {"structures": "when networks are built", "optimizers": "as the optimizer of its networks"}.get(
        kind.family, ", ".join(f"at each {hook}" for hook in kind.hooks)
    )


def _settings(cls: Any) -> Iterator[str]:
    yield "Settings:\n" + textwrap.indent(inspect.getdoc(cls) or "", "  ")
    if lines := setting_lines(dict(_allowed_and_default(cls))):
        yield "\n".join(f"  {line}" for line in lines)


def _allowed_and_default(cls: Any) -> Iterator[tuple[str, dict[str, str]]]:
    hints = get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        default = setting_words.default_of(field)
        told = {} if default is dataclasses.MISSING else {"default": setting_words.shown(default)}
        yield field.name, {"allowed": setting_words.allowed(hints[field.name])} | told


def setting_lines(settings: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A line each, of those of ``with_settings``."""
    width = max(map(len, settings), default=0)
    told = {
        name: f"default {one['default']}" if "default" in one else "must be given" for name, one in settings.items()
    }
    return [f"{name:<{width}}  {one['allowed']}; {told[name]}" for name, one in settings.items()]


def _presets(module: Any) -> Iterator[str]:
    if presets := getattr(module, "PRESETS", {}):
        changes = {name: ", ".join(setting_words.differences(module.Config, it)) for name, it in presets.items()}
        yield "Presets:\n" + "\n".join(f"  {name}: {said or 'the defaults'}" for name, said in changes.items())


def _costs(module: Any) -> Iterator[str]:
    """Of kinds whose updates take more than half as long again as those of ``none``."""
    if costs := getattr(module, "COSTS", ""):
        yield f"Costs: an update takes {costs} (python -m benchmarks.treatments)."


def _excludes(kind: Kind, config: Any) -> list[str]:
    """Of each pair that excludes each other, either may say so."""
    families = getattr(config, "excludes_families", {})
    reasons = {**{f"other {family}": why for family, why in families.items()}, **getattr(config, "excludes", {})}
    for family in FAMILIES:
        for name in plugins.names(family):
            theirs = getattr(plugins.load(family, name).Config(), "excludes", {})
            if kind.name in theirs:
                reasons[name] = theirs[kind.name]
    own = "another of its kind on the same network"
    own += ", and any other optimizer" if kind.family == "optimizers" else ""
    return [own, *(f"{name}: {why}" for name, why in sorted(reasons.items()))]


def _works(kind: Kind, config: Any) -> Iterator[tuple[str, str]]:
    from plasticbench.platform.definition.feasible_parts import why_not_offered

    for group in ("agents", "learners"):
        for trained in plugins.names(group):
            own = plugins.load(group, trained).Config
            unseen = getattr(own, "unseen", ())
            why_not = why_not_offered(kind.family, kind.name, config, trained, own.hooks, unseen)
            yield f"{group.removesuffix('s')} {trained}", _answer(why_not)
    yield "modules, Stable-Baselines3 and RLlib scripts", _answer(_why_not_on_modules(kind, config))


def _answer(why_not: str | None) -> str:
    return "yes" if why_not is None else f"refused: {why_not}"


def _why_not_on_modules(kind: Kind, config: Any) -> str | None:
    if kind.family != "treatments":
        return f"{kind.family} are what a network is built with, and these come built"
    from plasticbench.learning.module_event import require_event_alone

    try:
        require_event_alone(kind.name, config)
    except ValueError as error:
        return str(error).removeprefix("kind: ")
    return None


def plugin_row(group: str, name: str) -> dict[str, Any]:
    """What a list says of one plug-in."""
    outline = plugins.outline(group, name)
    row: dict[str, Any] = {"name": name, "summary": outline.summary}
    if outline.presets:
        row["presets"] = list(outline.presets)
    if not outline.has_tasks:
        return row
    module = plugins.load(group, name)
    row["tasks"] = list(module.tasks())
    if hasattr(module, "groups"):
        row["groups"] = {title: list(tasks) for title, tasks in module.groups().items()}
    else:
        row["references"] = {task: module.Config(task=task).score_source for task in row["tasks"]}
    return row
