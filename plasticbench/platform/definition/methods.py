"""Reads the methods of a benchmark file: one part or a list of parts each, sweeps spread out into methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from itertools import product
from typing import Any

from plasticbench import plugins
from plasticbench.contracts.learner import AgentConfig
from plasticbench.contracts.treatment import FAMILIES, Family
from plasticbench.platform.definition.clock import STEPS, UPDATES
from plasticbench.platform.definition.method import Chosen, ChosenAgent, Method, Part
from plasticbench.platform.definition.parsing import (
    Problems,
    dotted,
    mapping,
    merge_agent,
    read_plugin,
    read_section,
    typed,
    unknown_keys,
)
from plasticbench.platform.definition.start import read_start
from plasticbench.schedules import At, Boundaries, Every, Schedule, Trigger

SCHEDULE_KEYS = ("at", "every", "until", "when")
_PLACING_KEYS = ("networks", "from")
_METHOD_KEYS = ("parts", "agent", *SCHEDULE_KEYS)


class MethodsReader:
    """Turns the ``methods`` of one file into ``Method`` objects; what it cannot read becomes a problem."""

    def __init__(
        self,
        data: Mapping[str, Any],
        agent: ChosenAgent | None,
        default: Schedule | None,
        budget_steps: int,
        problems: Problems,
    ) -> None:
        self._data, self._agent, self._default, self._problems = data, agent, default, problems
        self._budget_steps = budget_steps

    def methods(self) -> tuple[Method, ...]:
        """All methods, in the order of the file."""
        given = self._data.get("methods")
        if given is not None and (not isinstance(given, Mapping) or not given):
            self._problems.add("methods", f"must be a mapping from names to treatments, got {given!r}")
        items = mapping(given or None, "methods", self._problems) if isinstance(given, Mapping) else {}
        spread = [variant for name, item in items.items() for variant in self._spread(name, item)]
        found = [self._method(name, item, key) for name, item, key in spread]
        if self._default is not None and items and all(map(_has_own_schedule, items.values())):
            if all(method is not None and method.is_reset_policy for method in found):
                inert = {"resets": "every method has a schedule of its own"}
                self._problems.effects.note("timing", "", inert, inert)
        return tuple(method for method in found if method is not None)

    def _spread(self, name: str, item: Any) -> Iterator[tuple[str, Any, str]]:
        """One method for each combination of the values that ``{sweep: [...]}`` lists; name, data and dotted key."""
        key = f"methods.{name}"
        sweeps = dict(_sweeps(item, ()))
        for path, values in sweeps.items():
            where = ".".join((key, *map(str, path)))
            if not isinstance(values, list) or not values:
                self._problems.add(f"{where}.sweep", f"must be a list with at least one value, got {values!r}")
                return
            if repeated := [value for index, value in enumerate(values) if value in values[:index]]:
                self._problems.add(f"{where}.sweep", f"must list each value once, got {repeated[0]!r} repeatedly")
                return
        for values in product(*sweeps.values()):
            chosen = dict(zip(sweeps, values, strict=True))
            labels = [f"{path[-1]}={_label(value)}" for path, value in chosen.items()]
            yield " ".join([name, *labels]), _replaced(item, chosen, ()), key

    def _method(self, name: str, item: Any, key: str) -> Method | None:
        if isinstance(item, list):
            item = {"parts": item}
        data = mapping(item, key, self._problems)
        agent = self._own_agent(data.pop("agent", None), key)
        if "parts" not in data:
            parts = [self._part(data, key, {})]
        else:
            unknown_keys(data, _METHOD_KEYS, key, self._problems)
            items = data["parts"]
            if not isinstance(items, list) or not items:
                self._problems.add(dotted(key, "parts"), f"must be a list with at least one part, got {items!r}")
                return None
            shared = {name: data[name] for name in SCHEDULE_KEYS if name in data}
            parts = [self._part(part, f"{key}.{index}", shared) for index, part in enumerate(items)]
        whole = [part for part in parts if part is not None]
        if agent is None or len(whole) < len(parts):
            return None
        method = Method(name=name, parts=tuple(whole), agent=agent, key=key)
        if not method.is_reset_policy:
            method = replace(method, restarts=self._default)
        return method

    def _own_agent(self, override: Any, key: str) -> ChosenAgent | None:
        changes = mapping(override, f"{key}.agent", self._problems)
        base_data = self._data.get("agent")
        if not changes or (self._agent is None and "kind" not in changes):
            return self._agent
        return read_agent(merge_agent(base_data or {}, changes), f"{key}.agent", self._problems)

    def _part(self, item: Any, key: str, shared_schedule: Mapping[str, Any]) -> Part | None:
        """``{kind: ..., <settings>, networks: ..., from: ..., at | every | when: ...}``."""
        before = len(self._problems)
        data = mapping(item, key, self._problems)
        placing = {name: data.pop(name) for name in _PLACING_KEYS if name in data}
        timing = {name: data.pop(name) for name in SCHEDULE_KEYS if name in data}
        family = self._family(data.get("kind"), key) if len(self._problems) == before else None
        if family is None:
            return None
        chosen = read_chosen(family, data, key, self._problems)
        networks = typed(str, placing.get("networks", "all"), dotted(key, "networks"), self._problems)
        begin = typed(float, placing.get("from", 0.0), dotted(key, "from"), self._problems)
        if chosen is None or len(self._problems) > before:
            return None
        part = Part(family=family, chosen=chosen, networks=networks, begin=begin)
        return self._timed(part, timing, shared_schedule, key)

    def _family(self, kind: Any, key: str) -> Family | None:
        if kind is None:
            known = sorted(name for group in FAMILIES for name in plugins.names(group))
            self._problems.add(dotted(key, "kind"), f"is missing. Known: {', '.join(known)}")
            return None
        try:
            group = plugins.find(str(kind), FAMILIES)
        except ValueError as error:
            self._problems.add(dotted(key, "kind"), str(error))
            return None
        return next(family for family in FAMILIES if family == group)

    def _timed(
        self, part: Part, timing: Mapping[str, Any], shared_schedule: Mapping[str, Any], key: str
    ) -> Part | None:
        """Events follow the part's own schedule, else its method's, else the file's; ``every`` paces other parts."""
        placed: dict[str, Any] = {"family": part.family, "chosen": part.chosen, "networks": part.networks}
        if "event" in part.hooks:
            own = timing or shared_schedule
            schedule = read_schedule(own, key, self._budget_steps, self._problems) if own else self._default
            return Part(**placed, begin=part.begin, schedule=schedule)
        allowed = ("every",) if part.is_at_updates else ()
        before = len(self._problems)
        for name in timing:
            if name not in allowed:
                self._problems.add(dotted(key, name), f"has no effect, because {part.kind!r} has no events. Remove it")
        every = typed(int | None, timing.get("every"), dotted(key, "every"), self._problems)
        if every is not None and every < 1:
            self._problems.add(dotted(key, "every"), f"must be at least 1 agent step, got {every}")
        if part.begin and not part.is_at_updates:
            self._problems.add(dotted(key, "from"), f"has no effect on {part.kind!r}, which networks are built with")
        return None if len(self._problems) > before else Part(**placed, begin=part.begin, every_steps=every)


