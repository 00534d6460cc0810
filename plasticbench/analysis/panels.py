"""The figures of a report over agent steps: which curve and which event goes where."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup

from plasticbench.analysis.annotations import Marks
from plasticbench.analysis.colours import MethodStyle
from plasticbench.analysis.curve_plots import (
    FEW_FAINT_LINES,
    MAX_FAINT_LINES,
    MAX_TOGETHER,
    Picture,
    curve_figure,
    small_figures,
)
from plasticbench.analysis.curves import Curve, curves_by_name, curves_over_tasks
from plasticbench.analysis.marks import marks, marks_over_tasks
from plasticbench.analysis.probe_facts import MOST_TELLING, ProbeFacts, facts_of, kind_of, order
from plasticbench.analysis.quantities import quantity, return_scale
from plasticbench.analysis.runs import Run

_MAX_OPEN_TASKS = 8
"""With more tasks the figures of single tasks are folded away, and hold fewer faint lines."""
_MAX_ALL_FAINT_LINES = 80  # of all methods in one figure
MAX_DETAILED_TASKS = 30
"""With more tasks, single tasks show their score alone, and probes are shown over all tasks."""
_ALL = "all tasks"


class Panel(NamedTuple):
    """A figure, its title and a line on how to read it; ``small`` are figures of single methods."""

    title: str
    hint: str
    svg: Markup
    small: Sequence[tuple[str, Markup]] = ()


class PanelGroup(NamedTuple):
    """Panels under one heading; those in ``folded`` are behind a click."""

    title: str
    shown: list[Panel]
    folded: list[Panel]


@dataclass(kw_only=True, slots=True)
class Panels:
    """Makes the curves of one run's report; ``table`` holds the records of whole networks."""

    run: Run
    table: pd.DataFrame
    styles: Mapping[str, MethodStyle]
    _curves: dict[str, dict[str, list[Curve]]] = field(init=False)
    _tasks: list[str] = field(init=False)
    _keys: dict[str, str] = field(init=False)
    _marks: dict[str, Marks] = field(init=False)
    _returns: dict[str, tuple[float, float] | None] = field(init=False)

    def __post_init__(self) -> None:
        kept = self.table if self._is_detailed else self.table[self.table["name"] == "eval/score"]
        by_task = dict(list(kept.groupby("task", observed=True)))
        self._tasks = [task for task in self.run.tasks if task in by_task]
        self._keys = {task: f"t{i}" for i, task in enumerate(self.run.tasks)} | {_ALL: "all"}
        self._marks = {task: marks(self.run.by_task[task], self.styles) for task in self.run.tasks}
        self._marks[_ALL] = marks_over_tasks(list(self.run.by_task.values()))
        self._curves = {task: curves_by_name(by_task[task]) for task in self._tasks} | {_ALL: self._over_tasks()}
        self._returns = {
            task: return_scale(own) if task in self.run.scored_tasks else None for task, own in by_task.items()
        }

    @property
    def max_faint_lines(self) -> int:
        """Single runs of one method that a figure holds at most."""
        most = MAX_FAINT_LINES if len(self.run.tasks) <= _MAX_OPEN_TASKS else FEW_FAINT_LINES
        return min(most, max(_MAX_ALL_FAINT_LINES // len(self.run.methods), 1))

    @property
    def _is_detailed(self) -> bool:
        return len(self.run.tasks) <= MAX_DETAILED_TASKS

    def _over_tasks(self) -> dict[str, list[Curve]]:
        probes = [
            name for name in self.table["name"].cat.categories if name.startswith(("plasticity/", "reset/after/"))
        ]
        found = {name: curves_over_tasks(self.table, name) for name in probes if not self._is_detailed}
        if len(pooled := self.run.scored_tasks) > 1:
            scored = self.table if pooled == self.run.tasks else self.table[self.table["task"].isin(pooled)]
            found["eval/score"] = curves_over_tasks(scored, "eval/score")
        return {name: curves for name, curves in found.items() if curves}

    def learning_curves(self) -> list[PanelGroup]:
        """Score and return of each task, training records folded; all tasks together first where there are several."""
        shown, groups = list[Panel](), list[PanelGroup]()
        if "eval/score" in self._curves[_ALL]:
            facts = quantity("eval/score")._replace(hint="IQM over all tasks; faint lines: tasks")
            shown.append(self._panel(_ALL, "eval/score", facts))
        for task in self._tasks:
            names = self._curves[task]
            rest = sorted(name for name in names if name.startswith(("train/", "loss/", "q/")))
            if self.run.clock == "updates":
                rest = [name for name in names if name.startswith("eval/") and name != "eval/score"] + rest
            own = [self._panel(task, name, facts) for name, facts in self._evaluations(task) if name in names]
            folded = [self._panel(task, name, quantity(name)) for name in rest]
            if len(self._tasks) <= _MAX_OPEN_TASKS or not self._is_detailed:
                shown += own
            else:
                folded = own + folded
            groups.append(PanelGroup(task, [], folded))
        return [group for group in (PanelGroup("Evaluations", shown, []), *groups) if group.shown or group.folded]

    def _evaluations(self, task: str) -> list[tuple[str, ProbeFacts]]:
        """Where scores and returns are one scale, one figure shows both."""
        if self.run.clock == "updates":
            score = quantity("eval/score")._replace(hint=self.run.score_source(task))
            is_accuracy = any(name.endswith("_accuracy") for name in self._curves[task])
            return [("eval/score", score._replace(low=0.0, high=1.0, is_whole=True) if is_accuracy else score)]
        if task not in self.run.scored_tasks:
            hint = "mean over an evaluation's episodes; no reference returns are known"
            return [("eval/score", quantity("eval/return")._replace(hint=hint))]
        score = quantity("eval/score")
        if self._returns[task]:
            return [("eval/score", score._replace(hint=f"{score.hint}; in brackets the return"))]
        return [("eval/score", score), ("eval/return", quantity("eval/return"))]

    def plasticity(self) -> list[PanelGroup]:
        """Probes of each network of each task: the most telling ones shown, the others folded."""
        groups = []
        for task in self._tasks if self._is_detailed else [_ALL]:
            names = [name.split("/") for name in self._curves[task] if name.startswith("plasticity/")]
            networks = sorted({network for _, network, _ in names}, key=lambda network: (network != "online", network))
            for network in networks:
                probes = sorted((probe for _, other, probe in names if other == network), key=order)
                shown = [probe for probe in probes if kind_of(probe) == probe and probe in MOST_TELLING]
                folded = [probe for probe in probes if probe not in shown]
                title = (
                    f"{task.capitalize() if task == _ALL else task}, {network} network"
                    if len(self.run.tasks) > 1
                    else f"{network.capitalize()} network"
                )
                if network != networks[0]:
                    shown, folded = [], shown + folded
                made = [[self._probe(task, network, probe) for probe in part] for part in (shown, folded)]
                groups.append(self._group(title, *made))
        return groups

    def _group(self, title: str, shown: list[Panel], folded: list[Panel]) -> PanelGroup:
        """With many tasks everything of a single task is folded away."""
        if len(self._tasks) > _MAX_OPEN_TASKS and self._is_detailed:
            return PanelGroup(title, [], shown + folded)
        return PanelGroup(title, shown, folded)

    def _probe(self, task: str, network: str, probe: str) -> Panel:
        after = self._curves[task].get(f"reset/after/{network}/{probe}", ())
        treated = [curve for curve in after if curve.method not in self.run.controls]
        return self._panel(task, f"plasticity/{network}/{probe}", facts_of(probe), treated)

    def _panel(self, task: str, name: str, facts: ProbeFacts, after_reset: Sequence[Curve] = ()) -> Panel:
        curves = self._curves[task][name]
        ends = [(curve.method, curve.centre[np.isfinite(curve.centre)][-1:]) for curve in curves]
        last = summary([(method, float(end[0])) for method, end in ends if len(end)])
        label = f"{facts.title} {'over' if task == _ALL else 'on'} {task} over {self.run.clock}; last value: {last}"
        key = f"{self._keys[task]}-{re.sub(r'[^a-z0-9]+', '-', name.lower())}"
        picture = Picture(
            curves=curves,
            styles=self.styles,
            budget_steps=self.run.budget_steps,
            facts=facts,
            marks=self._marks[task],
            after_reset=after_reset,
            max_faint_lines=self.max_faint_lines,
            returns=self._returns.get(task) if name == "eval/score" else None,
            clock=self.run.clock,
        )
        hint = "; ".join(part for part in (facts.hint, facts.direction if facts.better else "") if part)
        if picture.is_logarithmic():
            hint += "; logarithmic"
        if picture.marks.note and picture.marks.lines:
            hint += f"; {picture.marks.note}"
        svg = Markup(curve_figure(picture, key=key, label=label))
        title = f"{facts.title}, {task}" if name.startswith("eval/") and len(self.run.tasks) > 1 else facts.title
        return Panel(title, hint, svg, self._small(picture, task, name, key))

    def _small(self, picture: Picture, task: str, name: str, key: str) -> list[tuple[str, Markup]]:
        """Of scores and the most telling probes, where there are many methods and one task, or all together."""
        is_whole = task == _ALL or len(self.run.tasks) == 1
        first = min(_networks(self._curves[task]), key=lambda network: (network != "online", network), default="")
        is_telling = name == "eval/score" or name in {f"plasticity/{first}/{probe}" for probe in MOST_TELLING}
        if len(picture.curves) <= MAX_TOGETHER or not is_whole or not is_telling:
            return []
        small = small_figures(picture, sorted(self.run.controls), key=f"{key}-s", label=picture.facts.title)
        return [(method, Markup(svg)) for method, svg in small]


def _networks(names: Iterable[str]) -> set[str]:
    return {name.split("/")[1] for name in names if name.startswith("plasticity/")}


def summary(values: Sequence[tuple[str, float]]) -> str:
    """Methods and values for those who do not see a figure."""
    return ", ".join(f"{method} {value:.3g}" for method, value in values)
