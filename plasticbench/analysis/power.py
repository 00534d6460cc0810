"""How well each task of a finished run tells its methods apart: what a suite asks before it takes a task in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from plasticbench.analysis.aggregate import MIN_SEEDS, Runs, iqm
from plasticbench.analysis.claims import compare_methods, is_testable, seeds_needed
from plasticbench.analysis.continual import Values, measured
from plasticbench.analysis.intervals import estimate_of
from plasticbench.analysis.leaderboard import complete_scores
from plasticbench.analysis.leaderboard_text import interval_text, number_text
from plasticbench.analysis.not_finite import counted
from plasticbench.analysis.outcomes import RECORD_PATTERN, Outcome, outcomes, references
from plasticbench.analysis.rows import Estimate
from plasticbench.analysis.runs import Trial, load_run, read_table
from plasticbench.storage import Location

LEAST_LOSS = 0.2
"""Of normalised score that a control must lose against a fresh agent."""
LEAST_TAU = 0.6
_MIN_RANKED = 6  # methods whose order the halves are to agree on
_MIN_HALF = 10  # seeds


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskPower:
    """One task. Methods stand by IQM; references are left out.

    ``separated``: pairs of which the family-wise test finds the first ahead; ``widths`` are those of 95 % intervals.
    ``seeds_needed`` finds ``difference`` between two methods of the mean spread with 80 %, ``None`` if 200 do not.
    ``tau`` is Kendall's, of the orders on two disjoint halves of the seeds, over separated pairs alone.
    ``loss`` is the control's score of the last phase behind a fresh agent's. ``diverged`` counts trials that are
    overvalued or not finite, of ``num_trials``; ``incomplete`` those without a final evaluation, for which a method is
    left out.
    """

    task: str
    methods: list[str]
    num_seeds: int
    separated: list[tuple[str, str]]
    num_pairs: int
    widths: Mapping[str, float | None]
    difference: float
    seeds_needed: int | None
    best_over_control: bool | None
    tau: float | None
    half_seeds: int
    control: str | None
    loss: Estimate | None
    diverged: Mapping[str, int]
    num_trials: Mapping[str, int]
    incomplete: Mapping[str, int]

    @property
    def criteria(self) -> dict[str, bool | None]:
        """What a suite asks; ``None`` where this run cannot tell."""
        enough = len(self.methods) >= _MIN_RANKED and self.half_seeds >= _MIN_HALF
        return {
            "control_loses": None if self.loss is None or self.loss.value is None else self.loss.value >= LEAST_LOSS,
            "best_is_separated": self.best_over_control,
            "halves_agree": self.tau >= LEAST_TAU if self.tau is not None and enough else None,
            "nothing_diverged": not any(self.diverged.values()),
        }


def power(run_dir: Location, difference: float) -> list[TaskPower]:
    """Of each task; ``difference`` of mean scores is what the number of seeds is asked for.

    Raises ``ValueError`` for anything else than a run directory, or a difference that is not above 0.
    """
    if not difference > 0.0:
        raise ValueError(f"difference: must be above 0, got {difference:g}")
    run = load_run(run_dir)
    table = read_table(run, RECORD_PATTERN)
    found = outcomes([run], [table])
    [shown] = counted([table], references([run]))
    values = measured([run], [shown])
    return [power_of(run.by_task[task], found, values[task], difference) for task in run.tasks]


def power_of(
    trials: Sequence[Trial], found: Sequence[Outcome], values: Mapping[str, Values], difference: float
) -> TaskPower:
    """Of the task of these trials, from what trials reached and what was measured on it (``continual``)."""
    task = trials[0].task
    left_out = {trial.method for trial in trials if trial.is_reference}
    own = [outcome for outcome in found if outcome.task == task]
    complete = {m: runs for m, runs in complete_scores([task], own).items() if m not in left_out}
    order = sorted(complete, key=lambda method: -float(iqm([complete[method][0].values])))
    scores = {method: complete[method] for method in order}
    control = next((trial.method for trial in trials if trial.is_control), None)
    separated = separated_pairs(scores)
    agreement = halves(scores, separated)
    estimates = {method: estimate_of(runs[0].values.tolist()) for method, runs in scores.items()}
    losses = values.get(control or "", Values()).get(("lost_to_fresh", None))
    ranked = [method for method in (trial.method for trial in trials) if method not in left_out]
    counts = {method: [o for o in own if o.method == method] for method in dict.fromkeys(ranked)}
    return TaskPower(
        task=task,
        methods=order,
        num_seeds=min((len(runs[0].seeds) for runs in scores.values()), default=0),
        separated=separated,
        num_pairs=len(order) * (len(order) - 1) // 2,
        widths={m: e.high - e.low if e.low is not None and e.high is not None else None for m, e in estimates.items()},
        difference=difference,
        seeds_needed=seeds_needed(scores, difference) if is_testable(scores) else None,
        best_over_control=_best_over(control, order, separated) if is_testable(scores) else None,
        tau=agreement[0],
        half_seeds=agreement[1],
        control=control,
        loss=estimate_of(list(losses.values())) if losses else None,
        diverged={
            m: sum(o.overvalued is not None or o.not_finite is not None for o in own) for m, own in counts.items()
        },
        num_trials={method: len(own) for method, own in counts.items()},
        incomplete={
            method: missing for method, own in counts.items() if (missing := sum(not o.is_complete for o in own))
        },
    )


def _best_over(control: str | None, order: Sequence[str], separated: Sequence[tuple[str, str]]) -> bool | None:
    best = next((method for method in order if method != control), None)
    return None if control not in order or best is None else (best, control) in separated


def separated_pairs(scores: Mapping[str, Sequence[Runs]]) -> list[tuple[str, str]]:
    """Pairs of which the first is surely ahead; none where there are too few seeds."""
    if not is_testable(scores):
        return []
    names, ahead = list(scores), compare_methods(scores).is_ahead
    return [(names[i], names[j]) for i, j in zip(*np.nonzero(ahead), strict=True)]


def halves(scores: Mapping[str, Sequence[Runs]], pairs: Sequence[tuple[str, str]]) -> tuple[float | None, int]:
    """Kendall's tau of the mean scores on every other seed and on the rest, over these pairs; and seeds in a half.

    ``None`` without a pair, or where methods do not share their seeds.
    """
    seeds = {runs[0].seeds for runs in scores.values()}
    if len(seeds) != 1 or not pairs:
        return None, len(next(iter(seeds), ())) // 2
    size = len(next(iter(seeds))) // 2
    means = {
        m: (runs[0].values[0 : 2 * size : 2].mean(), runs[0].values[1 : 2 * size : 2].mean())
        for m, runs in scores.items()
    }
    signs = [np.sign(means[a][0] - means[b][0]) * np.sign(means[a][1] - means[b][1]) for a, b in pairs]
    return float(np.mean(signs)), size


def to_json(found: Sequence[TaskPower]) -> list[dict[str, Any]]:
    """Plain data."""
    return [asdict(task) | {"criteria": task.criteria} for task in found]


def to_text(found: Sequence[TaskPower]) -> str:
    """A paragraph for each task."""
    return "\n\n".join("\n".join(_lines(task)) for task in found)


def _lines(own: TaskPower) -> list[str]:
    lines = [f"{own.task}: {len(own.methods)} methods, {own.num_seeds} seeds"]
    if own.incomplete:
        missing = ", ".join(f"{method} {count} of {own.num_trials[method]}" for method, count in own.incomplete.items())
        lines.append(f"  left out, with trials that have no final evaluation: {missing}")
    if own.num_seeds < MIN_SEEDS:
        return [*lines, f"  nothing is told apart: {MIN_SEEDS} seeds are needed", _diverged(own)]
    names = "; ".join(
        f"{method} over {', '.join(b for a, b in own.separated if a == method)}"
        for method in own.methods
        if any(a == method for a, _ in own.separated)
    )
    lines.append(f"  separated: {len(own.separated)} of {own.num_pairs} pairs{': ' + names if names else ''}")
    widths = [f"{method} {width:.3f}" for method, width in own.widths.items() if width is not None]
    lines.append(f"  widths of 95% intervals: {', '.join(widths)}")
    needed = "more than 200" if own.seeds_needed is None else str(own.seeds_needed)
    lines.append(f"  a difference of {own.difference:g} needs {needed} seeds, for 80%")
    tau = "no pair is separated" if own.tau is None else f"tau {own.tau:.2f}"
    lines.append(f"  order on two halves of {own.half_seeds} seeds: {tau}")
    lines.append(f"  {_loss(own)}")
    said = {True: "yes", False: "no", None: "not known"}
    criteria = ", ".join(f"{name.replace('_', ' ')}: {said[met]}" for name, met in own.criteria.items())
    return [*lines, _diverged(own), f"  criteria: {criteria}"]


def facts(own: TaskPower) -> dict[str, str]:
    """The same in short, for a table of several; who diverged is left to tables of methods."""
    yes = {True: "yes", False: "no", None: "not known"}
    loss, widths = own.loss, [width for width in own.widths.values() if width is not None]
    criteria = own.criteria
    tau = "" if own.tau is None else f"tau {number_text(own.tau, 2)}, of {own.half_seeds} seeds each: "
    is_tested = own.num_seeds >= MIN_SEEDS and own.num_pairs > 0
    needed = "more than 200" if own.seeds_needed is None else str(own.seeds_needed)
    return {
        "pairs separated": f"{len(own.separated)} of {own.num_pairs}" if is_tested else yes[None],
        "width of 95% intervals, median": number_text(float(np.median(widths)) if widths else None),
        f"seeds that find a difference of {own.difference:g} with 80%": needed if is_tested else yes[None],
        f"{own.control or 'control'} behind a fresh agent by {LEAST_LOSS:g}": (
            f"{yes[criteria['control_loses']]}" + ("" if loss is None else f": {interval_text(loss)}")
        ),
        f"best method separated from {own.control or 'control'}": yes[criteria["best_is_separated"]],
        "halves of the seeds agree on the order": f"{tau}{yes[criteria['halves_agree']]}",
    }


def _loss(own: TaskPower) -> str:
    if own.control is None or own.loss is None or own.loss.value is None:
        return "loss against a fresh agent: not known without a control and an oracle on changing tasks"
    bounds = "" if own.loss.low is None else f" [{own.loss.low:.3f}, {own.loss.high:.3f}]"
    return f"{own.control} is {own.loss.value:.3f}{bounds} behind a fresh agent; {LEAST_LOSS:g} are asked for"


def _diverged(own: TaskPower) -> str:
    shares = [f"{method} {count} of {own.num_trials[method]}" for method, count in own.diverged.items() if count]
    return f"  diverged trials: {', '.join(shares) if shares else 'none'}"