def read_schedule(value: Any, key: str, budget_steps: int, problems: Problems) -> Schedule | None:
    """``at``, ``every`` or ``when``; ``None`` where there is none, or where problems were noted.

    A trigger that says nothing else fires at most once in a tenth of the budget.
    """
    if value is None:
        return None
    data = mapping(value, key, problems)
    match [name for name in ("at", "every", "when") if name in data]:
        case ["at"] if data["at"] == "boundaries":
            unknown_keys(data, ["at"], key, problems)
            return Boundaries()
        case ["at"]:
            return read_section(At, data, key, problems)
        case ["every"]:
            return read_section(Every, data, key, problems)
        case ["when"]:
            unknown_keys(data, ["when"], key, problems)
            trigger = mapping(data["when"], dotted(key, "when"), problems)
            longest = {"at_most_every": max(1, budget_steps // 10)}
            return read_section(Trigger, longest | trigger, dotted(key, "when"), problems)
    problems.add(key, f"a schedule needs exactly one of 'at', 'every' and 'when', got {value!r}")
    return None


def read_chosen(group: str, data: Any, key: str, problems: Problems) -> Chosen | None:
    """A plug-in of a group with its settings, or ``None`` where problems were noted."""
    found = read_plugin(group, data, key, problems)
    return None if found is None else Chosen(kind=found[0], config=found[1])


def read_agent(data: Any, key: str, problems: Problems) -> ChosenAgent | None:
    """An agent whose ``Config`` answers all that a plan asks, or ``None`` where problems were noted."""
    own = {name: value for name, value in data.items() if name != "start"} if isinstance(data, Mapping) else data
    chosen = read_chosen(problems.clock.group, _of_family(own, key, problems), key, problems)
    if chosen is None:
        return None
    asked = [name for name in vars(AgentConfig) if not name.startswith("_")]
    if missing := [name for name in asked if not hasattr(chosen.config, name)]:
        problems.add(
            f"{key}.kind",
            f"{chosen.kind!r} cannot be planned, because its Config has no {', '.join(missing)}; see "
            "plasticbench/contracts/learner.py",
        )
        return None
    begun = data.get("start") if isinstance(data, Mapping) else None
    start = None if begun is None else read_start(begun, chosen.kind, f"{key}.start", problems)
    return ChosenAgent(kind=chosen.kind, config=chosen.config, start=start)


def _of_family(data: Any, key: str, problems: Problems) -> Any:
    """Without the settings, noted as problems, that only those who are trained in the other family have."""
    clock = problems.clock
    other = STEPS if clock is UPDATES else UPDATES
    if not isinstance(data, Mapping) or clock is STEPS or data.get("kind") not in plugins.names(clock.group):
        return data
    own, theirs = (
        {field.name for kind in plugins.names(group) for field in fields(plugins.load(group, kind).Config)}
        for group in (clock.group, other.group)
    )
    for name in [name for name in data if name in theirs - own]:
        problems.add(dotted(key, name), f"is a setting of {other.task}; {clock.task} have none of it. Remove it")
    return {name: value for name, value in data.items() if name not in theirs - own}


def _has_own_schedule(item: Any) -> bool:
    return isinstance(item, Mapping) and any(name in item for name in SCHEDULE_KEYS)


def _sweeps(item: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if isinstance(item, Mapping) and item.keys() == {"sweep"}:
        yield path, item["sweep"]
    elif isinstance(item, Mapping | list):
        for name, value in item.items() if isinstance(item, Mapping) else enumerate(item):
            yield from _sweeps(value, (*path, name))


def _replaced(item: Any, chosen: Mapping[tuple[str | int, ...], Any], path: tuple[str | int, ...]) -> Any:
    if path in chosen:
        return chosen[path]
    if isinstance(item, Mapping):
        return {name: _replaced(value, chosen, (*path, name)) for name, value in item.items()}
    if isinstance(item, list):
        return [_replaced(value, chosen, (*path, index)) for index, value in enumerate(item)]
    return item


def _label(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
