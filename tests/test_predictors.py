"""Which probe goes with lost plasticity: hand-worked correlations, their intervals, and the page."""

import numpy as np
import pytest
from test_continual import NONE, ORACLE, STEPS, write

from plasticbench.analysis.outcomes import outcomes
from plasticbench.analysis.plasticity import probes_at_end
from plasticbench.analysis.predictors import correlation, lost, predictors
from plasticbench.analysis.report import write_report
from plasticbench.analysis.runs import load_run, read_table
from plasticbench.records import Record, RecordWriter


def test_correlation_is_of_ranks_within_each_task():
    # Ranks 1, 2, 3, 4 with 1, 3, 2, 4: 1 - 6 (0 + 1 + 1 + 0) / (4 * 15) = 0.8; and a task in which all is reversed.
    first = np.array([[0, 1.0, 5.0], [1, 2.0, 70.0], [2, 30.0, 6.0], [3, 400.0, 80.0]])
    assert correlation([first]).value == pytest.approx(0.8)
    assert correlation([first, first * [1, -1, 1] * 1000]).value == pytest.approx(0.0, abs=1e-12)
    assert correlation([first]).low is None  # four seeds


def test_without_variation_there_is_no_correlation():
    assert correlation([np.array([[seed, 1.0, seed] for seed in range(6)], dtype=float)]) is None
    assert correlation([np.array([[0, 1.0, 2.0], [1, 2.0, 1.0]])]) is None
    assert correlation([]) is None


def test_intervals_cover_the_correlation_and_are_wide_where_seeds_disagree():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        own = []
        for seed in range(10):
            for _ in range(4):
                x, noise = rng.standard_normal(2)
                own.append((seed, x, 0.6 * x + 0.8 * noise))
        found = correlation([np.array(own)])
        covered += found.low <= 6 / np.pi * np.arcsin(0.6 / 2) <= found.high  # Spearman's of a normal pair
    assert covered >= 180


def with_probe(path, values):
    """The runs of ``write`` with a probe that is the same at each step."""
    for record_file in sorted((path / "records").glob("*.jsonl")):
        trial_id = record_file.stem
        method, seed = trial_id.split("--")[1], int(trial_id[-1])
        writer = RecordWriter(record_file, committed_bytes=record_file.stat().st_size)
        value = values[method] + 0.001 * seed
        writer.write(Record(trial_id, int(s), "plasticity/online/dormant_ratio", value, 0.0) for s in STEPS)
        writer.sync()
        writer.close()
    return path


@pytest.fixture
def run_path(tmp_path):
    better = [score + 0.1 * (number > 4) for number, score in enumerate(NONE)]
    courses = {"none": NONE, "fire": better, "full_reset": [0.9 * s for s in better], "oracle": ORACLE}
    return with_probe(write(tmp_path, courses), {"none": 0.5, "fire": 0.3, "full_reset": 0.4, "oracle": 0.1})


def test_what_was_lost_is_told_against_a_fresh_agent_where_there_is_one(run_path):
    run = load_run(run_path)
    table = read_table(run)
    meaning, losses = lost(run, table, outcomes([run], [table]))
    assert "fresh" in meaning
    assert losses["Task"]["none", 2] == pytest.approx(0.4)
    assert ("oracle", 2) not in losses["Task"]


def test_without_changes_it_is_how_far_the_final_score_is_behind_the_best(tmp_path):
    run = load_run(write(tmp_path, {"none": NONE, "fire": ORACLE}, changes={"change_steps": []}))
    table = read_table(run)
    meaning, losses = lost(run, table, outcomes([run], [table]))
    assert "best method" in meaning
    assert losses["Task"]["none", 2] == pytest.approx(0.4)


def test_the_report_shows_the_correlation_of_each_probe(run_path):
    run = load_run(run_path)
    table = read_table(run)
    found = predictors(run, table, probes_at_end([run], [table]), outcomes([run], [table]))
    [row] = found.rows
    assert (row.probe, row.expected, row.num_trials) == ("dormant_ratio", "above 0", 15)
    assert row.estimate.value > 0.5
    assert row.estimate.low <= row.estimate.value <= row.estimate.high
    page = write_report(run_path)
    text = page.read_text()
    assert "Which probe goes with lost plasticity" in text
    assert "Over the whole run" in text
    assert "Behind a fresh agent" in text
