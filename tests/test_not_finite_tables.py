"""What tables and pages make of evaluations that are not finite, and of scores that floats can hardly hold."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from run_directory import write_run

from plasticbench.analysis import leaderboard, page
from plasticbench.analysis.leaderboard_text import number_text, to_json, to_markdown
from plasticbench.analysis.not_finite import NotFinite, counted, for_figures, mark
from plasticbench.analysis.report import write_report
from plasticbench.analysis.rows import Row
from plasticbench.records import Record, RecordWriter

SCORES = {("A", "none"): [0.2, 0.3, 0.4], ("A", "fire"): [0.8, 0.9, 1.0]}


def add(run: Path, trial: str, *records: tuple[int, str, float]) -> None:
    """Adds records to a trial's file; where two share name and step the last one holds."""
    path = run / "records" / f"{trial}.jsonl"
    writer = RecordWriter(path, path.stat().st_size)
    writer.write(Record(trial, step, name, value, 1.8e9) for step, name, value in records)
    writer.sync()
    writer.close()


def row_of(run: Path, method: str) -> Row:
    return next(row for row in leaderboard.leaderboard([run]).rows if row.method == method and row.task == "A")


def strict(run: Path) -> dict[str, Any]:
    """``leaderboard.json`` by a reader that takes no NaN and no Infinity."""
    found: dict[str, Any] = json.loads((run / "report" / "leaderboard.json").read_text(), parse_constant=pytest.fail)
    return found


def test_one_evaluation_that_is_not_a_number_costs_its_trial_that_evaluation_and_nobody_else_anything(tmp_path):
    run = write_run(tmp_path, SCORES)
    before = row_of(run, "none")
    add(run, "a--fire--s1", (60, "eval/score", float("nan")), (60, "eval/return", float("nan")))
    fire = row_of(run, "fire")
    assert row_of(run, "none").after.iqm == before.after.iqm
    assert fire.after.rank == 1
    assert fire.after.iqm.value == pytest.approx((0.8 + 4 * 0.9 / 5 + 1.0) / 3)  # one of its five counts 0
    assert fire.final.iqm.value == pytest.approx(0.9)
    page = write_report(run).read_text()
    assert "A, fire, seed 1: step 60" in page
    assert "Score after the event" in page


def test_a_marked_trial_is_counted_named_and_ranked_with_what_its_evaluations_count(tmp_path):
    run = write_run(tmp_path, SCORES)
    add(run, "a--fire--s2", (55, "trial/not_finite/loss/td", 1.0))
    add(run, "a--fire--s2", *[(step, "eval/score", 0.0) for step in range(60, 101, 10)])
    fire = row_of(run, "fire")
    assert (fire.not_finite_trials, fire.n_incomplete, row_of(run, "none").not_finite_trials) == (1, 0, 0)
    assert fire.summary.mean == pytest.approx((0.8 + 0.9 + 0) / 3)
    page = write_report(run).read_text()
    assert "Not finite: 1 of 3 trials of fire, ranked with the reference low." in page
    assert "A, fire, seed 2: loss/td at step 55" in page
    assert "Single evaluations" not in page
    assert [row["not_finite_trials"] for row in strict(run)["rows"] if row["method"] == "fire"] == [1, 1]


def test_a_marked_trial_of_a_task_without_any_return_is_left_unranked_with_what_was_not_finite(tmp_path):
    run = write_run(tmp_path, {("A", "none"): [0.1]}, has_references=False, last_step=lambda *_: 0)
    add(run, "a--none--s0", (15, "trial/not_finite/observation 1 of environment 0", 1.0))
    cause = "not ranked: 1 of 1 trials incomplete; the cause: observation 1 of environment 0 is not finite at step 15"
    assert row_of(run, "none").note == cause


