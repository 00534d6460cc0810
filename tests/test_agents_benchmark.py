"""`benchmarks/agents.py`: its rows are whole benchmarks, and its table says of them what their records say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_runs import run_all

from benchmarks import agent_table, agents
from benchmarks.agent_peer import _evaluate, train_peer
from benchmarks.agent_rows import ROWS, SOURCES, Published, Row
from benchmarks.agent_table import Interval, peer_returns, reached, table, verdict
from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.plan import make_plan

CARTPOLE = ROWS["cleanrl_cartpole"]
TINY = replace(CARTPOLE, agent={"kind": "dqn", "learning_starts_steps": 50}, budget_steps=300, seeds=2, every_steps=50)


@pytest.mark.parametrize("name", ROWS)
def test_every_row_is_a_benchmark_of_one_population(name: str) -> None:
    plan = make_plan(from_dict(ROWS[name].benchmark(name)))
    assert [len(segment.members) for segment in plan.segments] == [ROWS[name].seeds]
    assert ROWS[name].source in SOURCES


def test_what_was_not_trained_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_table, "RECORDS", tmp_path)
    lines = table(tmp_path).splitlines()[2:]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == list(ROWS)
    assert all("| not measured |" in line for line in lines)


def test_a_row_is_the_mean_of_the_last_tenth_of_each_seed(tmp_path: Path) -> None:
    plan = run_all(tmp_path / "row", TINY.benchmark("row"))
    found = reached("row", tmp_path)
    assert found is not None
    for trial, value in zip(plan.trials, found.returns, strict=True):
        file = tmp_path / "row" / "records" / f"{trial.id}.jsonl"
        records = [json.loads(line) for line in file.read_text().splitlines()]
        returns = {record["step"]: record["value"] for record in records if record["name"] == "eval/return"}
        assert sorted(returns) == [50, 100, 150, 200, 250, 300]
        assert value == returns[300]
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if '"step":300' not in line))
    assert reached("row", tmp_path) is None


def test_the_interval_is_students() -> None:
    interval = Interval.of_mean([1.0, 2.0, 3.0])
    assert interval.mean == 2.0
    assert interval.half_width == pytest.approx(4.302653 / 3**0.5)  # the deviation is 1
    assert str(interval) == "2.0 ± 2.5"


@pytest.mark.parametrize(
    ("mean", "expected"),
    [
        (84.9, "below"),
        (85.1, "below, intervals meet"),
        (90.1, "inside"),
        (109.9, "inside"),
        (114.9, "above, intervals meet"),
        (115.1, "above"),
    ],
)
def test_a_row_is_inside_where_its_mean_lies_in_their_interval(mean: float, expected: str) -> None:
    assert verdict(Interval(mean=mean, half_width=5.0), Interval(mean=100.0, half_width=10.0)) == expected


def test_a_deviation_of_episodes_is_made_an_interval_of_their_mean() -> None:
    assert Published(mean_return=0.0, spread=79.0, of="", num_episodes=100).half_width == pytest.approx(1.96 * 7.9)
    assert Published(mean_return=0.0, spread=79.0, of="").half_width == 79.0


def test_a_peers_returns_are_those_of_its_last_tenth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_table, "RECORDS", tmp_path / "kept")
    row = replace(ROWS["sac_pendulum"], budget_steps=40, every_steps=2, seeds=2)
    curves = {"0": [0.0] * 18 + [1.0, 2.0], "1": [0.0] * 18 + [3.0, 4.0]}
    (tmp_path / "kept").mkdir()
    path = tmp_path / "kept" / "peer_row.json"
    path.write_text(json.dumps({"returns": {"0": curves["0"]}}))
    assert peer_returns("row", row, tmp_path) is None
    path.write_text(json.dumps({"returns": curves}))
    assert peer_returns("row", row, tmp_path) == (1.5, 3.5)


def test_a_peer_goes_on_with_the_seeds_that_it_lacks(tmp_path: Path) -> None:
    pytest.importorskip("stable_baselines3")
    row: Row = replace(ROWS["sac_pendulum"], budget_steps=20, every_steps=10, episodes=1, seeds=1)
    train_peer("row", row, tmp_path)
    path = tmp_path / "peer_row.json"
    first = json.loads(path.read_text())
    path.write_text(json.dumps(first | {"returns": {"0": [7.0, 7.0]}}))
    train_peer("row", replace(row, seeds=2), tmp_path)
    returns = json.loads(path.read_text())["returns"]
    assert returns["0"] == [7.0, 7.0]
    assert len(returns["1"]) == 2
    with pytest.raises(ValueError, match=r"--out: .*peer_row.json was made with other settings"):
        train_peer("row", replace(row, episodes=2), tmp_path)


@pytest.mark.parametrize("task", ["CartPole-v1", "Acrobot-v1"])
def test_a_peer_is_judged_by_one_episode_of_each_environment(task: str) -> None:
    class Still:
        def predict(self, obs: np.ndarray, deterministic: bool) -> tuple[np.ndarray, None]:
            return np.zeros(len(obs), dtype=np.int64), None

    row = replace(CARTPOLE, environment={"kind": "classic", "task": task})
    mean_return = _evaluate(Still(), row, seed=0, step=0)
    # A cart that is always pushed to the left drops its pole within a dozen steps; a still arm never swings up.
    assert 8 <= mean_return <= 11 if task == "CartPole-v1" else mean_return == -500


@pytest.mark.slow
@pytest.mark.ray
def test_the_short_rows_learn(tmp_path: Path) -> None:
    assert agents.failures(tmp_path) == []
