"""The benchmark of a GPU says without one what is missing, and compares devices by what its rules say."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.device_cases import CASES, differences, disagreements

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_to_do():
    call = [sys.executable, "-m", "benchmarks.device"]
    done = subprocess.run(call, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("or add --dry to run all but CUDA's calls\n")


def test_a_device_agrees_with_itself_whatever_is_compared():
    found = differences(CASES[0], torch.device("cpu"), updates=5)
    assert found == dict.fromkeys(
        ("training", "replay of a recording", "loaded on the device", "loaded on the CPU", "probes", "reset"), 0.0
    )


def test_what_rounding_does_not_explain_is_named():
    found = {"training": 0.01, "probes": 0.02, "loaded on the CPU": 1e-9, "reset": math.nan}
    assert disagreements(found) == ["probes", "loaded on the CPU", "reset"]


@pytest.mark.slow
def test_the_dry_run_goes_through_everything():
    call = [sys.executable, "-m", "benchmarks.device", "--dry", "--members", "1", "--seconds", "0.01"]
    done = subprocess.run(call, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=1200)
    assert '"disagreements": []' in done.stdout
    assert done.stdout.count("sac_simba") >= 2
    apart = json.loads(done.stdout.splitlines()[-1])["rounding"]
    assert {name: 0 < found["outputs"] < 0.05 and 0 < found["degrees"] < 20 for name, found in apart.items()} == {
        "dqn_nature": True,
        "sac_simba": True,
    }
