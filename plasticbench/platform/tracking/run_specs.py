"""How a plan's trials, methods and report appear as MLflow runs: names, tags and parameters. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from plasticbench.analysis.colours import CONTROL_COLOUR, palette

NOTE = "mlflow.note.content"
"""The tag that MLflow shows as a run's description."""
Trial = Mapping[str, Any]
"""One entry of ``plan.json``: id, task, method, seed and nested settings."""


class RunSpec(NamedTuple):
    """What identifies and describes one run; ``key`` is a tag and its value, unique in the run directory."""

    key: tuple[str, str]
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    parent: str | None = None  # MLflow run id


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted parameters; text stands as it is, other scalars and lists as JSON."""
    flat: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value if isinstance(value, str) else json.dumps(value)
    return flat


class RunSpecs:
    """The runs of one plan, which is plain data as in ``plan.json``."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self._plan = plan
        self._several_tasks = len({trial["task"] for trial in plan["trials"]}) > 1
        values: dict[str, set[str]] = {}
        for trial in plan["trials"]:
            for name, value in flatten(trial["settings"]).items():
                values.setdefault(name, set()).add(value)
        methods = list(dict.fromkeys(trial["method"] for trial in plan["trials"]))
        controls = {t["method"] for t in plan["trials"] if flatten(t["settings"]).get("method.kind") == "none"}
        self._colours = palette(methods, controls)  # those of the report
        self._differing = [name for name in sorted(values) if len(values[name]) > 1 and name != "seed"]

    def trial(self, trial: Trial, parent: str) -> RunSpec:
        """One trial: named by method and seed, and by its task where the benchmark has several."""
        params = flatten(trial["settings"])
        return RunSpec(
            key=("plasticbench.trial", trial["id"]),
            name=(f"{trial['task']} " if self._several_tasks else "") + f"{trial['method']} s{trial['seed']}",
            tags={**self._tags(trial, params), "level": "trial", "seed": str(trial["seed"])},
            params=params,
            parent=parent,
        )

    def method(self, trials: Sequence[Trial]) -> RunSpec:
        """The parent of a (task, method)'s trials, with the settings that all of them share."""
        first, *others = [flatten(trial["settings"]) for trial in trials]
        shared = {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}
        task, method = trials[0]["task"], trials[0]["method"]
        return RunSpec(
            key=("plasticbench.method", f"{task}/{method}"),
            name=f"{task} {method}",
            tags={**self._tags(trials[0], first), "level": "method"},
            params=shared | {"seeds": json.dumps([trial["seed"] for trial in trials])},
        )

    def report(self) -> RunSpec:
        """The run that holds the report's files."""
        shown = {"level": "report", "mlflow.runColor": CONTROL_COLOUR}
        tags = {"code_version": str(self._plan["version"]), **shown, **self._source()}
        return RunSpec(("plasticbench.report", "report"), "report", tags, {})

    def _source(self) -> dict[str, str]:
        """What MLflow shows as a run's source."""
        commit = self._plan.get("versions", {}).get("commit")
        tags = {"mlflow.source.type": "LOCAL", "mlflow.source.name": f"plasticbench {self._plan['version']}"}
        return tags | ({} if commit is None else {"mlflow.source.git.commit": commit})

    def _tags(self, trial: Trial, params: Mapping[str, str]) -> dict[str, str]:
        agent = " ".join(params[name] for name in ("agent.kind", "agent.algorithm") if name in params)
        version = str(self._plan["version"])
        differing = [f"* `{name}`: {params[name]}" for name in self._differing if name in params]
        shown = {"mlflow.runColor": self._colours[trial["method"]]}
        note = {NOTE: "\n".join(["What sets it apart in this benchmark:", *differing])}
        tags = {"task": trial["task"], "method": trial["method"], "code_version": version, **self._source()}
        tags["group"] = f"{trial['task']} {trial['method']}" if self._several_tasks else trial["method"]
        return tags | {"agent": agent or params.get("agent", "unnamed")} | shown | (note if differing else {})
