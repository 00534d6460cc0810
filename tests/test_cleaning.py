"""``clean`` and ``list runs``: what goes is said and asked for, records and unfinished work stay."""

import json
import subprocess
import sys
from functools import partial

import pytest
from run_directory import write_run
from small_runs import prepare, run_all, small
from test_cli import runner

from plasticbench import storage
from plasticbench.platform import session
from plasticbench.platform.cli import app
from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.literal import LiteralConsole
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.runs.cleaning import clean, plan_cleaning
from plasticbench.platform.tracking.tracker import committed_bytes
from plasticbench.platform.training.ends import can_be_gone_on_from, finished_bytes, remove_ends
from plasticbench.platform.training.journal import is_journal
from plasticbench.platform.training.segment import SegmentRun
from plasticbench.platform.training.soundness import damages
from plasticbench.records import record_length


def invoke(*arguments, answer=None):
    return runner.invoke(app, [str(argument) for argument in arguments], input=answer)


def contents(path):
    return {name: (path / name).read_bytes() for name in storage.tree(path) if not name.startswith("lock")}


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "runs" / "first"
    run_all(path, small())
    (path / "mlflow.db").write_bytes(b"a store")
    return path


def test_it_says_what_each_part_takes_and_removes_nothing_unless_told_to(run):
    before = contents(run)
    for options in (["--dry-run"], ["--dry-run", "--all"], ["--keep", "all"]):
        result = invoke("clean", run, *options)
        assert result.exit_code == 0, result.output
        assert {"checkpoints", "records", "MLflow", "weights"} <= set(result.output.split())
        assert contents(run) == before
    assert invoke("clean", run, answer="n\n").exit_code == 0
    assert contents(run) == before


def test_what_a_driver_that_died_left_is_removed_once_nothing_goes_on_from_it(tmp_path):
    trunk, branch = prepare(tmp_path, small(checkpoint={"every_s": 1000.0, "ends": "remove"})).segments
    directory = RunDirectory(tmp_path)
    SegmentRun(tmp_path, trunk.id).run()
    assert remove_ends(directory, [trunk, branch]) == []
    SegmentRun(tmp_path, branch.id).run()
    session.execute(directory, LiteralConsole(quiet=True), address=None, tracking_uri=None, quiet=True)  # no Ray
    assert not any(name.endswith(".safetensors") for name in storage.tree(directory.checkpoints))
    assert remove_ends(directory, [trunk, branch]) == []
    assert SegmentRun(tmp_path, branch.id).is_complete


