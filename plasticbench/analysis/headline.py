"""The answer of a benchmark in two sentences that claim no more than the intervals hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from plasticbench.analysis.aggregate import MIN_SEEDS
from plasticbench.analysis.leaderboard import Row, number_text

_MAX_NAMED = 6  # methods that a sentence lists


class _Claim(NamedTuple):
    method: str
    iqm: float
    behind: float
    behind_low: float | None
    behind_high: float | None

    @property
    def is_separated(self) -> bool:
        return self.behind_low is not None and self.behind_low > 0


def answer(rows: Sequence[Row]) -> list[str]:
    """Sentences about the rows of one board: the final score, then the score after the first reset or change."""
    ranked = [row for row in rows if row.rank is not None]
    if not ranked:
        return ["No method has the final evaluation of all its trials, so nothing is ranked."]
    num_seeds = min(row.n_seeds for row in ranked)
    final = [
        _Claim(row.method, row.iqm, row.behind, row.behind_low, row.behind_high)
        for row in ranked
        if row.iqm is not None and row.behind is not None
    ]
    after = [
        _Claim(
            row.method,
            row.after_reset_iqm,
            row.after_reset_behind,
            row.after_reset_behind_low,
            row.after_reset_behind_high,
        )
        for row in sorted(ranked, key=lambda row: row.after_reset_rank or 0)
        if row.after_reset_iqm is not None and row.after_reset_behind is not None
    ]
    sentences = [_verdict("At the end of training", final, num_seeds)]
    if after:
        sentences.append(_verdict("Over all evaluations after the first reset or change", after, num_seeds))
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


def _verdict(when: str, claims: Sequence[_Claim], num_seeds: int) -> str:
    leader, others = claims[0], claims[1:]
    highest = f"{leader.method} has the highest score (IQM {number_text(leader.iqm)})"
    if not others:
        return f"{when}, {leader.method} scores {number_text(leader.iqm)} (IQM); there is nothing to compare it with."
    if num_seeds < MIN_SEEDS:
        seeds = "one seed" if num_seeds == 1 else f"{num_seeds} seeds"
        return f"{when}, {highest}; {seeds} per method cannot show that it is better."
    beaten = [claim.method for claim in others if claim.is_separated]
    open_ = [claim.method for claim in others if not claim.is_separated]
    lead = f"{_gap(others[0])} over {others[0].method}"
    if not open_:
        return (
            f"{when}, {highest}, clearly ahead of {'every other method' if others[1:] else others[0].method}: {lead}."
        )
    ahead = f", and is clearly ahead of {_listed(beaten)}" if beaten else ""
    return f"{when}, {highest}{ahead}, but is not separated from {_listed(open_)}: {lead}."


def _gap(claim: _Claim) -> str:
    bounds = f"{number_text(claim.behind_low)} to {number_text(claim.behind_high)}"
    return f"{number_text(claim.behind)} (95% interval {bounds})"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
