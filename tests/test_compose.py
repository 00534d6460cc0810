"""The compose cluster in containers: built, started, killed, compared. ``make test-compose`` runs it."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_cluster import ComposeCluster, build, compose_cluster, missing, wait_for

from benchmarks.soak import benchmark, curves, mirrored, recorded, train_undisturbed

pytestmark = pytest.mark.compose
BUDGET_STEPS = 40_000
LARGEST_ADDED_BYTES = 3.05e9  # without CUDA; the base has 0.13e9 to 0.15e9
KILLED = ["ray-worker-1", "mlflow-1", "postgres-1", "ray-worker-2"]


@pytest.fixture(scope="module")
def added_bytes() -> int:
    if reason := missing():
        pytest.skip(reason)
    return build()


@pytest.fixture(scope="module")
def cluster(added_bytes: int) -> Iterator[ComposeCluster]:
    with compose_cluster() as running:
        yield running
    assert running.leftovers() == []


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("compose") / "soak.yaml"
    file.write_text(yaml.safe_dump(benchmark(BUDGET_STEPS)))
    return file


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return train_undisturbed(tmp_path_factory.mktemp("undisturbed") / "run", BUDGET_STEPS)


def test_the_image_without_cuda_adds_little_to_its_base(added_bytes: int) -> None:
    assert added_bytes <= LARGEST_ADDED_BYTES


def test_the_compose_file_is_taken_without_a_word(cluster: ComposeCluster) -> None:
    assert cluster.compose("config", "--quiet") == ""


def test_every_published_port_is_bound_to_loopback(cluster: ComposeCluster) -> None:
    addresses = {
        one["URL"] for service in cluster.services() for one in service["Publishers"] or () if one["PublishedPort"]
    }
    assert addresses == {"127.0.0.1"}


def test_no_service_of_this_image_can_write_to_its_own_root(cluster: ComposeCluster) -> None:
    for service in ("mlflow", "ray-head", "ray-worker"):
        command = ["exec", "--user", "0", service, "sh", "-c", "touch /etc/here 2>&1 || true"]
        assert "Read-only file system" in cluster.compose(*command), service


def test_a_wrong_token_is_refused(cluster: ComposeCluster, config: Path) -> None:
    where = ("--address", cluster.dashboard)
    for command in (("jobs", "list"), ("submit", str(config), "--out", "/runs/stranger")):
        code, output = cluster.plasticbench(*command, *where, token="f" * 32)
        assert code == 2, output
        assert "RAY_AUTH_TOKEN" in output
        assert "Traceback" not in output


def _submit(cluster: ComposeCluster, config: Path, name: str, *options: str) -> tuple[int, str]:
    where = ("--address", cluster.dashboard, "--out", f"/runs/{name}", "--tracking-uri", "http://mlflow:5000")
    return cluster.plasticbench("submit", str(config), *where, *options)


def _status(cluster: ComposeCluster, job: str) -> str:
    return cluster.plasticbench("jobs", "status", job, "--address", cluster.dashboard)[1]


def _begin(cluster: ComposeCluster, config: Path, name: str) -> str:
    """Submits, and returns the job once something is committed."""
    code, output = _submit(cluster, config, name, "--no-wait")
    assert code == 0, output
    found = re.search(r"Submitted (\S+)\.", output)
    assert found
    files = ("exec", "ray-head", "sh", "-c", f"ls /runs/{name}/checkpoints/*/commit-*.json 2>/dev/null | head -1")
    wait_for("a commit", lambda: cluster.compose(*files))
    return found[1]


def _check(cluster: ComposeCluster, name: str, undisturbed: Any, folder: Path) -> None:
    """A run's records are those of an undisturbed run, and MLflow tells all of them and no others."""
    cluster.compose("cp", f"ray-head:/runs/{name}", str(folder))
    run = folder / name
    assert curves(run) == undisturbed
    assert recorded(run) == mirrored(run, cluster.mlflow)
    rows = json.loads((run / "report" / "leaderboard.json").read_text())["rows"]
    assert {row["method"]: row["n_trials"] for row in rows} == {"none": 3, "fire": 3}


def test_a_run_whose_services_are_killed_one_by_one_loses_nothing(
    cluster: ComposeCluster, config: Path, undisturbed: Any, tmp_path: Path
) -> None:
    chance = random.Random(0)
    job = _begin(cluster, config, "killed")
    for name in chance.sample(KILLED, len(KILLED)):
        time.sleep(chance.uniform(0, 6))
        assert "RUNNING" in _status(cluster, job), "it ended before everything was killed: raise BUDGET_STEPS"
        cluster.kill(name)
    wait_for("the job ends", lambda: "RUNNING" not in _status(cluster, job), timeout_s=900)
    wait_for("all services are healthy", cluster.is_healthy)
    code, output = _submit(cluster, config, "killed")  # MLflow may have been away at the end
    assert code == 0, output
    _check(cluster, "killed", undisturbed, tmp_path)


def test_a_run_whose_head_is_killed_goes_on_when_it_is_submitted_again(
    cluster: ComposeCluster, config: Path, undisturbed: Any, tmp_path: Path
) -> None:
    _begin(cluster, config, "beheaded")
    cluster.kill("ray-head-1")
    wait_for("all services are healthy", cluster.is_healthy)
    code, output = _submit(cluster, config, "beheaded")
    assert code == 0, output
    _check(cluster, "beheaded", undisturbed, tmp_path)
