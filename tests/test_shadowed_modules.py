"""Files in the current folder that are named as modules of Python and MLflow are, which nobody may import."""

import os
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from own_environments import write_file, write_module
from servers import free_port

from plasticbench.platform.tracking.mlflow_store import _make_database, session
from plasticbench.platform.tracking.pages import ui_command

NAMES = ("statistics", "mlflow", "queue", "random")
SHADOW = "open({log!r}, 'a').write(__name__ + '\\n')\nraise ImportError('a file of the user')\n"
PLASTICBENCH = [sys.executable, "-P", "-m", "plasticbench"]  # -P: as the command `plasticbench`, without this folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Such files, and a module with an environment of the user's own that a benchmark file names."""
    write_module(tmp_path)
    write_file(tmp_path)
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(SHADOW.format(log=str(tmp_path / "imported")))
    return tmp_path


def _num_metrics(database: Path) -> int:
    with sqlite3.connect(database) as opened:
        count: int = opened.execute("SELECT count(*) FROM metrics").fetchone()[0]
    return count


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_imports_none_of_them_and_the_environment_beside_them(folder):
    done = subprocess.run(
        [*PLASTICBENCH, "run", "own.yaml", "--out", "run"], cwd=folder, capture_output=True, text=True, timeout=300
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "MLflow is behind" not in said
    assert _num_metrics(folder / "run" / "mlflow.db") > 0
    assert not (folder / "imported").exists()


@pytest.mark.slow
def test_pages_import_none_of_them(folder):
    database = folder / "run" / "mlflow.db"
    with session(f"sqlite:///{database}"):
        _make_database(database)
    port = free_port()
    with subprocess.Popen(ui_command(folder / "run", port), cwd=folder, stdout=-3, stderr=-3) as pages:
        try:
            _wait_for_answer(port, pages)
            assert not (folder / "imported").exists()
        finally:
            pages.terminate()


def _wait_for_answer(port: int, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 240
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
            return
        except OSError:
            assert server.poll() is None
            assert time.monotonic() < end
            time.sleep(0.5)


def test_python_m_imports_none_of_them(folder):
    command = [sys.executable, "-m", "plasticbench", "plan", "own.yaml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "segments: 1" in done.stdout
    assert not (folder / "imported").exists()


def test_these_files_would_break_a_python_that_looks_into_its_folder(folder):
    script = [sys.executable, "-c", "import random"]
    assert subprocess.run(script, cwd=folder, capture_output=True, env={**os.environ}).returncode == 1
    assert (folder / "imported").read_text() == "random\n"
