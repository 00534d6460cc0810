"""Against real SQLite stores and a real MLflow server."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from plasticbench.platform.tracking import mirror as mirror_module
from plasticbench.platform.tracking.mirror import Mirror, TrackingUnavailable, UnreadableRecords, check
from plasticbench.platform.tracking.pages import ui_command
from plasticbench.records import Record, RecordWriter, read_records

START = 1_700_000_000.0
HISTORY_KEY = tuple[str, int, float, int]


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's schema, which takes over a second to make."""
    folder = tmp_path_factory.mktemp("empty")
    client(folder).search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def run_dir(tmp_path: Path, empty_database: Path) -> Path:
    """A directory whose embedded store is ready; the other tests let the mirror make theirs."""
    shutil.copy(empty_database, tmp_path)
    return tmp_path


def make_run(run_dir: Path, seeds: int = 2, methods: tuple[str, ...] = ("fire",), **settings: Any) -> list[str]:
    """A run directory with a plan and no records; returns the trial ids."""
    settings = settings or {"agent": {"kind": "dqn", "batch_size": 32}, "reset": {"kind": "fire", "at": [0.5]}}
    trials = [
        {"id": f"{method}-s{seed}-ab12", "task": "Acrobot-v1", "method": method, "seed": seed}
        | {"settings": settings | {"seed": seed}}
        for method in methods
        for seed in range(seeds)
    ]
    run_dir.mkdir(exist_ok=True)
    plan = {"name": "bench", "description": "A question.", "version": "1.2.3", "trials": trials}
    (run_dir / "plan.json").write_text(json.dumps(plan))
    return [str(trial["id"]) for trial in trials]


def write(run_dir: Path, trial: str, values: list[float], first_step: int = 0, name: str = "eval/return") -> int:
    """Appends one record per value and returns the file's length; times are a second apart."""
    path = run_dir / "records" / f"{trial}.jsonl"
    writer = RecordWriter(path, path.stat().st_size if path.exists() else 0)
    steps = range(first_step, first_step + len(values))
    writer.write(Record(trial, step, name, value, START + step) for step, value in zip(steps, values, strict=True))
    length = writer.sync()
    writer.close()
    return length


def client(run_dir: Path, uri: str | None = None) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri or f"sqlite:///{run_dir}/mlflow.db")


def runs(store: Any, tag: str = "plasticbench.trial") -> dict[str, Any]:
    """Runs of the benchmark by the value of a tag; where several runs share it, a trial's."""
    experiment = store.get_experiment_by_name("bench")
    trials_last = sorted(
        store.search_runs([experiment.experiment_id]), key=lambda run: run.data.tags.get("level") == "trial"
    )
    return {run.data.tags[tag]: run for run in trials_last if tag in run.data.tags}


def history(store: Any, run: Any, name: str = "eval/return") -> list[HISTORY_KEY]:
    rows = store.get_metric_history(run.info.run_id, name)
    return sorted(((row.key, row.step, row.value, row.timestamp) for row in rows), key=lambda row: row[1])


def recorded(run_dir: Path, trial: str) -> list[HISTORY_KEY]:
    records = read_records(run_dir / "records" / f"{trial}.jsonl")
    return [(one.name, one.step, one.value, int(one.time * 1000)) for one in records]


def test_every_record_is_in_the_store_once_after_pumping_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_module, "_WINDOW_BYTES", 150_000)  # several windows, the larger ones of two batches
    first, second = make_run(tmp_path)
    committed = {first: write(tmp_path, first, [0.1 * n for n in range(3500)]), second: write(tmp_path, second, [7.0])}
    mirror = Mirror(tmp_path, None)

    assert (mirror.pump(committed), mirror.pump(committed)) == (3501, 0)
    assert Mirror(tmp_path, None).pump(committed) == 0, "a restarted mirror goes on where the first one stopped"

    found = runs(client(tmp_path))
    for trial in (first, second):
        assert history(client(tmp_path), found[trial]) == recorded(tmp_path, trial)


@pytest.mark.parametrize("damage", ["lost", "torn", "behind"])
def test_sending_again_changes_no_history(run_dir: Path, damage: str) -> None:
    (trial,) = make_run(run_dir, seeds=1)
    Mirror(run_dir, None).pump({trial: write(run_dir, trial, [1.5, math.nan, math.inf, 0.1, 0.1])})
    (offsets,) = (run_dir / "mirror").iterdir()
    one_record = len(Record(trial, 0, "eval/return", 1.5, START).to_json()) + 1
    older = json.dumps(dict.fromkeys(json.loads(offsets.read_text()), one_record))
    if damage == "lost":
        offsets.unlink()
    else:
        offsets.write_text("" if damage == "torn" else older)

    sent = Mirror(run_dir, None).pump({trial: write(run_dir, trial, [2.0], first_step=5)})

    assert sent == (5 if damage == "behind" else 6)
    steps = [step for _, step, _, _ in history(client(run_dir), runs(client(run_dir))[trial])]
    assert steps == [0, 1, 2, 3, 4, 5]


