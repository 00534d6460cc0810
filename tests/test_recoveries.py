from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plasticbench.analysis.recoveries import RecoveryRow, recoveries
from plasticbench.analysis.runs import Run, Trial

EVENT, BUDGET = 20_000, 40_000
STEPS_80 = np.arange(500, BUDGET + 1, 500)
STEPS_266 = np.arange(150, BUDGET + 1, 150)


def found(steps: np.ndarray, scores: np.ndarray, **other_methods: np.ndarray) -> list[RecoveryRow]:
    """The rows of three seeds with the same scores, on one task that changes half-way."""
    methods = {"none": scores} | other_methods
    trials = [
        Trial(
            id=f"{method}{seed}", task="A", method=method, seed=seed, reset_steps=(), change_steps=(EVENT,),
            score_source="", settings={},
        )
        for method in methods
        for seed in range(3)
    ]  # fmt: skip
    run = Run(path=Path(), name="", description="", version="", budget_steps=BUDGET, versions={}, trials=tuple(trials))
    rows = [
        (trial.task, trial.method, trial.seed, "eval/score", step, score)
        for trial in trials
        for step, score in zip(steps, methods[trial.method], strict=True)
    ]
    table = pd.DataFrame(rows, columns=["task", "method", "seed", "name", "step", "value"])
    return recoveries(run, table.astype({"task": "category", "method": "category", "name": "category"})).rows


@pytest.mark.parametrize("steps", [STEPS_80, STEPS_266], ids=len)
def test_what_never_comes_back_has_not_recovered_however_often_it_is_evaluated(steps):
    (row,) = found(steps, np.where(steps <= EVENT, 1.0, 0.5))
    assert (row.before.value, row.drop.value) == (1.0, 0.5)
    assert (row.back.value, row.num_recovered, row.num_seeds, row.stretch_steps) == (np.inf, 0, 3, steps[-1] - EVENT)


def test_who_is_still_training_has_not_recovered_in_as_many_steps_as_were_evaluated():
    early = STEPS_80[STEPS_80 <= 24_000]
    (row,) = found(early, np.where(early <= EVENT, 1.0, 0.5))
    assert (row.back.value, row.stretch_steps) == (np.inf, 4_000)


def test_a_recovery_takes_the_steps_to_the_first_evaluation_that_is_as_good_as_before():
    (row,) = found(STEPS_266, np.where((STEPS_266 <= EVENT) | (STEPS_266 >= 28_050), 1.0, 0.5))
    assert (row.back.value, row.num_recovered) == (8_050, 3)


def test_evaluations_that_are_no_numbers_are_passed_over_and_rows_keep_the_order_of_the_plan():
    hole = np.where(STEPS_80 == EVENT, np.nan, 1.0)
    rows = found(STEPS_80, hole, fire=np.where(STEPS_80 <= EVENT, 1.0, 0.0))
    assert [(row.method, row.drop.value, row.back.value) for row in rows] == [("none", 0.0, 500), ("fire", 1.0, np.inf)]
