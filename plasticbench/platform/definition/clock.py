"""Two families of courses in one format: agents count steps of their environments, learners of data their updates.

A file is of one family. Everything behind the reader has the names of agents; here those of learners are turned into
them, and back in what people read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

_SECTIONS = ("evaluation", "probes", "records")  # each has a cadence


@dataclass(frozen=True, slots=True)
class Clock:
    """What a family calls who is trained, its budget, and a cadence; ``group`` is that of its plug-ins."""

    group: Literal["agents", "learners"]
    learner: str
    budget: str
    every: str
    unit: str
    task: str  # what the family is about, for messages

    def internal(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """A file's data under the names of agents."""
        return _renamed(data, {self.learner: "agent", self.budget: "budget_steps"}, {self.every: "every_steps"})

    def written(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Inverse of ``internal``."""
        return _renamed(data, {"agent": self.learner, "budget_steps": self.budget}, {"every_steps": self.every})

    def override(self, text: str) -> str:
        """A ``dotted.key=value`` under the names of agents."""
        path, equals, value = text.partition("=")
        names = {self.learner: "agent", self.budget: "budget_steps", self.every: "every_steps"}
        return ".".join(names.get(part.strip(), part.strip()) for part in path.split(".")) + equals + value

    def words(self, text: str) -> str:
        """A message about the names of agents in those of the family."""
        if self is STEPS:
            return text
        for pattern, word in _WORDS:
            text = re.sub(pattern, word, text)
        return text

    def strangers(self, data: Mapping[str, Any]) -> dict[str, str]:
        """Dotted keys that only the other family has, and what to do about each."""
        other = STEPS if self is UPDATES else UPDATES
        found = [name for name in (other.learner, other.budget) if name in data]
        for section in _SECTIONS:
            inside = data.get(section)
            if isinstance(inside, Mapping) and other.every in inside:
                found.append(f"{section}.{other.every}")
        names = {other.learner: self.learner, other.budget: self.budget, other.every: self.every}
        return {key: names[key.rpartition(".")[2]] for key in found}


STEPS = Clock("agents", "agent", "budget_steps", "every_steps", "agent steps", "agents in environments")
UPDATES = Clock("learners", "learner", "budget_updates", "every_updates", "updates", "learners of data")
_WORDS = (
    (r"\bbudget_steps\b", UPDATES.budget),
    (r"\bevery_steps\b", UPDATES.every),
    (r"(?<!\w)agent(?=\.|:| kind|$)", UPDATES.learner),
    (r"\bagent steps\b", "updates"),
    (r"\bagent step\b", "update"),
    (r"(budget of [\d,]+) steps", r"\1 updates"),
)


def clock_of(data: Mapping[str, Any]) -> Clock:
    """The family of a file: that of a learner where one is named."""
    return UPDATES if UPDATES.learner in data or (UPDATES.budget in data and STEPS.learner not in data) else STEPS


def _renamed(data: Mapping[str, Any], top: Mapping[str, str], inside: Mapping[str, str]) -> dict[str, Any]:
    renamed: dict[str, Any] = {}
    for name, value in data.items():
        if name in _SECTIONS and isinstance(value, Mapping):
            value = {inside.get(key, key): item for key, item in value.items()}
            value |= {key: _of_probes(item, inside) for key, item in value.items() if key == "kinds"}
        if name == "methods" and isinstance(value, Mapping):
            value = {key: _of_method(item, top) for key, item in value.items()}
        renamed[top.get(name, name)] = value
    return renamed


def _of_probes(kinds: Any, names: Mapping[str, str]) -> Any:
    """Probes may have a cadence of their own."""
    return [_of_method(kind, names) for kind in kinds] if isinstance(kinds, list) else kinds


def _of_method(item: Any, names: Mapping[str, str]) -> Any:
    return {names.get(key, key): value for key, value in item.items()} if isinstance(item, Mapping) else item
