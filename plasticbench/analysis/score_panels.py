"""The figures of a report about final scores: distributions, the performance profile, and probes against scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup
from scipy.stats import spearmanr

from plasticbench.analysis import aggregate
from plasticbench.analysis.aggregate import Runs
from plasticbench.analysis.colours import MethodStyle
from plasticbench.analysis.drawing import LARGEST
from plasticbench.analysis.improvement import BOOTSTRAP_SEED
from plasticbench.analysis.leaderboard import complete_scores
from plasticbench.analysis.outcomes import Outcome
from plasticbench.analysis.panels import Panel, summary
from plasticbench.analysis.plasticity import ProbesAtEnd
from plasticbench.analysis.probe_facts import MOST_TELLING, facts_of, kind_of, order
from plasticbench.analysis.rows import Row
from plasticbench.analysis.runs import Run
from plasticbench.analysis.score_plots import (
    Profile,
    Strip,
    distribution_figure,
    profile_figure,
    scatter_figure,
)

Styles = Mapping[str, MethodStyle]
_MAX_SCATTERED_TASKS = 8


def distributions(run: Run, found: Sequence[Outcome], rows: Sequence[Row], styles: Styles) -> list[Panel]:
    """Final scores of all runs of each task, methods by rank, on one scale for all tasks with references."""
    finals: dict[tuple[str, str], list[float]] = {}
    for outcome in found:
        if outcome.is_complete:
            finals.setdefault((outcome.task, outcome.method), []).append(outcome.final_score)
    common = _limits([finals[key] for key in finals if key[0] in run.scored_tasks], [0.0, 1.0])
    panels: list[Panel] = []
    for task in run.tasks:
        own = [row for row in rows if row.task == task and (task, row.method) in finals]
        strips = [_strip(row, np.array(finals[task, row.method])) for row in own]
        if strips:
            measure = own[0].measure
            label = f"Final {measure}s of all runs on {task}: " + summary([(s.method, s.centre) for s in strips])
            limits = common if task in run.scored_tasks else _limits([finals[task, s.method] for s in strips], [])
            svg = distribution_figure(
                strips, styles, limits, key=f"d{len(panels)}", label=label, quantity=f"final {measure}"
            )
            panels.append(Panel(task, "dots: seeds; tick: IQM; bar: 95% interval, cut at the edge", Markup(svg)))
    return panels


def _strip(row: Row, values: np.ndarray) -> Strip:
    iqm = row.final.iqm
    return Strip(method=row.method, values=values, centre=float(aggregate.iqm([values])), low=iqm.low, high=iqm.high)


def _limits(values: Sequence[Sequence[float]], least: Sequence[float]) -> tuple[float, float]:
    known = [value for own in values for value in own if abs(value) < LARGEST] + list(least)
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    room = 0.06 * (high - low) or 0.5
    return low - room, high + room


def profile(run: Run, found: Sequence[Outcome], styles: Styles) -> Panel | None:
    """Performance profile of the methods that are complete on all tasks, from ten runs a method on."""
    scores = complete_scores(run.scored_tasks, found)
    pooled = [np.concatenate([runs.values for runs in tasks]) for tasks in scores.values()]
    if not pooled or min(map(len, pooled)) < 10 or not all(map(aggregate.has_interval, scores.values())):
        return None
    drawable = [values[np.abs(values) < LARGEST] for values in pooled]
    ends = [0.0, 1.0, *(end for values in drawable if len(values) for end in (values.min(), values.max()))]
    thresholds = np.linspace(min(ends), max(ends), 101)

    def share(sample: aggregate.Scores) -> np.ndarray:
        return aggregate.performance_profile(sample, thresholds)

    rng = np.random.Generator(np.random.PCG64(BOOTSTRAP_SEED))
    bands = {m: aggregate.interval(s) for m, s in aggregate.bootstrap(scores, share, rng, resamples=500).items()}
    profiles = [
        Profile(method=m, thresholds=thresholds, share=share([r.values for r in t]), low=lo, high=hi)
        for (m, t), (lo, hi) in zip(scores.items(), bands.values(), strict=True)
    ]
    svg = profile_figure(profiles, styles, key="profile", label="Share of runs above each final score")
    hint = "share of runs that score more; a curve above another is better"
    return Panel("Performance profile", hint, Markup(svg))


def scatters(found: Sequence[Outcome], probes: ProbesAtEnd, styles: Styles) -> list[Panel]:
    """The most telling probes of the first trained network against final scores, for each task.

    Correlations are of all trials; methods without a style are not drawn.
    """
    panels = []
    for number, (task, by_name) in enumerate(list(probes.values.items())[:_MAX_SCATTERED_TASKS]):
        own = [outcome for outcome in found if outcome.task == task and outcome.is_complete]
        finals = {(outcome.method, outcome.seed): outcome.final_score for outcome in own}
        measure = "score" if all(outcome.has_references for outcome in own) else "return"
        names = [name for name in by_name if name.partition("/")[2] in MOST_TELLING and "target" not in name]
        first = min((name.partition("/")[0] for name in names), key=lambda n: (n != "online", n), default="")
        for name in sorted(names, key=lambda name: order(name.partition("/")[2])):
            network, _, probe = name.partition("/")
            points = {m: pair for m, runs in by_name[name].items() if len((pair := _points(m, runs, finals))[0])}
            if network == first and kind_of(probe) == probe and points:
                panels.append(_scatter(task, probe, points, styles, f"x{number}", measure, len(probes.values)))
    return panels


def _points(method: str, runs: Runs, finals: Mapping[tuple[str, int], float]) -> tuple[np.ndarray, np.ndarray]:
    pairs = [
        (value, finals[method, seed])
        for value, seed in zip(runs.values.tolist(), runs.seeds, strict=True)
        if (method, seed) in finals
    ]
    return np.array([x for x, _ in pairs]), np.array([y for _, y in pairs])


def _scatter(
    task: str,
    probe: str,
    points: Mapping[str, tuple[np.ndarray, np.ndarray]],
    styles: Styles,
    key: str,
    measure: str,
    num_tasks: int,
) -> Panel:
    facts = facts_of(probe)
    x, y = (np.concatenate(part) for part in zip(*points.values(), strict=True))
    shown = f"{len(x)} trials"
    if len(x) > 2 and np.ptp(x) > 0 and np.ptp(y) > 0:
        shown += f", rank correlation {float(spearmanr(x, y).statistic):.2f}".replace("-", "\N{MINUS SIGN}")
    label = f"Final {measure}s on {task} against {facts.title}: {shown}"
    drawn = {method: pair for method, pair in points.items() if method in styles}
    svg = scatter_figure(
        drawn, styles, facts, key=f"{key}-{probe}", label=label, quantity=f"{facts.title} {facts.arrow}".strip(),
        measure=measure,
    )  # fmt: skip
    title = f"{facts.title} on {task}" if num_tasks > 1 else facts.title
    return Panel(title, f"{shown}; dots: trials, large: means of methods", Markup(svg))
