"""Which method learns soonest, and medians of what may never come."""

import json
import math

import numpy as np
import pytest
from run_directory import write_run

from plasticbench.analysis.intervals import median_interval
from plasticbench.analysis.leaderboard import leaderboard
from plasticbench.analysis.runs import load_run, read_table
from plasticbench.analysis.soonest import SoonestRow, soonest, soonest_sentence


def rows_of(path, reached: dict[str, list[int]], last: float = 1.0) -> list[SoonestRow]:
    """Methods whose seeds score ``last`` from these steps on, and 0 before; the task changes at step 50."""
    run = write_run(path, {("A", method): [last] * len(steps) for method, steps in reached.items()})
    for method, steps in reached.items():
        for seed, begin in enumerate(steps):
            file = run / "records" / f"a--{method}--s{seed}.jsonl"
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            for line in lines:
                if line["name"] == "eval/score":
                    line["value"] = last * (line["step"] >= begin) + 0.001 * seed
            file.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    loaded = load_run(run)
    return soonest(loaded, read_table(loaded), leaderboard([run]).rows)


def test_steps_count_from_the_change_to_half_of_the_best_final_score(tmp_path):
    rows = rows_of(tmp_path, {"none": [80, 80, 90, 90, 90], "fire": [60, 60, 70, 60, 60]})
    by_method = {row.method: row for row in rows}
    assert [row.method for row in rows] == ["fire", "none"]
    assert by_method["fire"].steps.value == 10.0
    assert by_method["none"].steps.value == 40.0
    assert (by_method["none"].from_step, by_method["none"].stretch_steps) == (50, 50)
    assert by_method["none"].target_score == pytest.approx(0.5, abs=0.01)
    assert (by_method["fire"].is_behind, by_method["none"].is_behind) == (False, True)
    sentence = soonest_sentence(rows, "steps")
    assert sentence.startswith(
        "fire reaches half of the best final score (0.50) at a median of 10 steps after the change"
    )
    assert sentence.endswith("the soonest, surely sooner than none.")


def test_a_seed_that_never_gets_there_is_later_than_all_others(tmp_path):
    rows = rows_of(tmp_path, {"none": [500, 500, 500, 90, 90], "fire": [60, 60, 60, 60, 70]})
    none = rows[-1]
    assert (none.method, none.steps.value, none.num_reached) == ("none", math.inf, 2)
    assert none.restricted.values.tolist() == [50.0, 50.0, 50.0, 40.0, 40.0]


def test_where_nothing_was_learned_nobody_is_soonest(tmp_path):
    assert rows_of(tmp_path, {"none": [500] * 5, "fire": [500] * 5}, last=0.0)[:0] == []
    assert soonest_sentence([], "steps") == ""


def test_few_seeds_are_indicative(tmp_path):
    sentence = soonest_sentence(rows_of(tmp_path, {"none": [90] * 3, "fire": [60] * 3}), "updates")
    assert sentence.endswith("this is indicative.")
    assert " updates after the " in sentence


def test_a_median_lies_between_order_statistics_by_hand():
    assert median_interval(np.array([3.0, 1.0, 2.0])) == (2.0, None, None)
    assert median_interval(np.array([5.0, 1.0, 2.0, 3.0, np.inf])) == (3.0, 1.0, np.inf)
    # Of nine values the second and the eighth: 1 - 2 (1 + 9) / 512 = 96.1 %; the third and the seventh: 82 %.
    assert median_interval(np.arange(1.0, 10.0)) == (5.0, 2.0, 8.0)


@pytest.mark.parametrize("count", [5, 8, 13, 20])
def test_its_interval_covers_the_median_as_often_as_it_says(count):
    rng = np.random.Generator(np.random.PCG64(5))
    found = [median_interval(values) for values in rng.exponential(size=(4_000, count))]
    assert np.mean([one.low <= math.log(2) <= one.high for one in found]) > 0.925
