"""A tracker that dies wherever it is started: the run ends all the same, and says what is left to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from small_runs import small

_MLFLOW = """
import importlib, os, sys
if "default_worker" in sys.argv[0]:  # a process of Ray's
    with open(os.environ["STARTS"], "a") as starts:
        starts.write("x")
    os._exit(7)
sys.path = [entry for entry in sys.path if entry != os.path.dirname(__file__)]
del sys.modules["mlflow"]
sys.modules["mlflow"] = importlib.import_module("mlflow")
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_tracker_that_dies_at_every_import_is_not_started_for_ever(tmp_path: Path) -> None:
    for name, text in [("mlflow.py", _MLFLOW), ("small.yaml", yaml.safe_dump(small(seeds=1)))]:
        (tmp_path / name).write_text(text)
    starts, out = tmp_path / "starts", tmp_path / "run"
    own = {"PYTHONPATH": str(tmp_path), "STARTS": str(starts), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "plasticbench", "run", "small.yaml", "--out", str(out)]
    done = subprocess.run(
        command, env=os.environ | own, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, "all trials finished: " + done.stderr
    assert len(starts.read_text()) == 9
    assert f"Report: {out}/report/index.html" in done.stdout
    assert "MLflow is behind: the tracker did not answer" in done.stdout + done.stderr
    assert f"`plasticbench resume {out}` brings it up to date" in done.stdout + done.stderr
    own = {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "plasticbench", "resume", str(out)]
    resumed = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, timeout=300, check=False)
    assert resumed.returncode == 0, resumed.stderr
    assert "MLflow is behind" not in resumed.stdout + resumed.stderr
