"""Measures of changing tasks: hand-worked numbers, and what a leaderboard makes of them."""

import json

import numpy as np
import pytest
from run_directory import trial

from plasticbench.analysis.continual import (
    MEASURES,
    Course,
    continual,
    forgetting,
    forward_transfer,
    over_whole_periods,
    phase_scores,
    reset_period,
)
from plasticbench.analysis.leaderboard import leaderboard
from plasticbench.analysis.leaderboard_text import to_json
from plasticbench.analysis.runs import load_run, read_table
from plasticbench.records import Record, RecordWriter

STEPS = np.arange(10, 101, 10)


def course(*scores: float) -> Course:
    return Course(STEPS[: len(scores)], np.array(scores))


def write(path, courses, **plan):
    """A run with a change at 50 in which each method's seeds all have one course, moved up by a hundredth a seed."""
    trials = [
        trial("Task", method, seed, reset_steps=plan.get("resets", {}).get(method, []), **plan.get("changes", {}))
        for method in courses
        for seed in range(5)
    ]
    for entry in trials:
        writer = RecordWriter(path / "records" / f"{entry['id']}.jsonl", committed_bytes=0)
        scores = [score + 0.01 * (entry["seed"] - 2) for score in courses[entry["method"]]]
        records = [
            Record(entry["id"], int(step), name, score, 0.0)
            for step, score in zip(STEPS, scores, strict=True)
            for name in ("eval/score", "eval/return")
        ]
        writer.write(records)
        writer.sync()
        writer.close()
    versions = {"plasticbench": "0.1.0", "python": "3.11.7"}
    whole = {"format": 1, "name": "tiny", "description": "", "version": "0.1.0", "budget_steps": 100}
    (path / "plan.json").write_text(json.dumps(whole | {"versions": versions, "trials": trials, "segments": []}))
    return path


NONE = [0.2, 0.4, 0.6, 0.8, 0.8, 0.1, 0.2, 0.3, 0.3, 0.4]
ORACLE = [0.2, 0.4, 0.6, 0.8, 0.8, 0.0, 0.4, 0.6, 0.8, 0.8]


def measured(path) -> dict[tuple[str, str, int | None], float]:
    run = load_run(path)
    rows = continual([run], [read_table(run)])
    assert all(row.estimate.low <= row.estimate.value <= row.estimate.high for row in rows)
    assert {row.num_seeds for row in rows} == {5}
    return {(row.method, row.measure, row.phase): row.estimate.value for row in rows}


def test_measures_of_a_run_with_one_change(tmp_path):
    found = measured(write(tmp_path, {"none": NONE, "oracle": ORACLE}))
    expected = {
        ("area", None): 0.41,
        ("phase_score", 1): 0.8,
        ("phase_score", 2): 0.4,
        ("lost", None): 0.4,
        ("lost_to_fresh", None): 0.4,
        ("drop", None): 0.7,  # from 0.8 to 0.1
        ("stability_gap", None): 0.3,  # from 0.1 back to 0.4
        ("forward_transfer", None): (0.26 - 0.52) / (1 - 0.52),
    }
    assert {key[1:]: value for key, value in found.items() if key[0] == "none"} == pytest.approx(expected)
    assert ("oracle", "forward_transfer", None) not in found
    assert found["oracle", "stability_gap", None] == pytest.approx(0.8)


def test_a_phase_ends_with_its_last_tenth_or_its_last_evaluation():
    scores = phase_scores(course(1, 2, 3, 4, 5, 6, 7, 8, 9, 10), [0, 20, 100])
    assert scores == [2.0, 10.0]  # above 92 there is one evaluation
    assert phase_scores(Course(np.array([96, 100]), np.array([4.0, 6.0])), [0, 50, 100])[1] == 5.0
    assert np.isnan(phase_scores(course(1, 2), [0, 50, 100])[1])


def test_forgetting_is_told_when_a_task_comes_back():
    own = course(0.5, 0.9, 0.1, 0.6, 0.7, 0.8, 0.2, 0.5, 0.0, 0.0)
    # A ends with 0.9 and begins again with 0.7, B with 0.6 and 0.2; A again with 0.8 and 0.0.
    assert forgetting(own, [0, 20, 40, 60, 80, 100], ["A", "B", "A", "B", "A"]) == pytest.approx((0.2 + 0.4 + 0.8) / 3)
    assert forgetting(own, [0, 20, 40, 60, 80, 100], range(5)) is None


def test_a_scenario_that_goes_round_names_its_tasks(tmp_path):
    settings = trial("Task", "none", 0)["settings"]
    settings["environment"]["scenario"] = {"kind": "repeat", "tasks": 2}
    path = write(tmp_path, {"none": NONE}, changes={"change_steps": [30, 60], "settings": settings})
    assert measured(path)["none", "forgetting", None] == pytest.approx(0.6 - 0.2)


def test_forward_transfer_is_the_share_of_what_a_fresh_agent_leaves_to_gain():
    assert forward_transfer(np.array([0.9, 0.6, 0.2]), np.array([0.0, 0.5, 0.6])) == pytest.approx((0.2 - 1.0) / 2)
    assert forward_transfer(np.array([0.9, 0.6]), np.array([0.0, 1.0])) is None


def test_whole_reset_periods_count_the_dip_and_what_comes_behind_it_alike():
    own = course(9, 9, 9, 9, 9, 9, 1, 5, 9, 5)
    assert over_whole_periods(own, 100, 20) == pytest.approx(7.0)
    assert over_whole_periods(own, 100, 5) == pytest.approx(5.0)  # two of them are the last tenth
    assert reset_period([20, 40, 60, 80]) == 20
    assert reset_period([20, 40, 61, 81]) == 21  # events come at strides of the environments
    assert reset_period([20, 40]) is None
    assert reset_period([20, 40, 90]) is None


def test_a_leaderboard_has_measures_beside_the_scores_that_it_had(tmp_path):
    path = write(tmp_path, {"none": NONE, "fire": ORACLE}, resets={"fire": [20, 40, 60, 80]})
    data = to_json(leaderboard([path]))
    own = [row for row in data["measures"] if row["method"] == "fire"]
    assert {row["measure"] for row in own} <= set(MEASURES)
    periods = next(row for row in own if row["measure"] == "final_over_reset_periods")
    assert periods["value"] == pytest.approx(0.8)
    assert next(row["iqm"] for row in data["rows"] if row["method"] == "fire") == pytest.approx(0.8)
    [back] = [row for row in data["recoveries"] if row["method"] == "none" and row["event_step"] == 50]
    assert (back["drop"], back["recovery_steps"], back["n_recovered"]) == (pytest.approx(0.7), None, 0)


def test_a_trial_without_its_end_measures_nothing(tmp_path):
    path = write(tmp_path, {"none": NONE})
    record = next((path / "records").glob("*s0.jsonl"))
    record.write_text("".join(record.read_text().splitlines(keepends=True)[:-2]))
    run = load_run(path)
    assert {row.num_seeds for row in continual([run], [read_table(run)])} == {4}
