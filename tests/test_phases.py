"""The table of phases: what each ended with, and how far behind a network that begins each anew."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from small_runs import run_all
from small_streams import small_stream

from plasticbench.analysis.phases import MAX_PHASES, phase_tables
from plasticbench.analysis.report import write_report

ENDS = (10, 20, 30)
FRESH = {"settings": {"method": {"kind": "full_reset"}}, "reset_steps": ENDS[:-1]}


def _run(**kinds: dict) -> SimpleNamespace:
    common = {"change_steps": ENDS[:-1], "settings": {}, "reset_steps": ()}
    trials = [SimpleNamespace(method=method, **(common | own)) for method, own in kinds.items()]
    return SimpleNamespace(by_task={"t": trials}, clock="updates", budget_steps=ENDS[-1])


def _records(values: dict[tuple[str, int], dict[int, float]]) -> pd.DataFrame:
    rows = [
        {"task": "t", "method": method, "seed": seed, "step": step, "name": "eval/score", "value": value}
        for (method, seed), own in values.items()
        for step, value in own.items()
    ]
    return pd.DataFrame(rows)


def test_a_phase_ends_with_its_last_evaluation_and_gaps_are_taken_seed_by_seed():
    values = {
        ("a", 0): {5: 0.1, 10: 0.2, 20: 0.4, 25: 0.5, 30: 0.6},  # 0.2, 0.4, 0.6
        ("a", 1): {10: 0.4, 20: 0.6, 30: 0.8},
        ("anew", 0): {10: 0.2, 20: 0.7, 30: 0.7},  # 0.3 and 0.1 more than a
        ("anew", 1): {10: 0.4, 20: 0.6, 30: 0.9},  # 0 and 0.1
    }
    (table,) = phase_tables(_run(a={}, anew=FRESH), _records(values), ["anew", "a"])
    assert (table.phases, table.num_phases, table.fresh, list(table.scores)) == ([1, 2, 3], 3, "anew", ["anew", "a"])
    np.testing.assert_allclose(table.scores["a"], [0.3, 0.5, 0.7])
    assert table.behind == {"a": pytest.approx((0.2 + 0.05) / 2)}


def test_without_a_fresh_network_there_is_no_gap_and_a_phase_without_evaluation_is_empty():
    (table,) = phase_tables(_run(a={}), _records({("a", 0): {10: 0.2, 30: 0.6}}), ["a"])
    assert (table.fresh, table.behind, table.scores) == (None, {}, {"a": [0.2, None, 0.6]})


def test_of_very_many_phases_some_are_shown_the_last_among_them():
    changes = tuple(range(10, 1000, 10))
    run = _run(a={"change_steps": changes})
    run.budget_steps = 1000
    (table,) = phase_tables(run, _records({("a", 0): dict.fromkeys(range(10, 1001, 10), 0.5)}), ["a"])
    assert (len(table.phases), table.phases[0], table.phases[-1], table.num_phases) == (MAX_PHASES, 1, 100, 100)


def test_the_report_of_a_stream_has_it_and_speaks_of_a_learner(tmp_path: Path) -> None:
    run_all(tmp_path, small_stream())
    page = write_report(tmp_path).read_text()
    assert page.count("score at the end of each phase ↑") == 1
    assert "score at the end of each phase</caption>" not in page, "one table of phases says it all"
    assert "Behind a fresh network: what full_reset" in page
    assert "Learner: classifier." in page
    assert "| learner |" in (tmp_path / "report" / "leaderboard.md").read_text()