def test_a_finished_run_is_gone_on_with_without_pytorch(tmp_path):
    run_all(tmp_path, small(checkpoint={"every_s": 1000.0, "ends": "remove"}))
    invoke("resume", tmp_path, "--quiet")  # which sends it
    code = (
        "import sys; from typer.testing import CliRunner; from plasticbench.platform.cli import app\n"
        f"result = CliRunner().invoke(app, ['resume', {str(tmp_path)!r}])\n"
        "assert result.exit_code == 0, result.output\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_a_later_part_of_a_trunk_keeps_of_its_past_stays_while_a_branch_of_it_is_open(tmp_path):
    late = {"kind": "full_reset", "at": [0.75]}
    methods = {"none": {"kind": "none"}, "fire": {"kind": "fire"}, "late": late}
    environments = [{"kind": "classic", "task": "CartPole-v1", "num_envs": 2}]
    agent = small()["agent"] | {"capacity_transitions": 1000}
    plan = prepare(tmp_path, small(methods=methods, environments=environments, agent=agent))
    for segment in plan.segments[:3]:
        SegmentRun(tmp_path, segment.id).run()
    clean(RunDirectory(tmp_path), plan_cleaning(RunDirectory(tmp_path), "weights"))
    assert SegmentRun(tmp_path, plan.segments[3].id).run()


def test_checkpoints_go_and_the_run_is_as_finished_as_before(run):
    before, plan = contents(run), RunDirectory(run).plan()
    lengths = finished_bytes(RunDirectory(run), plan.segments, 400)
    result = invoke("clean", run, answer="y\n")
    assert "Removed" in result.output
    after = contents(run)
    gone = before.keys() - after.keys()
    assert gone
    assert all(name.startswith("checkpoints/") for name in gone)
    assert all(name.endswith(".safetensors") or is_journal(name.rpartition("/")[2]) for name in gone)
    assert after.items() >= {name: data for name, data in before.items() if name not in gone}.items()
    assert finished_bytes(RunDirectory(run), plan.segments, 400) == lengths
    assert all(SegmentRun(run, segment.id).is_complete for segment in plan.segments)
    assert damages(RunDirectory(run)) == []
    assert "complete; of 4 trials 4 done" in invoke("status", run).output
    assert storage.tree(run)["checkpoints/" + plan.segments[0].id + "/cleaned"].size == 0


def test_a_cleaned_run_grows_from_the_start(run):
    clean(RunDirectory(run), plan_cleaning(RunDirectory(run), "weights"))
    records = {name: data for name, data in contents(run).items() if name.startswith("records/")}
    directory, benchmark = (
        RunDirectory(run),
        from_dict(small(seeds=2, methods={**small()["methods"], "l": {"kind": "full_reset"}})),
    )
    said = directory.create(benchmark, make_plan(benchmark), partial(can_be_gone_on_from, directory))
    assert said == "2 trials more; what is there stays as it is"
    for segment in directory.plan().segments:
        SegmentRun(run, segment.id).run()
    assert contents(run).items() >= records.items()


def test_weights_and_the_store_go_where_records_alone_are_kept(run, caplog):
    invoke("clean", run, "--keep", "records", "--yes")
    left = contents(run).keys()
    assert {name.partition("/")[0] for name in left} == {
        "plan.json",
        "benchmark.yaml",
        "records",
        "checkpoints",
        "machines",
    }
    assert not [name for name in left if name.endswith(".safetensors")]
    plan = RunDirectory(run).plan()
    mirrored = committed_bytes(RunDirectory(run), plan.segments)
    assert mirrored == {trial.id: record_length(run / "records" / f"{trial.id}.jsonl") for trial in plan.trials}
    assert caplog.text == ""  # least of all an advice to remove what was cleaned on purpose, and train it again


def test_all_takes_the_whole_run(run):
    result = invoke("clean", run, "--all", answer="y\n")
    assert "Remove everything, with all records?" in result.output
    assert set(contents(run)) == set()


def test_what_is_unfinished_keeps_what_it_goes_on_from(tmp_path):
    path = tmp_path / "run"
    plan = prepare(path, small(execution={"members_per_population": 1}))
    for segment in plan.segments[:2]:
        SegmentRun(path, segment.id).run()
    begun = [segment.id for segment in plan.segments[:2]]
    over = plan_cleaning(RunDirectory(path), "weights").segments
    assert len(plan.segments) > 2
    assert plan.segments[0].id not in over, "branches that are to come start from it"
    assert set(over) <= set(begun)
    result = invoke("clean", path, "--yes")
    assert "populations are not over: their checkpoints stay." in result.output
    for segment in plan.segments:
        assert SegmentRun(path, segment.id).run()


def test_it_works_in_an_object_store(bucket_folder):
    run_all(bucket_folder, small(methods={"none": {"kind": "none"}}, seeds=1))
    directory = RunDirectory(bucket_folder)
    planned = plan_cleaning(directory, "weights")
    assert planned.freed["checkpoints"] > 1000
    clean(directory, planned)
    assert not [
        name for name in storage.tree(bucket_folder) if name.startswith("checkpoints") and "safetensors" in name
    ]
    assert finished_bytes(directory, directory.plan().segments, 400) is not None


def test_bad_input_is_one_message(run, tmp_path):
    for arguments, message in (
        (("clean", tmp_path), "not a run directory"),
        (("clean", run, "--keep", "nothing"), "--keep: must be one of records, weights, all, got 'nothing'"),
        (("list", "runs", tmp_path / "nowhere"), "there is no such folder"),
        (("list", "envs", tmp_path), "nothing is called"),
    ):
        result = invoke(*arguments)
        assert result.exit_code == 2, result.output
        assert message in " ".join(result.output.split())
    with RunDirectory(run).lock():
        assert "another plasticbench is running" in " ".join(invoke("clean", run, "--yes").output.split())


def test_list_runs_has_one_line_a_run(run, tmp_path):
    write_run(tmp_path / "runs" / "second", {("CartPole-v1", "none"): [0.1]})
    (tmp_path / "runs" / "notes").mkdir()
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "plan.json").write_text("{")
    (tmp_path / "runs" / "broken" / "benchmark.yaml").write_text("")
    result = invoke("list", "runs", tmp_path / "runs")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert len(lines) == 3
    (first,) = [line for line in lines if line.endswith("first")]
    assert "complete" in first
    assert "4 of 4 trials" in first
    assert "MiB" in first
    found = json.loads(invoke("list", "runs", tmp_path / "runs", "--json").output)
    by_folder = {entry["run_dir"].rpartition("/")[2]: entry for entry in found}
    assert by_folder["first"]["num_done"] == 4
    assert "cannot be read" in by_folder["broken"]["state"]
    assert json.loads(invoke("list", "runs", run, "--json").output)[0]["name"] == "small"
