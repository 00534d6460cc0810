"""The compose file's services on machines of their own, a submitted benchmark, and everything killed at least once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.cluster import KINDS
from benchmarks.machines import missing_programs

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1500)]
REPOSITORY = Path(__file__).parents[1]


def test_nothing_is_lost_when_everything_is_killed_at_random_moments() -> None:
    missing = missing_programs()
    if missing and not os.environ.get("CI"):
        pytest.skip(f"NOTHING ABOUT CLUSTERS IS TESTED HERE: needs {', '.join(missing)}")
    command = [sys.executable, "-m", "benchmarks.soak", "--minutes", "0", "--seed", "1"]
    answer = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert answer.returncode == 0, answer.stdout
    verdict = json.loads(answer.stdout[answer.stdout.rindex("\n{") :])
    assert verdict["passed"]
    assert set(verdict["kills"]) == set(KINDS)
    assert verdict["records"] > 1_000
