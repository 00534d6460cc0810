"""Reading a run: the tidy table and its files hold every record, exactly, from disks and object stores."""

import csv
import json
import math
import subprocess
import sys

import pandas as pd
import pytest
from run_directory import trial, write_run
from small_runs import run_all, small
from typer.testing import CliRunner

import plasticbench
from plasticbench import storage
from plasticbench.analysis import records_table
from plasticbench.platform.cli import app
from plasticbench.records import Record, RecordWriter, read_records

COLUMNS = ["trial", "task", "method", "seed", "step", "name", "value"]
runner = CliRunner(env={"COLUMNS": "200"})


def rows(run, trials):
    """What the table must hold, by the one-line-at-a-time reader."""
    found = []
    for one in trials:
        for record in read_records(run / "records" / f"{one['id']}.jsonl"):
            found.append(
                (one["id"], one["task"], one["method"], one["seed"], record.step, record.name, repr(record.value))
            )
    return found


def listed(table):
    return [(*row[:-1], repr(float(row[-1]))) for row in table.itertuples(index=False, name=None)]


@pytest.fixture
def run(tmp_path):
    """Two methods, three seeds; one trial with values of every kind and a last line that a crash cut."""
    path = write_run(
        tmp_path / "run", {("CartPole-v1", "none"): [0.1, 0.2, 0.3], ("CartPole-v1", "fire"): [0.4, 0.5, 0.6]}
    )
    odd = trial("CartPole-v1", "fire", 2)["id"]
    values = [math.inf, -math.inf, math.nan, 0.1 + 0.2, 5e-324, 1.7976931348623157e308, -0.0]
    writer = RecordWriter(path / "records" / f"{odd}.jsonl", 0)
    writer.write(Record(odd, 10, f'odd/{i}, "quoted"', value, 1.7e9) for i, value in enumerate(values))
    writer.sync()
    with open(path / "records" / f"{odd}.jsonl", "a") as file:
        file.write('{"trial":"cut')
    return path


@pytest.fixture
def trials(run):
    return json.loads((run / "plan.json").read_text())["trials"]


def test_the_table_holds_every_record_bit_for_bit_and_the_plan_its_trials(run, trials):
    table, plan = plasticbench.load(run)
    assert list(table.columns) == COLUMNS
    assert listed(table) == rows(run, trials)
    assert [one.id for one in plan.trials] == [one["id"] for one in trials]
    assert {str(table[name].dtype) for name in ("trial", "task", "method", "name")} == {"category"}
    assert list(table["method"].cat.categories) == ["none", "fire"]


def test_pieces_of_a_file_make_the_same_table(run, trials, monkeypatch):
    monkeypatch.setattr(records_table, "_WINDOW_BYTES", 700)
    assert listed(plasticbench.load(str(run)).table) == rows(run, trials)


def test_a_run_that_trained_here_and_in_an_object_store_reads_the_same(tmp_path, bucket_folder):
    plan = run_all(tmp_path / "run", small())
    for one in plan.trials:
        writer = RecordWriter(bucket_folder / "records" / f"{one.id}.jsonl", 0)
        for step, record in enumerate(read_records(tmp_path / "run" / "records" / f"{one.id}.jsonl")):
            writer.write([record])
            if step % 40 == 0:
                writer.sync()
        writer.sync()
    storage.write_atomically(bucket_folder / "plan.json", (tmp_path / "run" / "plan.json").read_bytes())
    here, there = plasticbench.load(tmp_path / "run").table, plasticbench.load(str(bucket_folder)).table
    pd.testing.assert_frame_equal(here, there)
    assert len(here) > 100


def test_a_run_without_records_is_an_empty_table(tmp_path):
    path = write_run(tmp_path / "run", {("CartPole-v1", "none"): [0.1]}, last_step=lambda *_: -1)
    table, plan = plasticbench.load(path)
    assert (len(table), list(table.columns), len(plan.trials)) == (0, COLUMNS, 1)


def read_csv(path):
    with open(path, newline="") as file:
        table = pd.DataFrame(csv.DictReader(file))
    return table.astype({"seed": int, "step": int, "value": float})  # Python's float is exact in every version


@pytest.mark.parametrize(("to", "read"), [("csv", read_csv), ("parquet", pd.read_parquet)])
def test_an_exported_file_holds_the_table(run, tmp_path, monkeypatch, to, read):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(records_table, "_GROUP_ROWS", 100)
    result = runner.invoke(app, ["export", str(run), "--to", to])
    assert result.exit_code == 0, result.output
    assert f"records.{to}" in result.output
    assert listed(read(tmp_path / f"records.{to}")) == listed(plasticbench.load(run).table)
    assert [file.name for file in tmp_path.iterdir() if file.suffix == ".new"] == []


def test_bad_input_is_one_message_and_leaves_nothing_behind(run, trials, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.csv").write_text("mine")
    for arguments, message in (
        ((tmp_path / "nowhere", "--to", "csv"), "not a run directory"),
        ((run, "--to", "xlsx"), "--to: must be one of csv, parquet, got 'xlsx'"),
        ((run, "--to", "csv", "--out", "taken.csv"), "--out: taken.csv exists"),
        ((run, "--to", "csv", "--out", "nowhere/records.csv"), "--out: there is no folder nowhere"),
    ):
        result = runner.invoke(app, ["export", *map(str, arguments)])
        assert result.exit_code == 2, result.output
        assert message in " ".join(result.output.split())
    assert (tmp_path / "taken.csv").read_text() == "mine"
    file = run / "records" / f"{trials[0]['id']}.jsonl"
    file.write_text(file.read_text() + '{"trial":"x","step":1}\n')
    lines = file.read_text().count("\n")
    with pytest.raises(ValueError, match=rf"{trials[0]['id']}.jsonl: line {lines} after byte 0 is not a record"):
        plasticbench.load(run)
    assert runner.invoke(app, ["export", str(run), "--to", "parquet"]).exit_code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "taken.csv"]


def test_importing_plasticbench_imports_nothing_that_takes_long_and_help_knows_its_names():
    code = (
        "import sys, plasticbench; print({'torch', 'ray', 'pandas', 'numpy', 'pyarrow', 'mlflow'} & set(sys.modules));"
        "print(set(plasticbench.__all__) <= set(dir(plasticbench)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["set()", "True"]
