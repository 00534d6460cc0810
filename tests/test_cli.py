"""The commands, and one clear message for everything that a user can get wrong."""

import json
import os
import re
import socket
from unittest import mock

import pytest
import yaml
from small_runs import run_all, small
from small_streams import small_stream
from typer.testing import CliRunner

from plasticbench import __version__, plugins, storage
from plasticbench.platform.cli import app

runner = CliRunner(env={"COLUMNS": "100"})


@pytest.fixture(autouse=True)
def environment():
    """What a command sets for itself ends with it, as it does for users."""
    with mock.patch.dict(os.environ):
        yield


def _config(tmp_path, **changes):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(small(**changes)))
    return path


def _fails(*arguments) -> str:
    result = runner.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 0}, "seeds"),
        ({"budget_steps": 40}, "learning_starts_steps"),
        ({"resets": {"at": [1.5]}}, "strictly between 0 and 1"),
        ({"methods": {"fire": {"kind": "fyre"}}}, "Did you mean 'fire'?"),
        ({"methods": {"fire": {"kind": "fire", "iterations": 3}}}, "has no effect"),
        ({"bugdet_steps": 3}, "Did you mean 'budget_steps'?"),
        ({"environments": [{"kind": "atari", "task": "Asterx"}]}, "Did you mean 'Asterix'?"),
        ({"environments": [{"kind": "classic", "task": "Pendulum-v1"}]}, "dqn needs discrete actions"),
        ({"evaluation": {"every_steps": "often", "episodes": 2}}, "evaluation.every_steps"),
    ],
)
def test_bad_settings_get_one_message_before_anything_starts(tmp_path, changes, message):
    config, out = _config(tmp_path, **changes), tmp_path / "run"
    output = _fails("run", config, "--out", out)
    assert message in output
    assert "small.yaml" in output
    assert not out.exists()


def test_unknown_override_is_refused(tmp_path):
    assert "Here it is called 'seeds'." in _fails("run", _config(tmp_path), "--set", "seed=3")


def test_storage_that_cannot_hold_a_run_is_refused_before_anything_is_written(tmp_path):
    config = _config(tmp_path)
    assert "no storage called nosuch://" in _fails("run", config, "--out", "nosuch://bucket/run")
    assert re.search(r"pip install .*\[gcs\]", _fails("resume", "gs://bucket/run"))
    output = _fails("run", config, "--out", "memory://run")
    assert "--tracking-uri: memory://" in output
    assert "cannot hold an mlflow.db" in output
    assert storage.entries(storage.location("memory://run")) == {}
    assert "not a run directory" in _fails("report", "memory://run")
    assert "is a file" in _fails("run", config, "--out", config)


def test_missing_files_are_named(tmp_path):
    assert "nowhere.yaml" in _fails("run", tmp_path / "nowhere.yaml")
    assert "not a run directory (it has no plan.json and no benchmark.yaml)" in _fails("resume", tmp_path)
    (tmp_path / "plan.json").write_text("{}")
    assert "not a run directory (it has no benchmark.yaml)" in _fails("resume", tmp_path)
    assert "not a run directory" in _fails("report", tmp_path / "nowhere")


def test_a_directory_with_another_benchmark_is_left_alone(tmp_path):
    run_all(tmp_path / "run", small())
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    output = _fails("run", _config(tmp_path, budget_steps=800), "--out", tmp_path / "run")
    assert "holds another benchmark" in output
    after = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    assert {file: data for file, data in after.items() if file.name != "lock"} == before


