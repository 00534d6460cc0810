"""What a trial was trained on is kept each time that it is started, and a mixture stands in the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_runs import die_behind_the_last_commit, facts, prepare, run_all, small

from plasticbench.analysis.machines import mixture
from plasticbench.analysis.report import write_report
from plasticbench.analysis.runs import load_run
from plasticbench.platform.training.segment import SegmentRun


def test_every_start_of_which_work_was_kept_says_on_what(tmp_path: Path) -> None:
    plan = prepare(tmp_path, small())
    first = plan.segments[0]
    for _ in range(2):  # the second one begins at the commit that the first one made
        die_behind_the_last_commit(tmp_path, first.id)
    notes = [json.loads(path.read_text()) for path in sorted((tmp_path / "machines" / first.id).iterdir())]
    assert [note["step"] for note in notes] == [0, 82]
    assert set(notes[0]["trials"]) == {trial.id for trial in plan.trials}
    assert (notes[0]["device"], notes[0]["num_threads"]) == ("cpu", torch.get_num_threads())
    assert notes[0]["versions"]["torch"] == torch.__version__
    assert notes[0]["cpu"]
    assert notes[0]["instructions"]


def test_a_mixture_stands_in_the_report_with_how_many_trials_each_had(tmp_path: Path) -> None:
    plan = run_all(tmp_path, small())
    assert mixture(load_run(tmp_path)) == ""
    assert "Mixed." not in write_report(tmp_path).read_text()
    branches = plan.segments[1].id
    (path,) = (tmp_path / "machines" / branches).iterdir()
    note = json.loads(path.read_text())
    trial = note["trials"][0]
    path.write_text(json.dumps(note | {"cpu": "<Other>", "trials": [trial]}))
    assert mixture(load_run(tmp_path)) == f"cpu: <Other> (1 trial), {note['cpu']} (4 trials)"
    assert "cpu: &lt;Other&gt; (1 trial)" in write_report(tmp_path).read_text()


def test_a_run_of_a_version_that_kept_none_is_reported(tmp_path: Path) -> None:
    run_all(tmp_path, small())
    for path in (tmp_path / "machines").rglob("*.json"):
        path.unlink()
    assert mixture(load_run(tmp_path)) == ""


def test_a_replay_that_is_saved_in_pieces_goes_on_as_one_that_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_all(tmp_path / "whole", small())
    monkeypatch.setattr("plasticbench.platform.training.segment.PIECE_BYTES", 3_000)
    plan = prepare(tmp_path / "pieces", small())
    die_behind_the_last_commit(tmp_path / "pieces", plan.segments[0].id)
    for segment in plan.segments:
        assert SegmentRun(tmp_path / "pieces", segment.id).run()
    assert len(list((tmp_path / "pieces" / "checkpoints").rglob("replay-*"))) > len(plan.segments) + 1
    assert facts(tmp_path / "pieces", plan) == facts(tmp_path / "whole", whole)
