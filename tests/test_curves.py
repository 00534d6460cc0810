import numpy as np
import pandas as pd
import pytest

from plasticbench.analysis import curves


def table_of(rows: list[tuple[str, str, int, str, int, float]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["task", "method", "seed", "name", "step", "value"])
    return table.astype({"task": "category", "method": "category", "name": "category"})


def test_align_puts_seeds_on_a_common_grid_and_keeps_the_last_record_of_a_step():
    steps, seeds, values = np.array([10, 20, 20, 10]), np.array([5, 5, 5, 2]), np.array([1.0, 2.0, 3.0, 4.0])
    grid, matrix = curves.align(steps, seeds, values)
    assert grid.tolist() == [10, 20]
    np.testing.assert_array_equal(matrix, [[4.0, np.nan], [1.0, 3.0]])


def test_align_averages_irregular_records_in_bins():
    steps = np.arange(1, 1001)
    grid, matrix = curves.align(steps, np.zeros(1000, dtype=int), steps.astype(float))
    assert len(grid) == 100
    assert matrix[0, -1] == pytest.approx(np.mean(steps[steps > grid[-2]]))


def test_bins_divide_the_whole_run_whenever_it_was_measured():
    edges = [
        curves.align(steps, np.zeros(len(steps), dtype=int), np.ones(len(steps)))[0]
        for steps in (np.arange(150, 40_001, 100), np.arange(168, 40_001, 104), np.arange(1, 40_001))
    ]
    assert edges[0][[0, 49, -1]].tolist() == [399.5, 19_975.0, 39_950.0]
    assert edges[2][[0, 49, -1]].tolist() == [400.0, 20_000.0, 40_000.0]


def test_centre_is_missing_where_a_seed_is_missing():
    runs = np.array([[0.0, 1.0, 2.0], [0.0, 3.0, np.nan], [0.0, 2.0, 9.0], [0.0, 2.0, 9.0], [0.0, 2.0, 9.0]])
    curve = curves.curve("fire", np.array([1, 2, 3]), runs)
    assert curve.centre[:2] == pytest.approx([0.0, 2.0])
    assert np.isnan([curve.centre[2], curve.low[2], curve.high[2]]).all()
    assert curve.low[1] < 2.0 < curve.high[1]


def test_two_seeds_have_a_centre_but_no_band():
    curve = curves.curve("fire", np.array([1]), np.array([[0.0], [1.0]]))
    assert curve.centre == pytest.approx([0.5])
    assert np.isnan(curve.low).all()


def test_curves_by_name_separates_names_and_methods():
    rows = [("t", m, s, n, 10, v) for m, v in (("a", 1.0), ("b", 2.0)) for s in range(3) for n in ("eval/score", "x")]
    found = curves.curves_by_name(table_of(rows))
    assert set(found) == {"eval/score", "x"}
    assert [(curve.method, curve.centre[0]) for curve in found["x"]] == [("a", 1.0), ("b", 2.0)]


def test_curves_over_tasks_pool_runs_on_common_steps_and_leave_out_partial_methods():
    rows = [
        (t, "a", s, "eval/score", step, v) for t, v in (("x", 0.0), ("y", 1.0)) for s in range(2) for step in (5, 10)
    ]
    rows += [("y", "a", 0, "eval/score", 7, 1.0), ("x", "b", 0, "eval/score", 5, 1.0)]
    (curve,) = curves.curves_over_tasks(table_of(rows), "eval/score")
    assert curve.method == "a"
    assert curve.steps.tolist() == [5, 10]
    assert curve.centre == pytest.approx([0.5, 0.5])
    assert curve.runs.tolist() == [[0.0, 0.0], [1.0, 1.0]]


def _rising(task: str, steps: np.ndarray) -> list[tuple[str, str, int, str, int, float]]:
    return [(task, "a", seed, "eval/score", int(step), step / 40_000) for seed in range(3) for step in steps]


@pytest.mark.parametrize("every_steps", [1_000, 150])
def test_tasks_with_other_strides_have_a_whole_curve_together(every_steps):
    due = np.arange(every_steps, 40_001, every_steps)
    one, eight = np.append(due, 40_000), np.append(-(-due // 8) * 8, 40_000)
    rows = _rising("one environment", np.unique(one)) + _rising("eight environments", np.unique(eight))
    (curve,) = curves.curves_over_tasks(table_of(rows), "eval/score")
    assert len(curve.steps) > 0.9 * min(100, len(due))
    assert np.diff(curve.steps).max() <= 1_001
    assert curve.centre == pytest.approx(curve.steps / 40_000, abs=200 / 40_000)


def test_a_task_between_its_evaluations_counts_with_the_line_that_its_figure_shows():
    rows = [("x", "a", 0, "eval/score", step, v) for step, v in ((10, 0.0), (20, 4.0), (40, 0.0))]
    rows += [("y", "a", 0, "eval/score", step, v) for step, v in ((12, 1.0), (40, 1.0))]
    (curve,) = curves.curves_over_tasks(table_of(rows), "eval/score")
    assert curve.steps.tolist() == [12, 40]
    assert curve.runs[0] == pytest.approx([0.8, 0.0])


def test_final_value_averages_the_last_tenth():
    steps = np.array([80, 90, 95, 100])
    assert curves.final_value(steps, np.array([9.0, 9.0, 1.0, 2.0]), 100) == pytest.approx(1.5)


def test_final_value_needs_the_evaluation_at_the_end():
    assert np.isnan(curves.final_value(np.array([95]), np.array([1.0]), 100))


def test_window_mean_leaves_out_the_evaluation_at_the_event():
    assert curves.window_mean(np.array([50, 75, 100]), np.array([9.0, 1.0, 2.0]), 50) == pytest.approx(1.5)
    assert np.isnan(curves.window_mean(np.array([50]), np.array([9.0]), 50))


def test_recovery_by_hand():
    steps, values = np.arange(10, 101, 10), np.array([0, 3, 4, 5, 5, 1, 2, 4, 5, 6.0])
    found = curves.recovery(steps, values, 50, curves.Stretch(0, 100, window_steps=20))
    assert found == curves.Recovery(before=5.0, drop=4.0, recovery_steps=40.0)


def test_recovery_is_infinite_when_the_score_does_not_come_back():
    found = curves.recovery(np.array([10, 20]), np.array([2.0, 1.0]), 10, curves.Stretch(0, 100, window_steps=1))
    assert found is not None
    assert found.recovery_steps == float("inf")


def test_recovery_uses_the_last_evaluation_when_the_window_holds_none():
    found = curves.recovery(
        np.array([10, 60, 90]), np.array([2.0, 0.5, 3.0]), 50, curves.Stretch(0, 100, window_steps=5)
    )
    assert found == curves.Recovery(before=2.0, drop=1.5, recovery_steps=40.0)


def test_recovery_needs_values_on_both_sides():
    assert curves.recovery(np.array([60]), np.array([1.0]), 50, curves.Stretch(0, 100, window_steps=5)) is None