def test_figures_of_networks_leave_a_marked_trial_out_where_its_method_has_others():
    probe, score = "plasticity/online/srank", "eval/score"
    mine = [("A", "none", seed, name, 10, 1.0) for seed in (0, 1) for name in (probe, score)]
    marked = table(*mine, ("A", "none", 1, "trial/not_finite/loss/td", 10, 1.0))
    left = for_figures(marked)
    assert list(zip(left["seed"], left["name"], strict=True)) == [(0, probe), (0, score), (1, score)]
    alone = table(*mine[2:], ("A", "none", 1, "trial/not_finite/loss/td", 10, 1.0))
    assert for_figures(alone) is alone


def test_the_mark_is_the_first_record_of_its_kind():
    names = ["eval/score", "trial/not_finite/reward of environment 2", "trial/not_finite/loss/td"]
    assert mark(names, [5, 30, 20]) == NotFinite(20, "loss/td")
    assert mark(names[:1], [5]) is None


def table(*rows: tuple[str, str, int, str, int, float]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["task", "method", "seed", "name", "step", "value"])
    return frame.astype(dict.fromkeys(["task", "method", "name"], "category"))


def test_without_references_the_lowest_return_of_the_task_in_any_table_counts():
    first = table(("A", "none", 0, "eval/score", 10, -3.0), ("A", "none", 0, "eval/score", 20, np.nan))
    second = table(("A", "fire", 0, "eval/score", 10, -7.0), ("B", "fire", 0, "eval/score", 10, np.inf))
    raw = counted([first, second], {"A": False, "B": True})
    assert [own["value"].tolist() for own in raw] == [[-3.0, -7.0], [-7.0, 0.0]]
    scored = counted([first, second], {"A": True, "B": False})
    assert scored[0]["value"].tolist() == [-3.0, 0.0]
    assert scored[1]["value"].tolist() == [-7.0, np.inf]  # nothing of B is known
    assert first["value"].isna().sum() == 1


@pytest.mark.parametrize("score", [1e308, -1e308, 1e200, 3e38, float("inf"), float("nan")])
def test_scores_that_floats_can_hardly_hold_end_neither_table_nor_page(tmp_path, score):
    wild = {**SCORES, ("A", "wild"): [score, -score, 0.5], ("A", "high"): [score] * 3}
    run = write_run(tmp_path, {key: own * 4 for key, own in wild.items()})
    page = write_report(run).read_text()
    assert "Performance profile" in page
    assert ">nan" not in page
    assert ">inf" not in page
    rows = strict(run)["rows"]
    assert {row["n_incomplete"] for row in rows} == {0}
    json.dumps(to_json(leaderboard.leaderboard([run])), allow_nan=False)


def test_huge_numbers_have_an_exponent():
    assert number_text(-2.5e38) == "−2.500e+38"  # noqa: RUF001
    assert number_text(123_456_789.0) == "123456789.000"
    assert number_text(float("inf")) == "–"  # noqa: RUF001


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_page_that_fails_leaves_yesterdays_files_together(tmp_path, monkeypatch):
    run = write_run(tmp_path, SCORES)
    write_report(run)
    yesterday = contents(run / "report")
    add(run, "a--fire--s1", (100, "eval/score", 0.1))
    with monkeypatch.context() as patched:
        patched.setattr(page, "report_page", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_report(run)
    assert contents(run / "report") == yesterday
    write_report(run)
    assert {name for name, text in contents(run / "report").items() if text != yesterday[name]} == set(yesterday)


def test_a_disk_that_is_full_before_the_last_file_leaves_yesterdays_files_together(tmp_path, monkeypatch):
    run = write_run(tmp_path, SCORES)
    write_report(run)
    yesterday = contents(run / "report")
    add(run, "a--fire--s1", (100, "eval/score", 0.1))
    synced: list[int] = []
    fsync = os.fsync

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 3:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(run)
    assert contents(run / "report") == yesterday


def test_the_markdown_table_has_a_column_of_its_own(tmp_path):
    text = to_markdown(leaderboard.leaderboard([write_run(tmp_path, SCORES)]).rows)
    assert text.splitlines()[2].endswith("| diverged | not finite |")
