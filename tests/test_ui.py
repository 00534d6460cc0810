"""``plasticbench ui``: MLflow's pages, and what people see of a benchmark first."""

import asyncio
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request

import pytest
from browser import chromium
from small_runs import run_all, small
from typer.testing import CliRunner

from plasticbench.analysis.report import write_report
from plasticbench.platform.cli import app
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.tracking.landing_page import page
from plasticbench.platform.tracking.mirror import Mirror
from plasticbench.platform.tracking.tracker import committed_bytes


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    plan, mirror = run_all(path, small(seeds=3)), Mirror(path, None)
    mirror.pump(committed_bytes(RunDirectory(path), plan.segments))
    mirror.finish_all({trial.id: "FINISHED" for trial in plan.trials})
    mirror.log_report(write_report(path).parent)
    return path


def _rows(run_dir, query: str) -> dict[str, str]:
    with sqlite3.connect(run_dir / "mlflow.db") as opened:
        return dict(opened.execute(query).fetchall())


def test_an_experiment_opens_on_its_runs_and_metrics(run_dir):
    tags = _rows(run_dir, "SELECT key, value FROM experiment_tags")
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    iqms = _rows(run_dir, "SELECT r.name, t.value FROM tags t JOIN runs r ON t.run_uuid = r.run_uuid WHERE key = 'iqm'")
    assert iqms.keys() == {"CartPole-v1 none", "CartPole-v1 fire"}
    rows = (run_dir / "report" / "leaderboard.md").read_text().replace("\N{MINUS SIGN}", "-")
    assert all(iqm.partition(" ")[0] in rows for iqm in iqms.values())


def test_parents_trials_and_report_are_told_apart_and_say_what_was_found(run_dir):
    def tags(key: str) -> dict[str, str]:
        own = "SELECT r.name, t.value FROM tags t JOIN runs r ON t.run_uuid = r.run_uuid WHERE t.key = "
        return _rows(run_dir, f"{own}'{key}'")

    levels = tags("level")
    assert {levels["CartPole-v1 fire"], levels["fire s0"], levels["report"]} == {"method", "trial", "report"}
    assert (tags("group")["CartPole-v1 fire"], tags("group")["fire s0"]) == ("fire", "fire")
    assert tags("mlflow.note.content")["report"].startswith("* ")
    assert "### CartPole-v1" in tags("mlflow.note.content")["report"]
    assert tags("mlflow.source.name")["fire s0"].startswith("plasticbench ")
    assert "unknown" not in tags("mlflow.user").values()
    final = "SELECT m.key || r.name, m.value FROM metrics m JOIN runs r ON m.run_uuid = r.run_uuid WHERE m.key LIKE "
    ranks = _rows(run_dir, f"{final}'final/rank'")
    assert sorted(ranks) == ["final/rankCartPole-v1 fire", "final/rankCartPole-v1 none"]
    assert set(ranks.values()) <= {1.0, 2.0}
    assert "plasticity/online/dormant_ratioCartPole-v1 fire" in _rows(run_dir, f"{final}'plasticity/%'")
    note = _rows(run_dir, "SELECT key, value FROM experiment_tags")["mlflow.note.content"]
    assert "[Curves](#/experiments/1/runs?workflowType=machine_learning&compareRunsMode=CHART)" in note


def test_the_address_is_the_benchmarks_own_while_its_experiment_is_there(run_dir, tmp_path):
    address = "http://127.0.0.1:5000"
    shutil.copy(run_dir / "mlflow.db", tmp_path)
    assert page(address, tmp_path / "mlflow.db", "small").startswith(f"{address}/#/experiments/1/runs?")
    assert page(address, tmp_path / "mlflow.db", "other") == address
    with sqlite3.connect(tmp_path / "mlflow.db") as opened:
        opened.execute("UPDATE experiments SET lifecycle_stage = 'deleted'")
    assert page(address, tmp_path / "mlflow.db", "small") == address


@pytest.mark.parametrize("port", ["0", "99999"])
def test_a_port_that_is_none_is_refused(run_dir, port):
    done = CliRunner().invoke(app, ["ui", str(run_dir), "--port", port])
    assert done.exit_code == 2
    assert "--port" in done.output


def test_a_port_that_is_taken_is_an_error_before_an_address_is_printed(run_dir):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = CliRunner().invoke(app, ["ui", str(run_dir), "--port", str(port)])
    assert done.exit_code == 2
    assert f"127.0.0.1:{port} cannot be used: Address already in use" in " ".join(done.output.split())
    assert "MLflow:" not in done.output


_COLUMNS = ["method", "iqm", "eval/score", "eval/return"]
_HEADS = """[...document.querySelectorAll('.ag-header-cell')].map(cell => [cell.getBoundingClientRect().left,
cell.innerText.trim()]).sort((a, b) => a[0] - b[0]).map(cell => cell[1]).filter(name => %s.includes(name))"""


async def _seen(address: str) -> tuple[list[str], str]:
    """The heads of the columns asked for from left to right, whatever order the page drew them in, and its text."""
    async with chromium(1600, 1000) as opened:
        await opened.open(address)
        heads = _HEADS % _COLUMNS
        await opened.until(f"{heads}.length === {len(_COLUMNS)}")
        return await opened.value(heads), await opened.value("document.body.innerText")


@pytest.mark.slow
def test_the_address_answers_when_it_is_printed_and_shows_method_iqm_and_final_score(run_dir):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "plasticbench", "ui", str(run_dir), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            line = next(line for line in server.stdout if line.startswith("MLflow: "))
            address = line.split()[1]
            urllib.request.urlopen(address, timeout=60).close()
            seen = asyncio.run(_seen(address)) if shutil.which("chromium") else None
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=60)
    if seen is None:
        pytest.skip("chromium is not installed")
    heads, text = seen
    assert heads == _COLUMNS
    assert "Judges" not in text, "the pages for language models"
