"""``run`` on a directory that is there: what may change is taken over and said, the rest is refused by key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_runs import small
from typer.testing import CliRunner

from plasticbench.platform.cli import app
from plasticbench.platform.definition.reading import BenchmarkError, from_dict
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.rundir import RunDirectory


def create(path: Path, **changes: Any) -> str:
    benchmark = from_dict(small(**changes))
    return RunDirectory(path).create(benchmark, make_plan(benchmark))


def test_the_same_file_changes_nothing(tmp_path: Path) -> None:
    assert create(tmp_path / "run") == ""
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    assert create(tmp_path / "run") == ""
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_what_changes_no_result_is_taken_over_and_said(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    create(run.path)
    trials = run.plan().trials
    said = create(
        run.path,
        description="again",
        tracking={"probes": "all", "weights": "none"},
        checkpoint={"every_s": 3.0},
        execution={"max_concurrent": 1, "members_per_population": 30},
    )
    assert sorted(said.split("; ")) == [
        "checkpoint.every_s: 3.0 in place of 1000.0",
        "description: again in place of nothing",
        "execution.max_concurrent: 1 in place of nothing",
        "execution.members_per_population: 30 in place of 32",
        "tracking.probes: all in place of totals",
        "tracking.weights: none in place of final",
    ]
    assert (run.plan().description, run.plan().tracked_probes, run.plan().trials) == ("again", "all", trials)
    assert run.benchmark().checkpoint.every_s == 3.0
    assert run.benchmark().execution.max_concurrent == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"budget_steps": 800}, "budget_steps: 400 there, 800 here"),
        ({"name": "other"}, "name: small there, other here"),
        ({"execution": {"num_cpus": 2}}, "execution.num_cpus: 1 there, 2 here"),
        ({"execution": {"members_per_population": 1}}, "execution.members_per_population: 32 there, 1 here"),
        ({"records": {"every_steps": 20}}, "records.every_steps: 50 there, 20 here"),
        (
            {"methods": {"none": {"kind": "none"}, "fire": {"kind": "fire", "scale": "none"}}},
            "methods.fire.scale: muon",
        ),
    ],
)
def test_everything_else_is_refused_by_key_with_both_values(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    create(tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(BenchmarkError, match=re.escape(reason)):
        create(tmp_path / "run", **changes)
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_a_run_whose_defaults_have_no_effect_can_be_read_and_its_file_run_again(tmp_path: Path) -> None:
    agent = {"kind": "dqn", "learning_starts_steps": 50}  # by default the target moves every 500 steps
    create(tmp_path / "run", agent=agent)
    assert RunDirectory(tmp_path / "run").benchmark().methods[0].agent_config.target_period_steps == 500
    resolved = tmp_path / "run" / "benchmark.yaml"
    result = CliRunner().invoke(app, ["plan", str(resolved)])
    assert result.exit_code == 0, result.output
    assert "agent.target_period_steps: what a preset or the default says has no effect" in result.output
    result = CliRunner().invoke(app, ["plan", str(resolved), "--set", "agent.target_period_steps=600"])
    assert result.exit_code == 2
    assert "agent.target_period_steps: this setting has no effect" in result.output
    assert yaml.safe_load(resolved.read_text())["filled_in"] is True
