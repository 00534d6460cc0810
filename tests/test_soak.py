"""The compose file's services on machines of their own, a submitted benchmark, and everything killed at least once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.cluster import KINDS
from benchmarks.machines import missing_programs
from benchmarks.soak import Verdict

REPOSITORY = Path(__file__).parents[1]


CURVES = {"t": [(10, "eval/return", "1.0"), (20, "eval/return", "2.0")]}
FILES = [("t", "eval/return", 10, "1.0", 5), ("t", "eval/return", 20, "2.0", 6)]


def test_a_verdict_passes_what_is_there_once_and_equal() -> None:
    verdict = Verdict(seed=0)
    assert not verdict.passed, "nothing was checked"
    verdict.check(CURVES, CURVES, FILES, FILES)
    assert (verdict.passed, verdict.rounds, verdict.records) == (True, 1, 2)


@pytest.mark.parametrize(
    ("own", "history", "problem"),
    [
        (CURVES["t"][:1], FILES, "differs"),
        ([*CURVES["t"], CURVES["t"][0]], FILES, "1 records twice"),
        ([(10, "eval/return", "1.0000000000000002"), CURVES["t"][1]], FILES, "differs"),
        (CURVES["t"], FILES[1:], "MLflow lacks 1 of 2"),
        (CURVES["t"], [*FILES, FILES[0]], "MLflow has 1 more"),
        (CURVES["t"], [*FILES[:1], ("t", "eval/return", 20, "2.0", 7)], "MLflow lacks 1 of 2"),
    ],
)
def test_a_verdict_names_what_is_lost_or_there_twice(own, history, problem) -> None:
    verdict = Verdict(seed=0)
    verdict.check({"t": own}, CURVES, FILES, history)
    assert not verdict.passed
    assert any(problem in text for text in verdict.problems)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_nothing_is_lost_when_everything_is_killed_at_random_moments() -> None:
    missing = missing_programs()
    if missing and not os.environ.get("CI"):
        pytest.skip(f"NOTHING ABOUT CLUSTERS IS TESTED HERE: needs {', '.join(missing)}")
    command = [sys.executable, "-m", "benchmarks.soak", "--minutes", "0", "--seed", "1", "--budget-steps", "10_000"]
    answer = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert answer.returncode == 0, answer.stdout
    verdict = json.loads(answer.stdout[answer.stdout.rindex("\n{") :])
    assert verdict["passed"]
    assert set(verdict["kills"]) == set(KINDS)
    assert verdict["records"] > 1_000