def test_what_is_not_committed_is_never_sent(run_dir: Path) -> None:
    first, second = make_run(run_dir)
    committed = write(run_dir, first, [1.0, 2.0])
    write(run_dir, first, [3.0], first_step=2)
    write(run_dir, second, [1.0])
    mirror = Mirror(run_dir, None)

    assert mirror.pump({first: committed, second: 0}) == 2
    assert [row[2] for row in history(client(run_dir), runs(client(run_dir))[first])] == [1.0, 2.0]
    assert mirror.pump({first: committed + 20}) == 0, "half a line waits for its end"


def test_nan_stays_nan_and_infinities_become_the_largest_numbers(run_dir: Path) -> None:
    (trial,) = make_run(run_dir, seeds=1)
    Mirror(run_dir, None).pump({trial: write(run_dir, trial, [math.nan, math.inf, -math.inf])})
    rows = history(client(run_dir), runs(client(run_dir))[trial])
    nan, high, low = (value for _, _, value, _ in rows)
    assert math.isnan(nan)
    assert (high, low) == (1.7976931348623157e308, -1.7976931348623157e308)


def test_trials_hang_below_their_method_and_carry_settings_and_tags(run_dir: Path) -> None:
    many = {f"knob_{n}": n for n in range(150)}  # more than the 100 that one request may hold
    trials = make_run(run_dir, methods=("fire", "none"), agent={"kind": "dqn"}, note="x" * 7000, **many)
    Mirror(run_dir, None).pump({trial: write(run_dir, trial, [1.0]) for trial in trials})

    found, parents = runs(client(run_dir)), runs(client(run_dir), "plasticbench.method")
    assert set(parents) == {"Acrobot-v1/fire", "Acrobot-v1/none"}
    child, parent = found["fire-s1-ab12"], parents["Acrobot-v1/fire"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (child.info.run_name, parent.info.run_name) == ("fire s1", "Acrobot-v1 fire")
    wanted = {"task": "Acrobot-v1", "agent": "dqn", "method": "fire", "seed": "1", "code_version": "1.2.3"}
    assert wanted.items() <= child.data.tags.items()
    assert list(child.data.tags.values()).count("fire-s1-ab12") == 1
    assert len(child.data.params) == 153
    assert child.data.params["knob_149"] == "149"
    assert len(child.data.params["note"]) == 6000
    assert parent.data.params["seeds"] == "[0, 1]"
    assert "seed" not in parent.data.params, "settings in which the trials differ are not the method's"


def test_a_trial_whose_values_diverged_is_tagged_once_even_by_a_mirror_that_takes_over(run_dir: Path) -> None:
    diverging, sound = make_run(run_dir)
    name = "q/bound_ratio"
    Mirror(run_dir, None).pump({diverging: write(run_dir, diverging, [0.5, *[7.0] * 6], name=name)})
    assert "diverged" not in runs(client(run_dir))[diverging].data.tags
    second = Mirror(run_dir, None)
    lengths = {diverging: write(run_dir, diverging, [7.0] * 3, first_step=7, name=name)}
    second.pump(lengths | {sound: write(run_dir, sound, [1.9] * 20, name=name)})
    assert "diverged" not in runs(client(run_dir))[diverging].data.tags
    second.pump({diverging: write(run_dir, diverging, [7.0], first_step=10, name=name)})
    found = runs(client(run_dir))
    assert found[diverging].data.tags["diverged"] == "from step 1"
    assert "diverged" not in found[sound].data.tags


def test_two_directories_of_one_benchmark_do_not_mix(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/shared.db"
    for name, value in (("a", 1.0), ("b", 2.0)):
        (trial,) = make_run(tmp_path / name, seeds=1)
        Mirror(tmp_path / name, uri).pump({trial: write(tmp_path / name, trial, [value])})

    found = runs(client(tmp_path, uri), "plasticbench.run")
    for name, value in (("a", 1.0), ("b", 2.0)):
        run = found[(tmp_path / name / "run_id").read_text()]
        assert [row[2] for row in history(client(tmp_path, uri), run)] == [value]


def test_a_run_that_was_deleted_in_mlflow_is_filled_again(run_dir: Path) -> None:
    (trial,) = make_run(run_dir, seeds=1)
    committed = write(run_dir, trial, [1.0, 2.0])
    mirror = Mirror(run_dir, None)
    mirror.pump({trial: committed})
    client(run_dir).delete_run(runs(client(run_dir))[trial].info.run_id)
    committed = write(run_dir, trial, [3.0], first_step=2)

    with pytest.raises(TrackingUnavailable, match=r"mlflow\.db"):
        mirror.pump({trial: committed})
    assert mirror.pump({trial: committed}) == 3
    assert history(client(run_dir), runs(client(run_dir))[trial]) == recorded(run_dir, trial)


def test_a_method_gets_the_means_of_the_steps_that_all_its_seeds_reached(run_dir: Path) -> None:
    first, second = make_run(run_dir)
    committed = {first: write(run_dir, first, [1.0, 2.0, 9.0]), second: write(run_dir, second, [3.0, -6.0])}
    mirror = Mirror(run_dir, None)
    mirror.pump(committed)
    mirror.finish_all({first: "FINISHED", second: "FAILED"})

    parent = runs(client(run_dir), "plasticbench.method")["Acrobot-v1/fire"]
    rows = [("eval/return", 0, 2.0, 1_700_000_000_000), ("eval/return", 1, -2.0, 1_700_000_001_000)]
    assert history(client(run_dir), parent) == rows
    assert [run.info.status for _, run in sorted(runs(client(run_dir)).items())] == ["FINISHED", "FAILED"]
    assert parent.info.status == "FAILED"

    committed[second] = write(run_dir, second, [1.0], first_step=2)
    resumed = Mirror(run_dir, None)
    resumed.pump(committed)
    assert runs(client(run_dir))[second].info.status == "RUNNING"
    resumed.finish_all({first: "FINISHED", second: "FINISHED"})
    parent = runs(client(run_dir), "plasticbench.method")["Acrobot-v1/fire"]
    assert history(client(run_dir), parent) == [*rows, ("eval/return", 2, 5.0, 1_700_000_002_000)]
    assert parent.info.status == "FINISHED"


def test_a_finished_trial_and_the_report_are_in_the_store(run_dir: Path) -> None:
    (trial,) = make_run(run_dir, seeds=1)
    (run_dir / "report").mkdir()
    (run_dir / "report" / "index.html").write_text("<h1>Who keeps learning</h1>")
    mirror = Mirror(run_dir, None)
    mirror.finish_all({trial: "KILLED"})
    mirror.log_report(run_dir / "report")

    assert runs(client(run_dir))[trial].info.status == "KILLED"
    report = runs(client(run_dir), "plasticbench.report")["report"]
    assert [file.path for file in client(run_dir).list_artifacts(report.info.run_id, "report")] == ["report/index.html"]
    assert [path.name for path in (run_dir / "mlartifacts").rglob("*.html")] == ["index.html"]


def test_tracking_is_silent_and_leaves_the_environment_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (trial,) = make_run(tmp_path, seeds=1)
    committed = {trial: write(tmp_path, trial, [1.0])}
    import mlflow  # noqa: F401  # sets up its own loggers

    environment, level = dict(os.environ), logging.getLogger("mlflow").level

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Mirror(tmp_path, None).pump(committed)

    assert capfd.readouterr() == ("", "")
    assert (dict(os.environ), logging.getLogger("mlflow").level) == (environment, level)


def test_a_trial_is_ended_with_its_weights_as_soon_as_its_last_step_is_sent(run_dir: Path) -> None:
    done, going = make_run(run_dir)
    plan = json.loads((run_dir / "plan.json").read_text())
    (run_dir / "plan.json").write_text(json.dumps(plan | {"budget_steps": 2}))
    (run_dir / "weights").mkdir()
    (run_dir / "weights" / f"{done}.safetensors").write_bytes(b"weights")
    committed = {done: write(run_dir, done, [1.0, 2.0, 3.0]), going: write(run_dir, going, [1.0, 2.0])}
    Mirror(run_dir, None).pump(committed)

    found = runs(client(run_dir))
    assert {trial: run.info.status for trial, run in found.items()} == {done: "FINISHED", going: "RUNNING"}
    (artifact,) = client(run_dir).list_artifacts(found[done].info.run_id, "weights")
    assert artifact.path == f"weights/{done}.safetensors"
    assert client(run_dir).list_artifacts(found[going].info.run_id) == []


def test_a_run_that_was_created_twice_is_kept_once(run_dir: Path) -> None:
    (trial,) = make_run(run_dir, seeds=1)
    committed = {trial: write(run_dir, trial, [1.0, 2.0])}
    Mirror(run_dir, None).pump(committed)
    first = runs(client(run_dir))[trial]
    client(run_dir).create_run(first.info.experiment_id, tags=first.data.tags)  # its answer was lost, and it came late

    Mirror(run_dir, None).pump(committed)
    found = client(run_dir).search_runs([first.info.experiment_id], f"tags.`plasticbench.trial` = '{trial}'")
    assert [run.info.run_id for run in found] == [first.info.run_id]


def test_a_run_says_what_sets_it_apart_from_the_others(run_dir: Path) -> None:
    trials = make_run(run_dir, methods=("fire", "none"))
    plan = json.loads((run_dir / "plan.json").read_text())
    for trial in plan["trials"]:
        trial["settings"]["method"] = {"kind": trial["method"]}
    (run_dir / "plan.json").write_text(json.dumps(plan))
    Mirror(run_dir, None).pump({trial: write(run_dir, trial, [1.0]) for trial in trials})
    note = runs(client(run_dir))["fire-s1-ab12"].data.tags["mlflow.note.content"]
    assert note == "What sets it apart in this benchmark:\n* `method.kind`: fire"


def test_damaged_records_of_one_trial_hold_up_no_other(run_dir: Path) -> None:
    damaged, sound = make_run(run_dir)
    committed = {damaged: write(run_dir, damaged, [1.0]), sound: write(run_dir, sound, [2.0])}
    (run_dir / "records" / f"{damaged}.jsonl").write_bytes(b"x" * (committed[damaged] - 1) + b"\n")
    with pytest.raises(UnreadableRecords, match=f"{damaged}.jsonl"):
        Mirror(run_dir, None).pump(committed)
    assert [row[2] for row in history(client(run_dir), runs(client(run_dir))[sound])] == [2.0]


@contextmanager
def serving(command: list[str], port: int) -> Iterator[None]:
    """Runs a server until the block ends; it must answer within a minute."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "the server ended"
                time.sleep(0.25)
        else:
            raise AssertionError("the server did not answer")
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@pytest.mark.slow
def test_a_server_that_goes_down_gets_everything_once_when_it_is_back(tmp_path: Path) -> None:
    store_dir, run_dir = tmp_path / "store", tmp_path / "run"
    (hosted,) = make_run(store_dir, seeds=1)
    Mirror(store_dir, None).pump({hosted: write(store_dir, hosted, [1.0])})  # the store that the pages are served for
    many: dict[str, Any] = {f"knob_{n}": n for n in range(150)}
    (trial,) = make_run(run_dir, seeds=1, agent={"kind": "dqn"}, label="", **many)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    mirror = Mirror(run_dir, uri)
    committed = {trial: write(run_dir, trial, [0.1, 1 / 3, math.inf, 1e-300, 5e-324] + [float(n) for n in range(2500)])}

    with pytest.raises(TrackingUnavailable, match=str(port)):
        mirror.pump(committed)
    with serving(ui_command(store_dir, port), port):
        check(uri)
        assert mirror.pump(committed) == 2505
    committed = {trial: write(run_dir, trial, [2.0, math.nan], first_step=2505)}
    with pytest.raises(TrackingUnavailable, match=str(port)):
        mirror.pump(committed)
    with serving(ui_command(store_dir, port), port):
        assert mirror.pump(committed) == 2
        shutil.rmtree(run_dir / "mirror")
        assert Mirror(run_dir, uri).pump(committed) == 2507
        mirror.finish_all({trial: "FINISHED"})
        (run_dir / "report").mkdir()
        (run_dir / "report" / "index.html").write_text("<h1>Who keeps learning</h1>")
        mirror.log_report(run_dir / "report")

    run = runs(client(store_dir), "plasticbench.run")[(run_dir / "run_id").read_text()]
    rows, wanted = history(client(store_dir), run), recorded(run_dir, trial)
    assert [step for _, step, _, _ in rows] == list(range(2507))
    assert math.isnan(rows[-1][2])
    assert rows[2][2] > 1e308
    assert rows[:2] + rows[3:-1] == wanted[:2] + wanted[3:-1]
    assert run.info.status == "FINISHED"
    assert len(run.data.params) == 153


def test_values_of_single_layers_stay_in_the_record_files_where_the_plan_says_totals(run_dir: Path) -> None:
    (trial,) = make_run(run_dir, seeds=1)
    plan = json.loads((run_dir / "plan.json").read_text())
    (run_dir / "plan.json").write_text(json.dumps(plan | {"tracked_probes": "totals"}))
    for name in ("eval/return", "plasticity/online/dfi", "plasticity/online/dfi/fc1", "reset/after/online/dfi/fc1"):
        end = write(run_dir, trial, [1.0], name=name)
    assert Mirror(run_dir, None).pump({trial: end}) == 2
    assert set(runs(client(run_dir))[trial].data.metrics) == {"eval/return", "plasticity/online/dfi"}
