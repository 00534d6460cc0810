"""The figures and tables of a report: which curve, distribution and event goes where."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup

from plasticbench.analysis import aggregate, plots
from plasticbench.analysis.curves import Curve, curves_by_name, curves_over_tasks
from plasticbench.analysis.leaderboard import BOOTSTRAP_SEED, Row, complete_scores
from plasticbench.analysis.outcomes import Outcome
from plasticbench.analysis.runs import Run

_PROBES = {
    "dormant_ratio": ("Dormant units", "share of hidden units that hardly respond; lower is healthier"),
    "srank": ("Feature rank (srank)", "directions that carry 99% of the features; higher is richer"),
    "gradient_norm": ("Gradient norm", "of the agent's own loss; near zero nothing is learned"),
    "dfi": ("Deviation from isometry (DfI)", "squared distance of the weights from an isometry"),
    "weight_norm": ("Weight norm", "of all weights; growth makes every step relatively smaller"),
    "update_ratio": ("Update ratio", "size of an optimizer step relative to the weights"),
}
"""The probes that are shown at once, their titles, and how to read them; all others are folded away."""


_MAX_OPEN_TASKS = 8
"""With more tasks the figures of single tasks are folded away, and hold fewer faint lines."""
MAX_DETAILED_TASKS = 30
"""With more tasks, single tasks show their score alone, and probes are shown over all tasks."""
_ALL = "all tasks"


class Panel(NamedTuple):
    """A figure, its title and a line on how to read it."""

    title: str
    hint: str
    svg: Markup


class PanelGroup(NamedTuple):
    """Panels under one heading; those in ``folded`` are behind a click."""

    title: str
    shown: list[Panel]
    folded: list[Panel]


@dataclass(kw_only=True, slots=True)
class Panels:
    """Makes the parts of one run's report; ``table`` holds the records of whole networks."""

    run: Run
    table: pd.DataFrame
    colours: Mapping[str, str]
    _curves: dict[str, dict[str, list[Curve]]] = field(init=False)
    _tasks: list[str] = field(init=False)
    _keys: dict[str, str] = field(init=False)
    _events: dict[str, list[plots.Event]] = field(init=False)

    def __post_init__(self) -> None:
        kept = self.table if self._is_detailed else self.table[self.table["name"] == "eval/score"]
        by_task = dict(list(kept.groupby("task", observed=True)))
        self._tasks = [task for task in self.run.tasks if task in by_task]
        self._keys = {task: f"t{i}" for i, task in enumerate(self.run.tasks)} | {_ALL: "all"}
        self._events = _events(self.run) | {_ALL: []}
        self._curves = {task: curves_by_name(by_task[task]) for task in self._tasks} | {_ALL: self._over_tasks()}

    @property
    def max_faint_lines(self) -> int:
        """Single runs of one method that a figure holds at most."""
        return plots.MAX_FAINT_LINES if len(self.run.tasks) <= _MAX_OPEN_TASKS else plots.FEW_FAINT_LINES

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
        """Return and score of each task; training records folded; all tasks together first where there are several."""
        groups = []
        if "eval/score" in self._curves[_ALL]:
            panel = self._panel(_ALL, "eval/score", "Score", "IQM over all tasks; faint lines: tasks")
            groups.append(PanelGroup(_ALL.capitalize(), [panel], []))
        for task in self._tasks:
            training = "during training, with exploration"
            curves = self._curves[task]
            shown = [
                ("eval/return", "Return", "mean over the episodes of an evaluation"),
                ("eval/score", "Score", "the same, normalised: 0 and 1 are the reference returns"),
            ]
            if task not in self.run.scored_tasks:
                shown = [("eval/score", "Return", "mean over an evaluation's episodes; no reference returns are known")]
            rest = sorted(name for name in curves if name.startswith(("train/", "loss/", "q/")))
            if self.run.clock == "updates":
                shown = [("eval/score", "Score", self.run.score_source(task))]
                rest = [name for name in curves if name.startswith("eval/") and name != "eval/score"] + rest
                training = "means over updates, or at evaluations"
            evaluations = [self._panel(task, name, title, hint) for name, title, hint in shown if name in curves]
            groups.append(self._group(task, evaluations, [self._panel(task, name, name, training) for name in rest]))
        return [group for group in groups if group.shown or group.folded]

    def plasticity(self) -> list[PanelGroup]:
        """Probes of each network of each task: the most telling ones shown, the others folded."""
        groups = []
        for task in self._tasks if self._is_detailed else [_ALL]:
            names = [name.split("/") for name in self._curves[task] if name.startswith("plasticity/")]
            networks = sorted({network for _, network, _ in names}, key=lambda network: (network != "online", network))
            for network in networks:
                probes = sorted(probe for _, other, probe in names if other == network)
                shown = [probe for probe in _PROBES if probe in probes]
                folded = [probe for probe in probes if probe not in _PROBES]
                title = (
                    f"{task.capitalize() if task == _ALL else task}, {network} network"
                    if len(self.run.tasks) > 1
                    else f"{network.capitalize()} network"
                )
                made = [[self._probe(task, network, probe) for probe in part] for part in (shown, folded)]
                if network != networks[0]:
                    made = [[], made[0] + made[1]]
                groups.append(self._group(title, *made))
        return groups

    def distributions(self, found: Sequence[Outcome], rows: Sequence[Row]) -> list[Panel]:
        """Final scores of all runs of each task."""
        by_cell = {(row.task, row.method): row for row in rows}
        finals: dict[tuple[str, str], list[float]] = {}
        for outcome in found:
            if outcome.is_complete:
                finals.setdefault((outcome.task, outcome.method), []).append(outcome.final_score)
        panels: list[Panel] = []
        for task in self.run.tasks:
            strips = []
            for method in self.run.methods:
                if (task, method) in finals:
                    values = np.array(finals[task, method])
                    iqm = by_cell[task, method].final.iqm
                    centre = float(aggregate.iqm([values]))
                    strips.append(plots.Strip(method=method, values=values, centre=centre, low=iqm.low, high=iqm.high))
            if strips:
                measure = by_cell[task, strips[0].method].measure
                label = f"Final {measure}s of all runs on {task}: " + _summary([(s.method, s.centre) for s in strips])
                key = f"d{len(panels)}"
                svg = plots.distribution_figure(strips, self.colours, key=key, label=label, quantity=f"final {measure}")
                panels.append(Panel(task, "dots: seeds; tick: IQM; bar: 95% interval", Markup(svg)))
        return panels

    def profile(self, found: Sequence[Outcome]) -> Panel | None:
        """Performance profile of the methods that are complete on all tasks, from ten runs a method on."""
        scores = complete_scores(self.run.scored_tasks, found)
        pooled = [np.concatenate([runs.values for runs in tasks]) for tasks in scores.values()]
        if not pooled or min(map(len, pooled)) < 10 or not all(map(aggregate.has_interval, scores.values())):
            return None
        drawable = [values[np.abs(values) < plots.LARGEST] for values in pooled]
        ends = [0.0, 1.0, *(end for values in drawable if len(values) for end in (values.min(), values.max()))]
        thresholds = np.linspace(min(ends), max(ends), 101)

        def share(sample: aggregate.Scores) -> np.ndarray:
            return aggregate.performance_profile(sample, thresholds)

        rng = np.random.Generator(np.random.PCG64(BOOTSTRAP_SEED))
        bands = {m: aggregate.interval(s) for m, s in aggregate.bootstrap(scores, share, rng, resamples=500).items()}
        profiles = [
            plots.Profile(method=m, thresholds=thresholds, share=share([r.values for r in t]), low=lo, high=hi)
            for (m, t), (lo, hi) in zip(scores.items(), bands.values(), strict=True)
        ]
        svg = plots.profile_figure(profiles, self.colours, key="profile", label="Share of runs above each final score")
        return Panel(
            "Performance profile", "share of runs that score more; a curve above another is better", Markup(svg)
        )

    def _group(self, title: str, shown: list[Panel], folded: list[Panel]) -> PanelGroup:
        """With many tasks everything of a single task is folded away."""
        if len(self._tasks) > _MAX_OPEN_TASKS and self._is_detailed:
            return PanelGroup(title, [], shown + folded)
        return PanelGroup(title, shown, folded)

    def _probe(self, task: str, network: str, probe: str) -> Panel:
        title, hint = _PROBES.get(probe, (probe.replace("_", " ").capitalize(), ""))
        after_reset = self._curves[task].get(f"reset/after/{network}/{probe}", ())
        return self._panel(task, f"plasticity/{network}/{probe}", title, hint, after_reset)

    def _panel(self, task: str, name: str, title: str, hint: str, after_reset: Sequence[Curve] = ()) -> Panel:
        curves = self._curves[task][name]
        ends = [(curve.method, curve.centre[np.isfinite(curve.centre)][-1:]) for curve in curves]
        where = "over" if task == _ALL else "on"
        last = _summary([(method, float(end[0])) for method, end in ends if len(end)])
        svg = plots.curve_figure(
            curves,
            self.colours,
            key=f"{self._keys[task]}-{re.sub(r'[^a-z0-9]+', '-', name.lower())}",
            label=f"{title} {where} {task} over {self.run.clock}; last value: {last}",
            budget_steps=self.run.budget_steps,
            max_faint_lines=self.max_faint_lines,
            events=self._events[task],
            after_reset=after_reset,
            clock=self.run.clock,
        )
        return Panel(title, hint, Markup(svg))


def _events(run: Run) -> dict[str, list[plots.Event]]:
    """The resets and changes of each task, one event per step."""
    resets: dict[str, set[int]] = {task: set() for task in run.tasks}
    changes: dict[str, set[int]] = {task: set() for task in run.tasks}
    for trial in run.trials:
        resets[trial.task].update(trial.events)
        changes[trial.task].update(trial.change_steps)
    labels = {(True, False): "reset", (False, True): "change", (True, True): "change and reset"}
    return {
        task: [plots.Event(step=s, label=labels[s in own, s in changes[task]]) for s in sorted(own | changes[task])]
        for task, own in resets.items()
    }


def _summary(values: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{method} {value:.3g}" for method, value in values)
