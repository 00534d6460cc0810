"""The answer of a benchmark in a few sentences that claim no more than the platform's one test finds (``claims``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from plasticbench.analysis.aggregate import MIN_SEEDS
from plasticbench.analysis.claims import HARDLY
from plasticbench.analysis.leaderboard import UNPOOLED
from plasticbench.analysis.leaderboard_text import interval_text, number_text
from plasticbench.analysis.rows import Row, Standing

_MAX_NAMED = 6  # methods that a sentence about broken trials lists
_MAX_COMPARED = 3  # others that a verdict names, and counts if there are more


def answer(rows: Sequence[Row]) -> list[str]:
    """Sentences about the rows of one board: the final score, the score after the first change or reset, the power."""
    ranked = [row for row in rows if row.final.rank is not None]
    if not ranked and rows and rows[0].note == UNPOOLED:
        return [f"Methods are {UNPOOLED}. Each task by itself says more."]
    if not ranked:
        return ["No method has the final evaluation of all its trials, so nothing is ranked."]
    num_seeds = min(row.n_seeds for row in ranked)
    final = {row.method: row.final for row in ranked}
    after = {row.method: row.after for row in sorted(ranked, key=lambda row: row.after.rank or 0) if row.after.rank}
    measure = ranked[0].measure
    nothing = nothing_learned(ranked)
    sentences = [nothing or _verdict("At the end of training", final, num_seeds, measure)]
    if after and not (nothing and not any(standing.is_separated for standing in after.values())):
        sentences.append(_verdict("Over all evaluations after the first change or reset", after, num_seeds, measure))
    if (least := ranked[0].final.detectable) is not None:
        power = f"a difference of {number_text(least)} at the end is found with a probability of 80%"
        sentences.append(f"With {num_seeds} seeds of this spread, {power}.")
    return sentences


def nothing_learned(ranked: Sequence[Row]) -> str:
    """A sentence for a board on which nothing can be told from random play, empty for others."""
    if any(row.final.is_separated or row.above_reference for row in ranked) or ranked[0].measure == "return":
        return ""
    highest, best = ranked[0].method, ranked[0].final.iqm
    if ranked[0].above_reference is None:
        if best.value is None or best.value >= HARDLY:
            return ""
        seeds = _seeds(min(row.n_seeds for row in ranked))
        how = f"hardly above random play (score 0), and with {seeds} per method indicative at most"
        return f"The highest score at the end of training is {number_text(best.value)} ({highest}): {how}."
    who = f"{highest} is" if len(ranked) == 1 else "No method is"
    distinct = "not distinguishable" if len(ranked) == 1 else "distinguishable"
    ranks = "" if len(ranked) == 1 else ": ranks carry no information"
    return (
        f"{who} {distinct} from random play (score 0) at the end of training{ranks}. "
        f"The highest IQM is {interval_text(best)}{'' if len(ranked) == 1 else f', of {highest}'}."
    )


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"


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
        where = listed([f"{row.diverged_trials} of {row.n_trials} trials of {row.method}" for row in concerned])
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
        where = listed([f"{row.not_finite_trials} of {row.n_trials} trials of {row.method}" for row in concerned])
    return f"Not finite: {where}, ranked with {lowest_text(rows[0])}."


def _verdict(when: str, standings: Mapping[str, Standing], num_seeds: int, measure: str) -> str:
    (leader, best), *others = standings.items()
    score = number_text(best.iqm.value)
    highest = f"{leader} has the highest {measure} (IQM {score})"
    above, most = max(standings.items(), key=lambda named: named[1].iqm.value or 0.0)
    if (most.iqm.value or 0.0) > (best.iqm.value or 0.0):  # over several tasks: see ``leaderboard``
        known = f"{above} has {number_text(most.iqm.value)}, but its mean is found behind another's"
        highest = f"{leader} stands first (IQM {score}; {known})"
    if not others:
        reached = f"scores {score} (IQM)" if measure == "score" else f"has a return of {score} (IQM)"
        return f"{when}, {leader} {reached}; there is nothing to compare it with."
    equal = [method for method, standing in others if standing.iqm.value == best.iqm.value]
    if num_seeds < MIN_SEEDS and equal:
        who = listed([leader, *equal]) if len(equal) < _MAX_COMPARED else f"{len(equal) + 1} methods"
        return (
            f"{when}, {who} have the highest {measure} (IQM {score}); with {_seeds(num_seeds)} each this is indicative."
        )
    if num_seeds < MIN_SEEDS:
        indicative = f"with {_seeds(num_seeds)} per method this is indicative, and cannot show that it is better"
        return f"{when}, {highest}; {indicative}."
    second, behind = others[0][0], others[0][1].behind
    bounds = f"95% interval over all pairs {number_text(behind.low)} to {number_text(behind.high)}"
    lead = f"mean {measure} {number_text(behind.value)} ({bounds}) over {second}"
    beaten = [method for method, standing in others if standing.is_separated]
    return f"{when}, {highest}{separation([method for method, _ in others], beaten)}: {lead}."


def separation(others: Sequence[str], beaten: Sequence[str], ahead: str = "clearly ahead of") -> str:
    """What follows "X is best": of which others the test finds it ahead, and which stay open."""
    open_ = [method for method in others if method not in beaten]
    if not open_:
        return f", {ahead} {'every other method' if others[1:] else others[0]}"
    if len(others) > 2 * _MAX_COMPARED:
        rest = f"the other {len(open_)}" if len(open_) > _MAX_COMPARED else listed(open_)
        counts = f"{ahead} {len(beaten)} of {len(others)} others, and not separated from {rest}"
        return f", {counts}" if beaten else f", but is not separated from {_any_of(len(others))}"
    if not beaten:
        return f", but is not separated from {listed(open_) if len(open_) < 4 else _any_of(len(open_))}"
    return f", and is {ahead} {listed(beaten)}, but is not separated from {listed(open_)}"


def _any_of(count: int) -> str:
    return f"any of the other {count}"


def listed(names: Sequence[str]) -> str:
    """Names as people list them."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
