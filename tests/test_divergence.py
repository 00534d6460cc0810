"""Trials whose values left what any policy can earn: how they are marked, and where a person is told."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from run_directory import write_run
from small_runs import prepare, run_all, small

from plasticbench.analysis import leaderboard
from plasticbench.analysis.divergence import Overvalued, ValueCourse, overvalued
from plasticbench.analysis.headline import warning
from plasticbench.analysis.leaderboard_text import to_markdown
from plasticbench.analysis.report import write_report
from plasticbench.analysis.rows import Row
from plasticbench.platform.display import standings
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.segment import SegmentRun
from plasticbench.records import Record, RecordWriter

DIVERGING = {
    "agent": {"kind": "dqn", "network": {"kind": "mlp", "hidden": [64, 64]}, "learning_rate": 0.02}
    | {"learning_starts_steps": 100, "capacity_transitions": 5000, "target_period_steps": 1},
    "budget_steps": 1400,
    "probes": {"every_steps": 1000, "batch_rows": 64, "kinds": ["weight_norm"]},
}
"""A target that follows at every step, with a learning rate that no network stands."""


def marked(*ratios: float) -> Overvalued | None:
    """The mark of a trial with a record every 10 steps."""
    return overvalued(np.arange(10, 10 * len(ratios) + 1, 10), np.array(ratios))


def test_ten_records_running_above_two_are_a_mark_with_its_first_and_last_step():
    assert marked(*[3.0] * 9) is None
    assert marked(0.5, *[3.0] * 10, 0.5) == Overvalued(20, 110)
    assert marked(*[3.0] * 12) == Overvalued(10, 120)


def test_two_is_not_above_two_and_one_record_within_begins_the_count_anew():
    assert marked(*[2.0] * 50) is None
    assert marked(*[3.0] * 9, 2.0, *[3.0] * 9) is None


def test_a_second_time_keeps_the_first_step_and_moves_the_last():
    assert marked(*[3.0] * 10, 1.0, *[3.0] * 5, 1.0, *[3.0] * 10) == Overvalued(10, 270)
    assert marked(*[3.0] * 10, 1.0, *[3.0] * 9) == Overvalued(10, 100)


def test_a_value_that_is_not_finite_is_within_no_bound():
    assert marked(*[3.0] * 4, float("inf"), *[float("nan")] * 5) == Overvalued(10, 100)


def test_records_that_come_one_by_one_lead_to_the_same_mark():
    rng = np.random.default_rng(1)
    for _ in range(50):
        ratios = 2 + np.cumsum(rng.normal(size=60)) / 3
        course = ValueCourse()
        for step, ratio in enumerate(ratios, start=1):
            course = course.then(step, ratio)
        assert course.mark == overvalued(np.arange(1, 61), ratios)


# -- tables and report ------------------------------------------------------------------------------------------------

SCORES = {("A", "none"): [0.1, 0.2, 0.3], ("A", "fire"): [0.9, 0.8, 1.0]}


def with_ratios(run: Path, ratios: dict[tuple[str, int], list[float]]) -> Path:
    """Adds ``q/bound_ratio`` of (method, seed), one a step, to a run's records."""
    for (method, seed), own in ratios.items():
        path = run / "records" / f"a--{method}--s{seed}.jsonl"
        writer = RecordWriter(path, path.stat().st_size)
        writer.write(Record(path.stem, step, "q/bound_ratio", ratio, 1.7e9) for step, ratio in enumerate(own, start=1))
        writer.sync()
    return run


@pytest.fixture
def diverged_run(tmp_path):
    ratios = {("none", seed): [1.0] * 4 + [50.0] * 20 for seed in range(3)} | {("fire", 0): [0.2] * 24}
    return with_ratios(write_run(tmp_path / "run", SCORES), ratios)


def test_a_row_counts_its_diverged_trials_and_keeps_score_and_rank(tmp_path, diverged_run):
    healthy = leaderboard.leaderboard([write_run(tmp_path / "healthy", SCORES)]).rows
    rows = leaderboard.leaderboard([diverged_run]).rows
    assert {(row.method, row.diverged_trials, row.n_trials) for row in rows} == {("none", 3, 3), ("fire", 0, 3)}
    assert [row.final for row in rows] == [row.final for row in healthy]


def test_a_trial_that_records_no_values_is_not_said_to_be_sound(tmp_path):
    rows = leaderboard.leaderboard([write_run(tmp_path, SCORES)]).rows
    assert {row.diverged_trials for row in rows} == {None}
    assert to_markdown(rows).count("| – | 0 of 3 |\n") == 2  # noqa: RUF001


