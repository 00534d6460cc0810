"""A benchmark file that tunes: what it is read as, what is refused, and that both settings are in one table."""

from functools import partial

import pytest
import yaml
from small_streams import small_stream
from typer.testing import CliRunner

from plasticbench.platform.cli import app
from plasticbench.platform.definition.parsing import BenchmarkError
from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.suites import publishing
from plasticbench.platform.suites.commands import _told
from plasticbench.platform.suites.entries import read_entries
from plasticbench.platform.suites.running import SuiteRun
from plasticbench.platform.suites.tuned_file import read_tuned_file
from plasticbench.platform.training.ends import can_be_gone_on_from
from plasticbench.platform.training.segment import SegmentRun

METHODS = {
    "none": {"kind": "none", "tune": {"learner.learning_rate": [1.0e-3, 1.0e-2]}},
    "l2_init": {"kind": "l2_init", "tune": {"strength": [1.0e-2, 1.0e-3]}},
    "oracle": {"kind": "oracle"},
}


def written(folder, **changes):
    data = small_stream(methods=METHODS, seeds=5, tuning_seeds=[7, 8]) | changes
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in data.items() if value is not None}))
    return path


def train(benchmark, path):
    directory, plan = RunDirectory(path), make_plan(benchmark)
    directory.create(benchmark, plan, partial(can_be_gone_on_from, directory))
    for segment in directory.plan().segments:
        assert SegmentRun(path, segment.id).run()


def test_it_is_a_suite_of_its_own_and_both_settings_are_in_its_table_with_what_tuning_cost(tmp_path):
    suite = read_tuned_file(written(tmp_path))
    assert (suite.label, suite.num_candidates, suite.seeds, suite.tuning_seeds) == (
        "small_stream",
        2,
        (0, 1, 2, 3, 4),
        (7, 8),
    )
    assert [method.name for method in suite.methods if method.is_reference] == ["oracle"]
    SuiteRun(suite, tmp_path / "out", train).run(suite.methods)
    entries = read_entries(tmp_path / "out" / "records")
    assert {method for _, method in entries} == set(METHODS)
    table = publishing.tables(suite, entries)["leaderboard.md"]
    assert "with default settings" in table
    assert "| trials that tuning took, each of the whole budget | 8 | none |" in table
    assert "oracle (a reference, never ranked)" in table


def test_each_environment_is_a_task(tmp_path):
    one = small_stream()["environments"][0]
    suite = read_tuned_file(written(tmp_path, environments=[one | {"name": "a"}, one | {"name": "b"}]))
    assert [task.name for task in suite.tasks] == ["a", "b"]
    with pytest.raises(BenchmarkError, match="names must differ, got 'images' twice: give each a 'name'"):
        read_tuned_file(written(tmp_path, environments=[one, one]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tuning_seeds": [4, 9]}, "tuning_seeds: must not be reported: 4 stand in 'seeds' as well"),
        ({"methods": {"none": {"kind": "none"}}}, "tuning_seeds: has no effect: no method has 'tune'"),
        ({"methods": METHODS | {"fire": {"kind": "fire"}}}, "methods.fire.tune: must have as many candidates"),
        ({"seeds": None}, "seeds: is missing and has no default"),
        ({"environments": []}, "environments: must be a list with at least one environment, got []"),
    ],
)
def test_an_unfair_or_incomplete_file_is_refused(changes, message, tmp_path):
    with pytest.raises(BenchmarkError) as caught:
        read_tuned_file(written(tmp_path, **changes))
    assert message in str(caught.value)


def test_a_file_without_tuning_seeds_is_none_of_these_and_may_not_tune(tmp_path):
    path = written(tmp_path, tuning_seeds=None)
    assert read_tuned_file(path) is None
    refused = CliRunner().invoke(app, ["plan", str(path)])
    assert "methods.none.tune: there is no such setting. It goes with 'tuning_seeds'" in refused.stderr


def test_what_is_changed_on_the_command_line_is_checked_as_well(tmp_path):
    refused = CliRunner().invoke(app, ["run", str(written(tmp_path)), "--set", "seeds=[7]"])
    assert refused.exit_code == 2
    assert "tuning_seeds: must not be reported: 7 stand in 'seeds' as well" in refused.stderr


def test_it_does_not_go_into_the_directory_of_a_run_that_tunes_nothing(tmp_path):
    plain = from_dict(small_stream(seeds=1))
    RunDirectory(tmp_path / "run").create(plain, make_plan(plain))
    refused = CliRunner().invoke(app, ["run", str(written(tmp_path)), "--out", str(tmp_path / "run")])
    assert refused.exit_code == 2
    assert "holds a run that tunes nothing. Choose another directory" in refused.stderr


def test_a_table_is_of_the_tasks_that_the_file_has_now(tmp_path):
    one = small_stream()["environments"][0]
    both = read_tuned_file(written(tmp_path, environments=[one | {"name": "a"}, one | {"name": "b"}]))
    SuiteRun(both, tmp_path / "out", train).run([both.method("none")])
    now = SuiteRun(read_tuned_file(written(tmp_path, environments=[one | {"name": "a"}])), tmp_path / "out", train)
    assert _told(now, {}, now.run([both.method("none")]), quiet=True)
    assert "## b" not in (tmp_path / "out" / "leaderboard.md").read_text()
