"""Tasks without reference returns: methods are ranked by raw return, and nothing is averaged over such tasks."""

import json
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import pytest
import yaml
from run_directory import write_run
from typer.testing import CliRunner

from plasticbench.analysis.headline import answer
from plasticbench.analysis.leaderboard import leaderboard
from plasticbench.analysis.leaderboard_text import to_markdown
from plasticbench.analysis.report import write_report
from plasticbench.analysis.rows import ALL
from plasticbench.envs.gymnasium import Config
from plasticbench.platform.cli import app
from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.display import standings
from plasticbench.platform.planning.plan import make_plan

GOOD, BAD = [310.0, 320.0, 330.0], [10.0, 20.0, 30.0]
SCORED = [0.7, 0.8, 0.9], [0.1, 0.2, 0.3]


def _run(path: Path, *, scored: tuple[str, ...] = (), raw: tuple[str, ...] = ()) -> Path:
    scores = {(task, "fire"): SCORED[0] for task in scored} | {(task, "none"): SCORED[1] for task in scored}
    scores |= {(task, "fire"): GOOD for task in raw} | {(task, "none"): BAD for task in raw}
    write_run(path, scores)
    plan = json.loads((path / "plan.json").read_text())
    for trial in plan["trials"]:
        trial.update({"has_references": False} if trial["task"] in raw else {})
    (path / "plan.json").write_text(json.dumps(plan))
    return path


def _iqms(path: Path) -> dict[tuple[str, str], tuple[float | None, int | None, str]]:
    rows = leaderboard([path]).rows
    return {(row.task, row.method): (row.final.iqm.value, row.final.rank, row.measure) for row in rows}


def test_one_such_task_is_ranked_by_its_returns_and_has_no_optimality_gap(tmp_path: Path) -> None:
    run = _run(tmp_path, raw=("Mine",))
    found = _iqms(run)
    assert found["Mine", "fire"] == found[ALL, "fire"] == (pytest.approx(320), 1, "return")
    assert found["Mine", "none"] == (pytest.approx(20), 2, "return")
    assert {row.summary.optimality_gap for row in leaderboard([run]).rows} == {None}


def test_all_tasks_together_are_those_with_references(tmp_path: Path) -> None:
    found = _iqms(_run(tmp_path, scored=("A", "B"), raw=("Mine",)))
    assert found[ALL, "fire"] == (pytest.approx(0.8), 1, "score")  # 320 would be in it otherwise
    assert found["Mine", "fire"] == (pytest.approx(320), 1, "return")
    assert found["B", "none"] == (pytest.approx(0.2), 2, "score")


def test_nothing_is_ranked_over_several_tasks_of_which_none_has_references(tmp_path: Path) -> None:
    run = _run(tmp_path, raw=("Mine", "Yours"))
    rows = leaderboard([run]).rows
    assert {row.final.rank for row in rows if row.task == ALL} == {None}
    assert {row.note for row in rows if row.task == ALL} == {
        "not ranked: returns of tasks without reference returns cannot be taken together"
    }
    assert [row.final.rank for row in rows if row.task == "Yours"] == [1, 2]
    assert "cannot be taken together" in answer([row for row in rows if row.task == ALL])[0]


def test_text_page_and_terminal_say_so(tmp_path: Path) -> None:
    run = _run(tmp_path, scored=("A", "B"), raw=("Mine",))
    rows = leaderboard([run]).rows
    text, page = to_markdown(rows), write_report(run).read_text()
    for shown in (text, page):
        assert "Without Mine, for which no reference returns are known" in shown
        assert shown.count("Ranked by raw return: no reference returns are known") == 1
    assert "Final return ↑, IQM" in page
    assert "final return" in page
    captions = [str(table.caption) for table in standings(rows)]
    assert ["raw return" in caption for caption in captions] == [True, False, False, True]
    measures = {
        row["task"]: row["measure"] for row in json.loads((run / "report/leaderboard.json").read_text())["rows"]
    }
    assert measures == {ALL: "score", "A": "score", "B": "score", "Mine": "return"}


def test_the_sentence_above_a_report_speaks_of_returns(tmp_path: Path) -> None:
    rows = [row for row in leaderboard([_run(tmp_path, raw=("Mine",))]).rows if row.task == "Mine"]
    assert "fire has the highest return (IQM 320.000)" in answer(rows)[0]


@pytest.fixture
def unscored() -> Iterator[str]:
    task = "Unscored-v0"
    gymnasium.register(task, "gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps=50)
    yield task
    del gymnasium.registry[task]


def test_without_references_the_score_is_the_return_and_the_plan_names_the_task(unscored: str, tmp_path: Path) -> None:
    config = Config(task=unscored)
    assert (config.has_references, config.score(123.5)) == (False, 123.5)
    data = {
        "name": "raw",
        "environments": [{"kind": "gymnasium", "task": unscored}],
        "agent": {"kind": "dqn", "network": {"kind": "mlp", "hidden": [8]}, "learning_starts_steps": 50},
        "methods": {"none": {"kind": "none"}},
        "seeds": 1,
        "budget_steps": 200,
        "evaluation": {"every_steps": 100, "episodes": 1},
    }
    (trial,) = make_plan(from_dict(data)).trials
    assert not trial.has_references
    assert trial.settings["environment"] == {
        "kind": "gymnasium", "task": unscored, "num_envs": 1, "scenario": {"kind": "stationary"}
    }  # fmt: skip
    (tmp_path / "raw.yaml").write_text(yaml.safe_dump(data))
    printed = CliRunner().invoke(app, ["plan", str(tmp_path / "raw.yaml")]).output
    assert f"ranked by raw return, without reference returns: {unscored}" in printed


def test_one_reference_return_alone_is_refused(unscored: str) -> None:
    with pytest.raises(ValueError, match="low_return: needs high_return as well, since Unscored-v0 has no reward thr"):
        Config(task=unscored, low_return=0.0)