def test_a_foreign_directory_is_left_alone(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    assert "not empty" in _fails("run", _config(tmp_path), "--out", tmp_path / "thesis")
    assert [file.name for file in (tmp_path / "thesis").iterdir() if file.name != "lock"] == ["chapter.tex"]


def test_a_tracking_server_that_is_down_is_found_before_anything_starts(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    output = _fails("run", _config(tmp_path), "--out", tmp_path / "run", "--tracking-uri", uri)
    assert uri in output
    assert not list(tmp_path.glob("run/records/*"))


def test_plan_shows_segments_and_costs_as_text_and_json(tmp_path):
    text = runner.invoke(app, ["plan", str(_config(tmp_path))])
    assert text.exit_code == 0
    assert "shared" in text.output
    assert "member steps" in text.output
    data = json.loads(runner.invoke(app, ["plan", str(_config(tmp_path)), "--json"]).output)
    assert {trial["method"] for trial in data["trials"]} == {"none", "fire"}
    assert "memory of the largest population: 7" in text.output
    assert "GPU memory of the largest population: none" in text.output
    assert f"member steps: {data['summary']['member_steps']:,}" in text.output
    assert f"populations side by side: {data['summary']['populations_side_by_side']}" in text.output
    assert data["summary"]["records_note"] in " ".join(text.output.split())
    assert data["summary"]["disk_bytes"] == sum(data["summary"]["disk_parts_bytes"].values()) > 0
    assert {"memory_bytes", "gpu_memory_bytes"} <= data["segments"][0].keys()
    assert "(1 task, 2 methods, " in text.output
    assert f"saved by forks: {data['summary']['saved_by_forks']:.1%}" in text.output


def test_help_is_grouped_and_the_version_names_the_commit():
    shown = runner.invoke(app, ["--help"]).output
    assert [shown.index(title) for title in ("Train", "Look at runs", "What there is", "Clusters")]
    told = runner.invoke(app, ["--version"])
    assert told.exit_code == 0
    assert re.fullmatch(rf"plasticbench {re.escape(__version__)}(, commit [0-9a-f]{{40}}(-dirty)?)?\n", told.output)


def test_a_plan_of_data_counts_updates(tmp_path):
    config = tmp_path / "data.yaml"
    config.write_text(yaml.safe_dump(small_stream()))
    shown = runner.invoke(app, ["plan", str(config)]).output
    assert "member updates: " in shown
    assert "update 0" in shown
    assert "step" not in shown


def test_odd_settings_are_a_warning_that_quiet_hides(tmp_path):
    config = _config(tmp_path, methods={"a": {"kind": "fire"}, "b": {"kind": "fire", "scale": "muon"}})
    result = runner.invoke(app, ["plan", str(config)])
    assert result.exit_code == 0
    assert "Warning: " in result.stderr
    assert "methods: 'a' and 'b' have equal settings, so they do the same" in " ".join(result.stderr.split())
    nobody = ["submit", str(config), "--out", str(tmp_path / "run"), "--address", "http://127.0.0.1:1"]
    assert "Warning: " in runner.invoke(app, nobody).stderr
    assert "Warning: " not in runner.invoke(app, [*nobody, "--quiet"]).stderr


@pytest.mark.parametrize("group", sorted(plugins.PACKAGES))
def test_list_names_every_plug_in_with_a_sentence(group):
    rows = json.loads(runner.invoke(app, ["list", group, "--json"]).output)
    assert rows
    assert all(row["name"] and len(row["summary"]) > 10 for row in rows)
    assert rows[0]["name"] in runner.invoke(app, ["list", group]).output


def test_list_of_environments_names_both_reference_returns_of_each_task_and_their_sources():
    text = runner.invoke(app, ["list", "envs"]).output
    assert "Acrobot-v1  0: -499.4, random actions, measured here" in text
    assert "1: -100, Gym's reward threshold" in text
    rows = {row["name"]: row for row in json.loads(runner.invoke(app, ["list", "envs", "--json"]).output)}
    assert rows["atari"]["references"]["Pong"].startswith(
        "0: -20.7, random play; 1: 14.6, human-normalised: random policy"
    )
    single = [row for row in rows.values() if "groups" not in row]  # a thousand ids are listed by group
    assert all(list(row.get("references", {})) == row.get("tasks", []) for row in single)


def test_list_of_an_unknown_group_suggests_the_nearest():
    assert "Did you mean 'treatments'?" in _fails("list", "treatment")


def test_report_and_leaderboard_come_from_plan_and_records_alone(tmp_path):
    run_all(tmp_path / "run", small())
    (tmp_path / "run" / "benchmark.yaml").unlink()
    assert runner.invoke(app, ["report", str(tmp_path / "run")]).exit_code == 0
    assert "0: 22.1, random actions" in (tmp_path / "run" / "report" / "index.html").read_text()
    rows = json.loads(runner.invoke(app, ["leaderboard", str(tmp_path / "run"), "--json"]).output)["rows"]
    assert {row["method"] for row in rows} == {"none", "fire"}
    assert {row["rank"] for row in rows} <= {1, 2}
    html = tmp_path / "board.html"
    text = runner.invoke(app, ["leaderboard", str(tmp_path / "run"), "--html", str(html)])
    assert "fire" in text.output
    assert "fire" in html.read_text()


def test_doctor_finds_this_machine_healthy():
    result = runner.invoke(app, ["doctor", "--json"])
    findings = {finding["name"]: finding for finding in json.loads(result.output)}
    assert result.exit_code == 0, result.output
    for name in ("classic", "minatar", "atari", "mujoco", "humanoid", "gymnasium", "rllib", "s3", "postgresql"):
        assert findings[name]["works"], findings[name]


def test_what_is_optional_may_be_absent_and_is_said_to_be(monkeypatch):
    def absent():
        raise ModuleNotFoundError("No module named 'osmesa'")

    monkeypatch.setattr("plasticbench.platform.doctor._films", absent)
    result = runner.invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    assert "films       absent  ModuleNotFoundError: No module named 'osmesa'" in result.output
    assert "mend: apt-get install libosmesa6" in result.output


def test_a_family_that_cannot_step_is_broken_with_what_mends_it(monkeypatch):
    def broken(kind, task, **settings):
        raise RuntimeError(f"{task} does not step")

    monkeypatch.setattr("plasticbench.platform.doctor._steps", broken)
    result = runner.invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "mujoco      broken  RuntimeError: Hopper-v4 does not step" in result.output
    assert "mend: make setup" in result.output


def test_help_speaks_to_people_and_names_each_default_of_the_tracking_store():
    def help_of(*command):
        return " ".join(re.sub(r"[│╭╰─╮╯]", " ", runner.invoke(app, [*command, "--help"]).output).split())

    assert "parses arguments" not in help_of()
    assert "keeping deep RL agents plastic" in help_of()
    assert "default: mlflow.db in the run directory" in help_of("run")
    assert "default: the one that the run began with" in help_of("resume")
    assert "default: none" in help_of("report")
