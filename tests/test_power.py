"""How well a run's tasks tell methods apart: hand-worked halves and criteria, and the command."""

import json

import numpy as np
import pytest
from run_directory import write_run
from test_continual import NONE, ORACLE, write
from typer.testing import CliRunner

from plasticbench.analysis.aggregate import Runs
from plasticbench.analysis.claims import detectable_spreads, seeds_needed
from plasticbench.analysis.power import halves, power, separated_pairs, to_text
from plasticbench.platform.cli import app


def of(*values: float) -> list[Runs]:
    return [Runs(np.array(values), tuple(range(len(values))))]


def test_the_orders_of_two_halves_agree_or_not_over_separated_pairs_alone():
    # Even seeds: a 2, b 1, c 0; odd seeds: a 2, b 0, c 1.
    scores = {"a": of(2, 2, 2, 2), "b": of(1, 0, 1, 0), "c": of(0, 1, 0, 1)}
    assert halves(scores, [("a", "b"), ("a", "c"), ("b", "c")]) == (pytest.approx(1 / 3), 2)
    assert halves(scores, [("a", "b"), ("a", "c")]) == (1.0, 2)
    assert halves(scores, []) == (None, 2)


def test_only_surely_different_pairs_are_separated():
    near, far = (0.50, 0.52, 0.48, 0.51, 0.49), (0.90, 0.92, 0.88, 0.91, 0.89)
    scores = {"far": of(*far), "near": of(*near), "too": of(*near[::-1])}
    assert separated_pairs(scores) == [("far", "near"), ("far", "too")]
    assert separated_pairs({"far": of(*far[:4]), "near": of(*near[:4])}) == []


def test_seeds_needed_are_the_fewest_that_find_the_difference():
    rng = np.random.default_rng(0)
    scores = {name: of(*rng.standard_normal(10)) for name in "ab"}
    spread = np.sqrt(np.mean([runs[0].values.var(ddof=1) for runs in scores.values()]))
    needed = seeds_needed(scores, 1.5)
    assert spread * detectable_spreads(np.full((2, 1), needed)) <= 1.5
    assert spread * detectable_spreads(np.full((2, 1), needed - 1)) > 1.5
    assert seeds_needed(scores, 0.01) is None


def test_a_task_says_what_the_control_loses_and_who_is_separated(tmp_path):
    better = [score + 0.2 * (number > 4) for number, score in enumerate(NONE)]
    [task] = power(write(tmp_path, {"none": NONE, "fire": better, "oracle": ORACLE}), 0.1)
    assert task.methods == ["fire", "none"]  # a reference is compared with nobody
    assert task.separated == [("fire", "none")]
    assert task.loss.value == pytest.approx(0.4)
    assert task.tau == 1.0
    assert task.widths["fire"] == pytest.approx(task.widths["none"])
    assert task.criteria == {
        "control_loses": True,
        "best_is_separated": True,
        "halves_agree": None,  # of two methods and halves of two seeds
        "nothing_diverged": True,
    }


def test_with_few_seeds_nothing_is_claimed(tmp_path):
    path = write_run(tmp_path, {("CartPole-v1", "none"): [0.1, 0.2], ("CartPole-v1", "fire"): [0.9, 0.8]})
    [task] = power(path, 0.1)
    assert (task.separated, task.seeds_needed, task.best_over_control, task.loss) == ([], None, None, None)


def test_a_method_without_all_of_its_ends_is_left_out_with_that_reason(tmp_path):
    path = write_run(tmp_path, {("CartPole-v1", "none"): [0.1, 0.2], ("CartPole-v1", "fire"): [0.9, 0.8]})
    for records in (path / "records").glob("*fire*s1*"):
        records.unlink()
    [task] = power(path, 0.1)
    assert (task.methods, task.incomplete) == (["none"], {"fire": 1})
    assert "left out, with trials that have no final evaluation: fire 1 of 2" in to_text([task])


def test_the_command_prints_a_paragraph_or_json(tmp_path):
    path = str(write(tmp_path, {"none": NONE, "fire": ORACLE}))
    printed = CliRunner().invoke(app, ["power", path, "--difference", "0.05"])
    assert printed.exit_code == 0
    assert "Task: 2 methods, 5 seeds" in printed.stdout
    assert "separated: 1 of 1 pairs: fire over none" in printed.stdout
    assert "a difference of 0.05 needs" in printed.stdout
    [task] = json.loads(CliRunner().invoke(app, ["power", path, "--json"]).stdout)
    assert task["separated"] == [["fire", "none"]]
    assert task["criteria"]["best_is_separated"] is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--difference", "0"], "difference: must be above 0, got 0"),
        (["--difference", "nan"], "difference: must be above 0, got nan"),
    ],
)
def test_an_impossible_difference_is_refused(tmp_path, arguments, message):
    path = str(write(tmp_path, {"none": NONE}))
    refused = CliRunner().invoke(app, ["power", path, *arguments])
    assert refused.exit_code != 0
    assert message in refused.output


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    refused = CliRunner().invoke(app, ["power", str(tmp_path)])
    assert refused.exit_code != 0
    assert "is not a run directory" in refused.output
