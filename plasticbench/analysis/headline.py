"""The answer of a benchmark in a few sentences that claim no more than the platform's one test finds (``claims``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from plasticbench.analysis.aggregate import MIN_SEEDS
from plasticbench.analysis.leaderboard import UNPOOLED, Row, Standing
from plasticbench.analysis.leaderboard_text import number_text

_MAX_NAMED = 6  # methods that a sentence lists


def answer(rows: Sequence[Row]) -> list[str]:
    """Sentences about the rows of one board: the final score, then the score after the first reset or change."""
    ranked = [row for row in rows if row.final.rank is not None]
    if not ranked and rows and rows[0].note == UNPOOLED:
        return [f"Methods are {UNPOOLED}. Each task by itself says more."]
    if not ranked:
        return ["No method has the final evaluation of all its trials, so nothing is ranked."]
    num_seeds = min(row.n_seeds for row in ranked)
    final = {row.method: row.final for row in ranked}
    after = {row.method: row.after for row in sorted(ranked, key=lambda row: row.after.rank or 0) if row.after.rank}
    measure = ranked[0].measure
    sentences = [_verdict("At the end of training", final, num_seeds, measure)]
    if after:
        sentences.append(_verdict("Over all evaluations after the first reset or change", after, num_seeds, measure))
    if (least := ranked[0].final.detectable) is not None:
        power = f"a difference of {number_text(least)} at the end is found with a probability of 80%"
        sentences.append(f"With {num_seeds} seeds of this spread, {power}.")
    return sentences


def warning(rows: Sequence[Row]) -> str | None:
    """A sentence about the trials of one board whose values diverged, ``None`` if there are none."""
    concerned = [row for row in rows if row.diverged_trials]
    if not concerned:
        return None
    if len(concerned) == 1 or len(concerned) > _MAX_NAMED:
        trials, of = sum(row.diverged_trials or 0 for row in concerned), sum(row.n_trials for row in concerned)
        whose = concerned[0].method if len(concerned) == 1 else f"{len(concerned)} methods"
        where = f"{trials} of {of} trials of {whose}"
    else:
        where = _listed([f"{row.diverged_trials} of {row.n_trials} trials of {row.method}" for row in concerned])
    return f"Values diverged in {where}: this measures divergence, not plasticity."


def lowest_text(row: Row) -> str:
    """What the evaluations of a trial that is not finite count as."""
    return "the lowest return seen" if row.measure == "return" else "the reference low"


def not_finite_sentence(rows: Sequence[Row]) -> str | None:
    """A sentence about the trials of one board that are not finite, ``None`` if there are none."""
    concerned = [row for row in rows if row.not_finite_trials]
    if not concerned:
        return None
    if len(concerned) > _MAX_NAMED:
        trials, of = sum(row.not_finite_trials for row in concerned), sum(row.n_trials for row in concerned)
        where = f"{trials} of {of} trials of {len(concerned)} methods"
    else:
        where = _listed([f"{row.not_finite_trials} of {row.n_trials} trials of {row.method}" for row in concerned])
    return f"Not finite: {where}, ranked with {lowest_text(rows[0])}."


def _verdict(when: str, standings: Mapping[str, Standing], num_seeds: int, measure: str) -> str:
    (leader, best), *others = standings.items()
    score = number_text(best.iqm.value)
    highest = f"{leader} has the highest {measure} (IQM {score})"
    if not others:
        reached = f"scores {score} (IQM)" if measure == "score" else f"has a return of {score} (IQM)"
        return f"{when}, {leader} {reached}; there is nothing to compare it with."
    if num_seeds < MIN_SEEDS:
        seeds = "one seed" if num_seeds == 1 else f"{num_seeds} seeds"
        return f"{when}, {highest}; with {seeds} per method this is indicative, and cannot show that it is better."
    beaten = [method for method, standing in others if standing.is_separated]
    open_ = [method for method, standing in others if not standing.is_separated]
    second, behind = others[0][0], others[0][1].behind
    bounds = f"95% interval over all pairs {number_text(behind.low)} to {number_text(behind.high)}"
    lead = f"mean {measure} {number_text(behind.value)} ({bounds}) over {second}"
    if not open_:
        return f"{when}, {highest}, clearly ahead of {'every other method' if others[1:] else second}: {lead}."
    ahead = f", and is clearly ahead of {_listed(beaten)}" if beaten else ""
    return f"{when}, {highest}{ahead}, but is not separated from {_listed(open_)}: {lead}."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
