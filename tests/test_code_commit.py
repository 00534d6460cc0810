"""A result can be traced to the commit of the source that made it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from small_runs import run_all, small

from plasticbench.analysis.leaderboard import leaderboard
from plasticbench.analysis.leaderboard_text import to_json
from plasticbench.code_commit import COMMIT_VARIABLE, code_commit
from plasticbench.platform.tracking.run_specs import RunSpecs

HASH = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _asked_anew():
    code_commit.cache_clear()
    yield
    code_commit.cache_clear()


def _git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    told = subprocess.run(["git", "-C", str(folder), *who, *arguments], capture_output=True, text=True, check=True)
    return told.stdout.strip()


def test_a_checkout_names_its_commit_and_says_where_files_differ_from_it(tmp_path: Path) -> None:
    _git(tmp_path, "init", "--quiet")
    (tmp_path / "code.py").write_text("a = 1\n")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "--quiet", "-m", "First")
    _git(tmp_path, "tag", "-a", "v1", "-m", "a tag is no commit")
    commit = _git(tmp_path, "rev-parse", "HEAD")
    assert code_commit(tmp_path) == commit
    (tmp_path / "code.py").write_text("a = 2\n")
    code_commit.cache_clear()
    assert code_commit(tmp_path) == f"{commit}-dirty"


def test_a_package_inside_somebody_elses_repository_does_not_take_its_commit(tmp_path: Path) -> None:
    _git(tmp_path, "init", "--quiet")
    _git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "First")
    (tmp_path / "site-packages").mkdir()
    assert code_commit(tmp_path / "site-packages") != _git(tmp_path, "rev-parse", "HEAD")


@pytest.mark.parametrize(("told", "commit"), [(HASH, HASH), ("", None)])
def test_source_that_travelled_is_told_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, commit: str | None
) -> None:
    monkeypatch.setenv(COMMIT_VARIABLE, told)
    assert code_commit(tmp_path) == commit


def test_a_run_keeps_it_in_plan_machines_provenance_and_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("platform.planning.plan", "platform.training.machine"):
        monkeypatch.setattr(f"plasticbench.{module}.code_commit", lambda: HASH)
    run_all(tmp_path, small())
    plan = json.loads((tmp_path / "plan.json").read_text())
    notes = [json.loads(path.read_text()) for path in (tmp_path / "machines").rglob("*.json")]
    (source,) = to_json(leaderboard([tmp_path]))["provenance"]["runs"]
    assert {plan["versions"]["commit"], source["versions"]["commit"]} == {HASH}
    assert {note["versions"]["commit"] for note in notes} == {HASH}
    assert RunSpecs(plan).trial(plan["trials"][0], "parent").tags["mlflow.source.git.commit"] == HASH
