"""The mark ``not_finite``: a trial whose weights, losses or values ended, and single evaluations that did.

A trial is marked once, by a record ``trial/not_finite/<what>`` at the step at which it was noticed. What it would have
reached is unknown, so each later evaluation counts as the reference low: leaving it out would praise a method for the
trials that it broke. The same holds for a single evaluation that is not finite of a trial that goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

MARK = "trial/not_finite/"
"""Begins the name of the record that marks a trial; what was not finite first follows."""
SPOILT = "eval/not_finite"
"""The record of a single evaluation that was not finite, beside the low that it counts as."""
EVALUATIONS = ("eval/return", "eval/score")
"""Names of the records of which none is left out of a mean."""


class NotFinite(NamedTuple):
    """The agent step at which a trial was marked, and what was not finite first."""

    step: int
    what: str


def mark(names: Sequence[str], steps: Sequence[int]) -> NotFinite | None:
    """The mark of a trial from the names and steps of its records, ``None`` if it stayed finite."""
    marks = ((step, name) for name, step in zip(names, steps, strict=True) if name.startswith(MARK))
    return min((NotFinite(step, name.removeprefix(MARK)) for step, name in marks), default=None)
