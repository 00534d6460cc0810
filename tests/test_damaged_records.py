"""Record files that are not what was committed are found, named and trained again."""

import itertools
import json

import pytest
from small_runs import facts, prepare, run_all, small
from typer.testing import CliRunner

import plasticbench
from plasticbench.platform.cli import app
from plasticbench.platform.definition.parsing import BenchmarkError
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.segment import SegmentRun
from plasticbench.platform.training.soundness import damages, go_back, require_sound_records

runner = CliRunner(env={"COLUMNS": "300"})


def _halve(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _blank_the_end(file):
    file.write_bytes(file.read_bytes()[:-1000] + bytes(1000))


def _remove(file):
    file.unlink()


def _change_a_digit(file):
    data = file.read_bytes()
    at = data.rindex(b'"value":') + 8
    file.write_bytes(data[:at] + (b"7" if data[at : at + 1] != b"7" else b"8") + data[at + 1 :])


WITHOUT_CHECKSUM = [_halve, _blank_the_end, _remove]
ALL = [*WITHOUT_CHECKSUM, _change_a_digit]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed")
    return facts(path, run_all(path, small()))


def _finish(path, plan):
    for segment in plan.segments:
        assert SegmentRun(path, segment.id).run()
    return facts(path, plan)


def _forget_checksums(path):
    for manifest in path.glob("checkpoints/*/commit-*.json"):
        data = json.loads(manifest.read_text())
        del data["record_crc32"]
        manifest.write_text(json.dumps(data))


@pytest.mark.parametrize("damage", ALL)
def test_damage_is_named_and_repaired_to_equal_records(tmp_path, undisturbed, damage):
    plan = run_all(tmp_path, small())
    directory, trial = RunDirectory(tmp_path), plan.trials[-1].id
    require_sound_records(directory)
    damage(directory.record_file(trial))
    with pytest.raises(BenchmarkError, match=rf"damaged: trial {trial}: .*{trial}\.jsonl .*committed.*resume --repair"):
        require_sound_records(directory)
    assert {found.trial for found in damages(directory)} == {trial}
    assert go_back(directory)
    require_sound_records(directory)
    assert _finish(tmp_path, plan) == undisturbed
    assert go_back(directory) == []


@pytest.mark.parametrize("damage", WITHOUT_CHECKSUM)
def test_damage_is_found_in_runs_whose_commits_have_no_checksums(tmp_path, undisturbed, damage):
    plan = run_all(tmp_path, small())
    _forget_checksums(tmp_path)
    require_sound_records(RunDirectory(tmp_path))
    damage(RunDirectory(tmp_path).record_file(plan.trials[0].id))
    assert [found.trial for found in damages(RunDirectory(tmp_path))] == [plan.trials[0].id]
    go_back(RunDirectory(tmp_path))
    assert _finish(tmp_path, plan) == undisturbed


def test_a_run_goes_on_from_commits_without_checksums_and_gets_them(tmp_path, undisturbed):
    plan = prepare(tmp_path, small())
    countdown = itertools.count(1)
    assert not SegmentRun(tmp_path, plan.segments[0].id).run(should_stop=lambda: next(countdown) >= 30)
    _forget_checksums(tmp_path)
    assert _finish(tmp_path, plan) == undisturbed
    _change_a_digit(RunDirectory(tmp_path).record_file(plan.trials[0].id))
    assert [found.trial for found in damages(RunDirectory(tmp_path))] == [plan.trials[0].id]


def test_repair_goes_back_no_further_than_to_the_last_sound_commit(tmp_path, undisturbed):
    plan = prepare(tmp_path, small())
    first = plan.segments[0]
    for strides in (30, 30):
        countdown = itertools.count(1)
        assert not SegmentRun(tmp_path, first.id).run(should_stop=lambda c=countdown, n=strides: next(c) >= n)
    _change_a_digit(RunDirectory(tmp_path).record_file(first.members[0].trials[0]))
    assert go_back(RunDirectory(tmp_path)) == [first.id]
    assert SegmentRun(tmp_path, first.id).progress().step == 60  # 30 strides of two environments
    assert _finish(tmp_path, plan) == undisturbed


def test_a_sound_branch_stays_when_another_is_trained_again(tmp_path, undisturbed):
    plan = run_all(tmp_path, small())
    branches = [segment for segment in plan.segments if segment.start is not None]
    file = RunDirectory(tmp_path).record_file(branches[-1].members[0].trials[0])
    _change_a_digit(file)
    assert go_back(RunDirectory(tmp_path)) == [branches[-1].id]
    assert _finish(tmp_path, plan) == undisturbed


def test_commands_refuse_damaged_records_until_they_are_repaired(tmp_path):
    out = tmp_path / "run"
    plan = run_all(out, small())
    before = facts(out, plan)
    trial = plan.trials[0].id
    _halve(RunDirectory(out).record_file(trial))
    csv = ["--to", "csv", "--out", tmp_path / "records.csv"]
    for arguments in (["resume", out], ["report", out], ["leaderboard", out], ["power", out], ["export", out, *csv]):
        result = runner.invoke(app, list(map(str, arguments)))
        assert result.exit_code == 2, result.output
        assert f"{trial}.jsonl holds" in result.output + result.stderr
        assert "resume --repair" in result.output + result.stderr
    assert not csv[-1].exists()
    with pytest.raises(ValueError, match=rf"{trial}.jsonl holds .*resume --repair"):
        plasticbench.load(out)
    shown = runner.invoke(app, ["status", str(out)]).output
    assert f"small: failed; of {len(plan.trials)} trials {len(plan.trials) - 1} done, 1 failed" in shown
    assert f"{trial} is damaged: its record file holds" in shown
    assert "--repair` goes back to before that" in shown
    result = runner.invoke(app, ["resume", str(out), "--repair", "--quiet"])
    assert result.exit_code == 0, result.output
    assert "small: complete" in runner.invoke(app, ["status", str(out)]).output
    assert facts(out, plan) == before


@pytest.mark.parametrize("command", ["report", "leaderboard", "power"])
def test_a_file_in_place_of_a_run_directory_is_named(tmp_path, command):
    file = tmp_path / "own.yaml"
    file.touch()
    result = runner.invoke(app, [command, str(file)])
    assert result.exit_code == 2
    assert f"{file} is not a run directory" in result.output + result.stderr