def test_the_report_says_what_a_diverged_score_measures(diverged_run):
    page = write_report(diverged_run).read_text()
    assert "Values diverged in 3 of 3 trials of none: this measures divergence, not plasticity." in page
    assert "values diverged in 3 of 3 trials<" in page
    assert page.count(": from step 5 to 24</li>") == 3
    document = json.loads((diverged_run / "report" / "leaderboard.json").read_text())
    assert {row["method"]: row["diverged_trials"] for row in document["rows"]} == {"none": 3, "fire": 0}
    assert "| 3 of 3 |" in (diverged_run / "report" / "leaderboard.md").read_text()


def test_a_run_without_divergence_is_not_warned_of(tmp_path):
    page = write_report(with_ratios(write_run(tmp_path, SCORES), {("none", 0): [1.5] * 30})).read_text()
    assert "divergence, not plasticity" not in page
    assert "values diverged in" not in page


def test_the_sentence_names_a_few_methods_and_counts_many():
    def row(method: str, diverged: int | None) -> Row:
        return Row(task="A", method=method, n_seeds=5, n_incomplete=0, n_trials=5, diverged_trials=diverged)

    ending = ": this measures divergence, not plasticity."
    assert warning([row("a", 0), row("b", None)]) is None
    assert warning([row("a", 5), row("b", 0)]) == f"Values diverged in 5 of 5 trials of a{ending}"
    two = f"Values diverged in 5 of 5 trials of a and 1 of 5 trials of b{ending}"
    assert warning([row("a", 5), row("b", 1), row("c", 0)]) == two
    many = [row(name, 2) for name in "abcdefg"]
    assert warning(many) == f"Values diverged in 14 of 35 trials of 7 methods{ending}"


def test_a_terminal_tells_as_well(diverged_run, tmp_path):
    def shown(run: Path) -> str:
        text = io.StringIO()
        for table in standings(leaderboard.leaderboard([run]).rows):
            Console(file=text, width=200).print(table)
        return text.getvalue()

    assert "values diverged" in shown(diverged_run)
    assert "3 of 3" in shown(diverged_run)
    assert "values diverged" not in shown(write_run(tmp_path / "healthy", SCORES))


# -- where a table comes from -----------------------------------------------------------------------------------------


def test_a_table_is_rebuilt_bit_for_bit_and_says_what_it_was_made_of(tmp_path, diverged_run):
    write_report(diverged_run)
    first = (diverged_run / "report" / "leaderboard.json").read_bytes()
    moved = tmp_path / "elsewhere"
    shutil.move(diverged_run, moved)
    write_report(moved)
    assert (moved / "report" / "leaderboard.json").read_bytes() == first
    (run,) = json.loads(first)["provenance"]["runs"]
    assert (run["name"], run["version"], run["num_trials"], run["budget_steps"]) == ("tiny", "0.1.0", 6, 100)
    assert run["versions"] == {"plasticbench": "0.1.0", "python": "3.11.7"}


def test_the_hash_of_records_tells_other_values_and_not_other_times(tmp_path):
    def digest(run: Path) -> str:
        (only,) = leaderboard.leaderboard([run]).provenance["runs"]
        return only["records_sha256"]

    run = write_run(tmp_path, SCORES)
    before, path = digest(run), run / "records" / "a--fire--s1.jsonl"
    path.write_text(path.read_text().replace('"time":1700000', '"time":1800000').replace('"loss/td"', '"loss/x"'))
    assert digest(run) == before
    path.write_text(path.read_text().replace('"value":0.8', '"value":0.7'))
    assert digest(run) != before


# -- in training ------------------------------------------------------------------------------------------------------


def test_a_dqn_that_diverges_is_marked_in_the_table_and_while_it_trains(tmp_path):
    run_all(tmp_path / "run", small(**DIVERGING))
    rows = leaderboard.leaderboard([tmp_path / "run"]).rows
    assert {(row.method, row.diverged_trials, row.n_trials) for row in rows} == {("none", 2, 2), ("fire", 2, 2)}
    plan = prepare(tmp_path / "watched", small(**DIVERGING))
    prefix = SegmentRun(RunDirectory(tmp_path / "watched").path, plan.segments[0])
    prefix.run(should_stop=lambda: prefix._trainer.step >= 600)
    assert prefix._trainer.num_overvalued == len(plan.segments[0].members) == 2
