"""A benchmark file that tunes: ``tuning_seeds`` beside ``seeds``, and ``tune`` in every method but references.

It is a suite of its own, with a task for each of its environments, nothing published and no version.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from plasticbench.analysis.runs import REFERENCES
from plasticbench.platform.definition.names import folder_name
from plasticbench.platform.definition.parsing import Problems, mapping
from plasticbench.platform.definition.reading import read_yaml
from plasticbench.platform.suites.definition import Suite, Task, suite_of

_OF_SUITE = ("name", "description", "tuning_seeds", "seeds", "methods")
_NO_VERSION = 0


def read_tuned_file(path: Path, overrides: Sequence[str] = ()) -> Suite | None:
    """The suite of a benchmark file with ``tuning_seeds``, ``None`` of any other. Raises ``BenchmarkError``."""
    data = read_yaml(path)
    if not isinstance(data, Mapping) or "tuning_seeds" not in data:
        return None
    data = read_yaml(path, overrides)
    problems = Problems(str(path))
    methods = mapping(data.get("methods"), "methods", problems)
    references = {name: item for name, item in methods.items() if _is_reference(item)}
    parts = {name: data.get(name) for name in _OF_SUITE} | {
        "version": _NO_VERSION,
        "methods": {name: item for name, item in methods.items() if name not in references},
        "references": references,
    }
    return suite_of(parts, list(_tasks(data, problems)), path.parent, problems)


def _is_reference(item: Any) -> bool:
    parts = item if isinstance(item, list) else [item]
    return any(isinstance(part, Mapping) and part.get("kind") in REFERENCES for part in parts)


def _tasks(data: Mapping[str, Any], problems: Problems) -> Iterator[Task]:
    environments = data.get("environments")
    if not isinstance(environments, list) or not environments or not all(isinstance(e, Mapping) for e in environments):
        problems.add("environments", f"must be a list with at least one environment, got {environments!r}")
        return
    own = {name: value for name, value in data.items() if name not in _OF_SUITE}
    names = [folder_name(str(e.get("name") or e.get("task") or e.get("kind"))) for e in environments]
    for name, environment in zip(names, environments, strict=True):
        if names.count(name) > 1:
            problems.add("environments", f"names must differ, got {name!r} twice: give each a 'name'")
        yield Task(name=name, data={**own, "environments": [environment]})
