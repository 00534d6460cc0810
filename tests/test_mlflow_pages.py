"""What a person sees in MLflow's own pages, in a real browser, after a small benchmark.

``python tests/test_mlflow_pages.py FOLDER`` saves the pictures of the documentation there.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from browser import Page, chromium
from servers import mlflow_server
from small_runs import run_all, small

from plasticbench.analysis.report import write_report
from plasticbench.platform.planning.plan import Plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.tracking.mirror import Mirror
from plasticbench.platform.tracking.tracker import committed_bytes
from plasticbench.records import read_records

pytestmark = pytest.mark.slow

_LEARNING = {
    "agent": {"kind": "dqn", "network": {"kind": "mlp", "hidden": [64, 64]}, "learning_rate": 5e-4}
    | {"learning_starts_steps": 200, "capacity_transitions": 5000, "target_period_steps": 200},
    "budget_steps": 6000,
    "evaluation": {"every_steps": 300, "episodes": 2, "num_envs": 2},
    "probes": {"every_steps": 1000, "batch_rows": 64, "kinds": ["dormant_ratio", "weight_norm"]},
    "records": {"every_steps": 300},
}
METHODS = ("none", "full_reset", "shrink_perturb", "fire")


def shown(text: str) -> str:
    """The innermost element with this text, as a JavaScript expression."""
    return f"[...document.querySelectorAll('*')].filter(one => one.innerText?.trim() === {json.dumps(text)}).pop()"


def checkbox(run_name: str) -> str:
    """What selects a run's row of the table, whose panes hold a part of it each under a common row-id."""
    row = f"{shown(run_name)}.closest('.ag-row').getAttribute('row-id')"
    return f"document.querySelector(`.ag-row[row-id='${{{row}}}'] input[aria-label^='Press Space']`)"


def labelled(text: str) -> str:
    return f"document.querySelector('[aria-label={json.dumps(text)}]')"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("pages") / "run")


def finished_run(path: Path) -> Path:
    """A small benchmark, trained, mirrored into its own store and reported."""
    methods = {name: {"kind": name} for name in METHODS}
    question = "Which methods keep learning when CartPole's inputs are shuffled?"
    plan = run_all(path, small(name="Shuffled CartPole", description=question, methods=methods, **_LEARNING))
    mirror = Mirror(path, None)
    mirror.pump(committed_bytes(RunDirectory(path), plan.segments))
    mirror.finish_all({trial.id: "FINISHED" for trial in plan.trials})
    mirror.log_report(write_report(path).parent)
    return path


def evaluations(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Step and return of the first seed of each method, by the names of MLflow's runs."""
    plan: Plan = RunDirectory(run).plan()
    files = {f"{trial.method} s0": RunDirectory(run).record_file(trial.id) for trial in plan.trials if trial.seed == 0}
    return {
        name: [(record.step, record.value) for record in read_records(file) if record.name == "eval/return"]
        for name, file in files.items()
    }


async def open_experiment(page: Page, uri: str) -> None:
    """From MLflow's start page to the benchmark's runs, each method's trials unfolded."""
    await page.open(uri)
    await page.click(shown("Model training"))
    await page.open(f"{uri}/#/experiments")
    await page.click(shown("Shuffled CartPole"))
    await page.until(f"!!{shown('CartPole-v1 fire')}")
    if await page.value(f"!!{labelled('Close')}"):
        await page.click(labelled("Close"))  # the assistant's pane
    for method in METHODS:
        await page.click(f"{shown(f'CartPole-v1 {method}')}.closest('.ag-cell').querySelector('button')")
        await page.until(f"!!{shown(f'{method} s0')}")


async def compare_first_seeds(page: Page) -> None:
    for method in METHODS:
        await page.click(checkbox(f"{method} s0"))
    await page.click(shown("Compare"))
    await page.until("document.body.innerText.includes('Comparing 4 Runs from 1 Experiment')")
    await page.click(labelled("Parameters - Show diff only"))


async def drawn_curves(page: Page) -> dict[str, list[tuple[int, float]]]:
    """What the chart of the metric holds, by run name."""
    await page.click(shown("eval/return"))
    chart = "document.querySelector('.js-plotly-plot')"
    await page.until(f"new Set({chart}.data.map(curve => curve.name)).size === {len(METHODS)}")
    curves: list[dict[str, Any]] = await page.value(
        f"{chart}.data.map(curve => ({{name: curve.name, x: [...curve.x], y: [...curve.y]}}))"
    )
    return {curve["name"]: list(zip(curve["x"], curve["y"], strict=True)) for curve in curves}


def first_run(uri: str) -> str:
    """MLflow's id of the first seed of ``fire``."""
    from mlflow import MlflowClient

    found: str = MlflowClient(uri).search_runs(["1"], "attributes.run_name = 'fire s0'")[0].info.run_id
    return found


async def tell(run: Path, folder: Path, pictures: Path) -> dict[str, Any]:
    """Walks through the pages as a user would, and returns what they showed."""
    seen: dict[str, Any] = {}
    with mlflow_server(f"sqlite:///{run}/mlflow.db", folder) as server:
        async with chromium(1400, 1000) as page:
            await open_experiment(page, server.uri)
            seen["experiment"] = await page.value("document.body.innerText")
            await compare_first_seeds(page)
            await page.until("!document.body.innerText.includes('agent.batch_rows')")
            seen["compare"] = await page.value("document.body.innerText")
            await page.picture(pictures / "mlflow_compare.png")
            seen["curves"] = await drawn_curves(page)
            await page.open(f"{server.uri}/#/experiments/1/runs?compareRunsMode=CHART&workflowType=machine_learning")
            await page.until("document.querySelectorAll('.js-plotly-plot').length >= 2")
            await asyncio.sleep(2)  # the charts slide into their places
            await page.picture(pictures / "mlflow_charts.png")
            for name, tab, text in (
                ("run", "", "Description"),
                ("system", "/system-metrics", "process_cpu_percentage"),
            ):
                await page.open(f"{server.uri}/#/experiments/1/runs/{first_run(server.uri)}{tab}")
                await page.until(f"document.body.innerText.includes('{text}')")
                seen[name] = await page.value("document.body.innerText")
    return seen


def test_the_first_seed_of_each_method_compares_by_curves_and_by_the_parameters_that_differ(
    run: Path, tmp_path: Path
) -> None:
    seen = asyncio.run(tell(run, tmp_path / "server", tmp_path))

    assert "Which methods keep learning when CartPole's inputs are shuffled?" in seen["experiment"]
    assert "13 matching runs" in seen["experiment"], "8 trials below 4 methods, and the report"
    parameters = seen["compare"].split("Show diff only")[1]
    differing = {row.partition("\t")[0]: row.split("\t")[1:] for row in parameters.splitlines() if "\t" in row}
    assert sorted(differing["method.kind"]) == sorted(METHODS)
    assert not {"seed", "environment.task", "budget_steps", "agent.learning_rate"} & differing.keys()
    assert seen["curves"] == evaluations(run)
    assert all(len(curve) == 20 for curve in seen["curves"].values())
    assert "What sets it apart" in seen["run"]
    assert "process_cpu_percentage" in seen["system"]
    for picture in ("mlflow_compare.png", "mlflow_charts.png"):
        assert (tmp_path / picture).stat().st_size < 300_000


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        made = finished_run(Path(scratch) / "run")
        asyncio.run(tell(made, Path(scratch) / "server", Path(sys.argv[1])))
