"""A run directory may have any name that the file system takes: nothing of it lands elsewhere."""

import sqlite3

import pytest
from run_directory import write_run

from plasticbench.analysis.report import write_report
from plasticbench.platform.tracking.mirror import Mirror
from plasticbench.records import record_length

NAMES = [
    "s p;a'c\"e [br]{ack} &b=c gr\u00f6\u00dfe-\u4e2d a@b:c num#ber back\\slash",
    "q?mark&password=x pct%20x 100%",
    "-dash",
]


def test_the_current_folder_may_have_any_name_and_gets_nothing(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", {("task", "none"): [0.5], ("task", "fire"): [0.6]})
    here = tmp_path / 'it\'s "here" :x'
    here.mkdir()
    monkeypatch.chdir(here)
    assert Mirror(run, None).pump({file.stem: record_length(file) for file in (run / "records").iterdir()}) > 0
    assert list(here.iterdir()) == []
    with sqlite3.connect(run / "mlflow.db") as database:
        places = dict(database.execute("select name, artifact_location from experiments"))
    assert places.pop("Default") == "mlflow-artifacts:/0"
    assert [place.startswith(run.as_uri()) for place in places.values()] == [True]


@pytest.mark.parametrize("name", NAMES)
def test_database_and_artifacts_lie_in_the_run_directory(tmp_path, name):
    run = write_run(tmp_path / name / "run", {("task", "none"): [0.5], ("task", "fire"): [0.6]})
    report = write_report(run)
    assert report == run / "report" / "index.html"
    mirror = Mirror(run, None)
    sent = mirror.pump({file.stem: record_length(file) for file in (run / "records").iterdir()})
    mirror.log_report(report.parent)
    assert sent > 0
    with sqlite3.connect(run / "mlflow.db") as database:
        assert database.execute("select count(*) from metrics where key not like 'final/%'").fetchone()[0] == sent
    (page,) = (run / "mlartifacts").rglob("index.html")
    assert page.read_bytes() == report.read_bytes()
    assert [folder.name for folder in tmp_path.iterdir()] == [name]
    assert [folder.name for folder in (tmp_path / name).iterdir()] == ["run"]
    assert Mirror(run, None).pump({file.stem: record_length(file) for file in (run / "records").iterdir()}) == 0
