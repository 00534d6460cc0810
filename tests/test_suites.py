"""Suites: what is refused, what tuning chooses, and that tables come from published records alone."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import yaml
from small_streams import small_stream

from plasticbench.platform.definition.parsing import BenchmarkError
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.suites import adding, publishing
from plasticbench.platform.suites.board import make_board
from plasticbench.platform.suites.definition import find_suite, read_methods, read_suite, suite_names
from plasticbench.platform.suites.entries import best, iqm_of, read_entries, to_text
from plasticbench.platform.suites.running import SuiteRun, left_out, methods_to_run, tasks_to_run
from plasticbench.platform.training.ends import can_be_gone_on_from
from plasticbench.platform.training.segment import SegmentRun

RATES = {"agent.learning_rate": [1.0e-3, 1.0e-2]}


def suite_data(**changes):
    data = {
        "name": "tiny",
        "version": 1,
        "description": "A suite for tests.",
        "tasks": {"stream": {"window": 0.5}},
        "tuning_seeds": [7, 8],
        "seeds": 5,
        "methods": {
            "none": {"kind": "none", "tune": RATES},
            "l2_init": {"kind": "l2_init", "tune": {"strength": [1.0e-2, 1.0e-3]}},
        },
    }
    return data | changes


def task_data(**changes):
    data = {name: value for name, value in small_stream(**changes).items() if name not in ("name", "methods", "seeds")}
    return data | {"probes": {"every_updates": 80, "batch_rows": 32, "kinds": ["weight_norm"]}}


def write_suite(folder, data=None, task=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "suite.yaml").write_text(yaml.safe_dump(data or suite_data(), sort_keys=False))
    (folder / "stream.yaml").write_text(yaml.safe_dump(task or task_data(), sort_keys=False))
    return folder


def train(benchmark, path):
    """Trains what a run directory lacks, in this process; says which trials it planned."""
    directory, plan = RunDirectory(path), make_plan(benchmark)
    directory.create(benchmark, plan, partial(can_be_gone_on_from, directory))
    for segment in directory.plan().segments:
        assert SegmentRun(path, segment.id).run()


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A suite and what running it leaves."""
    folder = tmp_path_factory.mktemp("suite")
    suite = read_suite(write_suite(folder / "tiny-v1"))
    SuiteRun(suite, folder / "out", train).run(suite.methods)
    return suite, folder / "out"


@pytest.fixture
def shipped(made, monkeypatch):
    """The suite as if it had come with the package."""
    monkeypatch.setattr("plasticbench.platform.suites.definition.FOLDER", made[1].parent)
    return made


@pytest.mark.parametrize("name", suite_names())
def test_shipped_suites_can_be_run_whole(name):
    suite = find_suite(name)
    assert suite.label == name
    assert bool(suite.tuning_seeds) == (suite.num_candidates > 1)
    suite.check(list(suite.methods))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tuning_seeds": [4, 9]}, "tuning_seeds: must not be reported: 4 stand in 'seeds' as well"),
        ({"tuning_seeds": None}, "tuning_seeds: is missing, and has no default where methods are tuned"),
        ({"methods": {"none": {"kind": "none"}}}, "tuning_seeds: has no effect: no method has 'tune'. Remove it"),
        (
            {"methods": {"none": {"kind": "none", "tune": {"agent.learning_rate": [0.1 * i for i in range(1, 8)]}}}},
            "methods.none.tune: may have 6 candidates, got 7",
        ),
        (
            {"methods": {"none": {"kind": "none", "tune": RATES}, "fire": {"kind": "fire"}}},
            "methods.fire.tune: must have as many candidates as every method of the suite, 2, got 0",
        ),
        (
            {"methods": {"none": {"kind": "none", "tune": 3}}},
            "methods.none.tune: must map settings to lists of values",
        ),
        (
            {"methods": {"l2_init": {"kind": "l2_init", "strength": {"sweep": [1, 2]}}}},
            "methods.l2_init.sweep: makes several methods of one; use 'tune'",
        ),
        ({"tasks": {"stream": {"window": 0.0}}}, "tasks.stream.window: must be a share of the budget"),
        ({"tasks": {"stream": {"low": 2.0}}}, "tasks.stream.low: must be below high, got 2.0 and 1.0"),
        ({"versoin": 1}, "versoin: there is no such setting. Did you mean 'version'?"),
        ({"references": {"none": {"kind": "none"}}}, "references: must have other names than methods"),
        ({"references": {"x": {"kind": "none", "tune": RATES}}}, "references.x.tune: has no effect"),
    ],
)
def test_a_protocol_that_is_unfair_is_refused(changes, message, tmp_path):
    with pytest.raises(BenchmarkError) as caught:
        read_suite(write_suite(tmp_path, suite_data(**changes)))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoint": {"environments": "restart"}}, "checkpoint.environments: must not be 'restart'"),
        ({"methods": {"none": {"kind": "none"}}}, "stream.yaml: methods: stands in suite.yaml, for all tasks alike"),
        ({"environments": []}, "stream.yaml: environments: must be a list of one environment, got []"),
    ],
)
def test_a_task_that_has_a_protocol_of_its_own_is_refused(changes, message, tmp_path):
    with pytest.raises(BenchmarkError) as caught:
        read_suite(write_suite(tmp_path, task=task_data() | changes))
    assert message in str(caught.value)


def test_two_overvalued_tasks_are_refused_and_one_stays_out_of_the_aggregate(tmp_path, made):
    tasks = {name: {"overvalued": True} for name in ("stream", "other")}
    shutil.copy(write_suite(tmp_path) / "stream.yaml", tmp_path / "other.yaml")
    with pytest.raises(BenchmarkError, match="at most one task of a suite may be overvalued"):
        read_suite(write_suite(tmp_path, suite_data(tasks=tasks)))
    suite = read_suite(write_suite(tmp_path, suite_data(tasks={"stream": {}, "other": {"overvalued": True}})))
    entries = read_entries(made[1] / "records")
    both = {(t, m): {**e, "task": t} for (_, m), e in entries.items() for t in ("stream", "other")}
    assert [table.task for table in make_board(suite, both).tables] == ["stream", "other"]
    suite = read_suite(write_suite(tmp_path, suite_data(tasks={"stream": {}, "other": {}})))
    assert [table.task for table in make_board(suite, both).tables] == ["all", "stream", "other"]


def test_the_candidate_with_the_highest_iqm_is_chosen_and_one_without_an_end_never():
    def candidate(name, *scores):
        trials = [{"score": score} for score in scores]
        return {"name": name, "trials": trials, "iqm": iqm_of(trials)}

    found = [candidate("low", 0.1, 0.2, 0.3), candidate("broken", 0.9, 0.9, None), candidate("high", 0.3, 0.4, 0.2)]
    assert [one["iqm"] for one in found] == [0.2, None, 0.3]
    assert best(found) == "high"
    assert best(found[1:2]) is None
    assert best([candidate("first", 0.5), candidate("second", 0.5)]) == "first"


def test_tuning_and_reporting_are_two_runs_and_both_settings_are_reported(made):
    out = made[1]
    entry = json.loads((out / "records" / "stream" / "none.json").read_text())
    assert [one["name"] for one in entry["tuning"]["candidates"]] == [
        "none learning_rate=0.001",
        "none learning_rate=0.01",
    ]
    assert [trial["seed"] for one in entry["tuning"]["candidates"] for trial in one["trials"]] == [7, 8, 7, 8]
    assert [trial["seed"] for trial in entry["default"]["trials"]] == [0, 1, 2, 3, 4]
    assert entry["steps"] == [20, 40, 60, 80]
    assert all(len(trial["scores"]) == 4 for trial in entry["default"]["trials"])
    tuned = {m: read_entries(out / "records")["stream", m]["tuned"] for m in ("none", "l2_init")}
    assert [trial["seed"] for trial in tuned["none"]["trials"]] == [0, 1, 2, 3, 4]
    is_default = read_entries(out / "records")["stream", "l2_init"]["tuning"]["chosen"].endswith("=0.01")
    assert (tuned["l2_init"] is None) == is_default  # 0.01 is what l2_init has by itself


def test_a_table_holds_the_mean_of_the_window_on_the_scale_of_the_suite(made, tmp_path):
    suite = read_suite(write_suite(tmp_path, suite_data(tasks={"stream": {"window": 0.5, "low": 0.1, "high": 0.6}})))
    entries = read_entries(made[1] / "records")
    by_hand = [
        sum((score - 0.1) / 0.5 for score in trial["scores"][2:]) / 2
        for trial in entries["stream", "none"]["default"]["trials"]
    ]
    [table] = make_board(suite, entries).tables
    assert table.defaults["none"].summary.mean == pytest.approx(sum(by_hand) / 5)
    assert {row.method for row in table.rows} == {"none", "l2_init"}
    assert table.against_control["l2_init"].low < table.against_control["l2_init"].value


def test_an_interrupted_run_goes_on_without_training_anything_twice(made, tmp_path):
    suite, out = made
    shutil.copytree(out, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("records/*.jsonl")}
    shutil.rmtree(tmp_path / "out" / "records")
    SuiteRun(suite, tmp_path / "out", train).run(suite.methods)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("records/*.jsonl")} == before
    again = read_entries(tmp_path / "out" / "records")
    assert {key: entry["tuned"] for key, entry in again.items()} == {
        key: entry["tuned"] for key, entry in read_entries(out / "records").items()
    }


def test_a_run_grows_by_a_method_that_is_run_alone(made, tmp_path):
    suite, _ = made
    none, l2_init = suite.methods
    SuiteRun(suite, tmp_path / "out", train).run([none])
    [entry] = SuiteRun(suite, tmp_path / "out", train).run([l2_init])
    assert entry["method"] == "l2_init"
    assert adding.check(suite, entry) == []


def test_a_run_of_ones_own_method_grows_by_others(made, tmp_path):
    suite, _ = made
    mine, other = (replace(suite.methods[1], name=name) for name in ("mine", "other"))
    for one in (mine, other, suite.methods[0]):
        [entry] = SuiteRun(suite, tmp_path / "out", train).run([one])
        assert adding.check(suite, entry) == []


def test_an_entry_stays_as_it_is_when_others_are_run_beside_it(made, tmp_path):
    suite, out = made
    shutil.copytree(out, tmp_path / "out")
    path = tmp_path / "out" / "records" / "stream" / "none.json"
    before = path.read_bytes()
    (tmp_path / "mine.yaml").write_text(
        yaml.safe_dump({"mine": {"kind": "l2", "tune": {"strength": [1.0e-3, 1.0e-4]}}})
    )
    mine = read_methods(tmp_path / "mine.yaml", suite)
    SuiteRun(suite, tmp_path / "out", train).run([*suite.methods, *mine])
    assert path.read_bytes() == before
    entry = read_entries(tmp_path / "out" / "records")["stream", "mine"]
    assert entry["made"]["num_trials"] == 5 * (1 + (entry["tuned"] is not None))
    assert entry["tuning"]["made"]["num_trials"] == 4


def test_a_method_of_ones_own_is_all_that_is_trained_beside_published_results(made, tmp_path):
    suite, out = made
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"mine": {"kind": "l2", "tune": {"strength": [1.0e-3, 1.0e-4]}}}))
    [mine] = read_methods(path, suite)
    known = read_entries(out / "records")
    assert methods_to_run(suite, known, own=[mine]) == [mine]
    assert methods_to_run(suite, known) == []
    assert [one.name for one in methods_to_run(suite, known, again=["none"])] == ["none"]
    path.write_text(yaml.safe_dump({"none": {"kind": "none", "tune": RATES}, "b": {"kind": "fire"}}))
    with pytest.raises(BenchmarkError) as caught:
        read_methods(path, suite)
    assert "none: is a method of tiny-v1; give yours a name of its own" in str(caught.value)
    assert "methods.b.tune: must have as many candidates as every method of the suite, 2, got 0" in str(caught.value)


def test_published_tables_are_rebuilt_bit_equal_from_records_and_do_not_change(shipped, tmp_path):
    suite, out = shipped
    assert adding.add(out, tmp_path)[1] == [("stream", "l2_init"), ("stream", "none")]
    assert publishing.differing(suite, tmp_path) == []
    own = tmp_path / "tiny-v1"
    before = {path.name: path.read_bytes() for path in own.glob("leaderboard.*")}
    publishing.write_tables(suite, publishing.published(suite, tmp_path), own)
    assert {path.name: path.read_bytes() for path in own.glob("leaderboard.*")} == before
    (own / "leaderboard.md").write_text("better")
    assert publishing.differing(suite, tmp_path) == ["leaderboard.md"]
    assert adding.add(out, tmp_path)[1] == []  # it is there already


def changed(name):
    """An entry that somebody changed: by what is done to it."""

    def lose_seed(entry):
        del entry["default"]["trials"][2]

    def lose_end(entry):
        del entry["default"]["trials"][1]["scores"][-1]

    def other_settings(entry):
        entry["default"]["trials"][0]["id"] = "stream--none--s0--00000000"

    def other_definition(entry):
        entry["definition"]["tune"] = {"agent.learning_rate": [0.5, 0.1]}

    def other_choice(entry):
        worst = min(entry["tuning"]["candidates"], key=lambda one: one["iqm"])
        entry["tuning"]["chosen"] = worst["name"]

    def better_tuning(entry):
        entry["tuning"]["candidates"][0]["iqm"] = 1.0

    def lose_tuning(entry):
        del entry["tuning"]["candidates"]

    def other_version(entry):
        entry["suite_version"] = 2

    return locals()[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("lose_seed", "none on stream: seeds 2 of none are missing"),
        ("lose_end", "none on stream: seeds 1 of none have no evaluation at the end"),
        ("other_settings", "none on stream: seeds 0 of none were trained with other settings than tiny-v1 has"),
        ("other_definition", "none on stream: is not the none of tiny-v1, whose settings are others"),
        ("other_choice", "which is not the candidate with the highest IQM"),
        ("better_tuning", "is not that of its trials"),
        ("lose_tuning", "none on stream: is no entry as `plasticbench suite run` writes it: KeyError('candidates')"),
        ("other_version", "mixes tiny-v1 and tiny-v2"),
    ],
)
def test_a_result_that_breaks_the_protocol_is_not_added(change, message, shipped, tmp_path):
    _, out = shipped
    shutil.copytree(out / "records", tmp_path / "sent")
    path = tmp_path / "sent" / "stream" / "none.json"
    entry = json.loads(path.read_text())
    changed(change)(entry)
    path.write_text(to_text(entry))
    with pytest.raises(BenchmarkError) as caught:
        adding.add(tmp_path / "sent", tmp_path / "results")
    assert message in str(caught.value)
    assert not (tmp_path / "results").exists()


def test_what_is_published_is_not_replaced(shipped, tmp_path):
    _, out = shipped
    adding.add(out, tmp_path)
    path = tmp_path / "tiny-v1" / "stream" / "none.json"
    entry = json.loads(path.read_text())
    entry["default"]["trials"][0]["scores"][0] += 0.5
    path.write_text(to_text(entry))
    with pytest.raises(BenchmarkError, match="has another result of it, and what is published does not change"):
        adding.add(out, tmp_path)


def test_results_are_taken_over_by_a_suite_that_has_the_same_task_and_by_no_other(made, tmp_path, monkeypatch):
    _, out = made
    shutil.copytree(out.parent / "tiny-v1", tmp_path / "tiny-v1")
    write_suite(tmp_path / "wide-v1", suite_data(name="wide"))
    write_suite(tmp_path / "other-v1", suite_data(name="other", tasks={"stream": {"window": 0.25}}))
    monkeypatch.setattr("plasticbench.platform.suites.definition.FOLDER", tmp_path)
    suite, added = adding.add(out, tmp_path / "results", "wide")
    assert suite.label == "wide-v1"
    assert {entry["suite"] for entry in read_entries(tmp_path / "results" / "wide-v1").values()} == {"wide"}
    assert added == [("stream", "l2_init"), ("stream", "none")]
    with pytest.raises(BenchmarkError, match="--to: other-v1 has none of these tasks with the same settings and score"):
        adding.add(out, tmp_path / "results", "other")


def test_versions_of_a_suite_are_not_mixed_in_a_table(made, tmp_path):
    newer = read_suite(write_suite(tmp_path, suite_data(version=2)))
    with pytest.raises(BenchmarkError, match="is of tiny-v1, and this is tiny-v2: versions of a suite are not mixed"):
        make_board(newer, read_entries(made[1] / "records"))


def test_a_folder_that_only_bears_the_name_of_a_shipped_suite_is_refused(shipped, tmp_path):
    suite, out = shipped
    assert find_suite(str(out.parent / "tiny-v1")) == suite
    assert find_suite(str(write_suite(tmp_path / "same"))) == suite
    write_suite(tmp_path / "other", suite_data(tuning_seeds=[8, 9]))
    with pytest.raises(BenchmarkError, match="is not the tiny-v1 that comes with the package"):
        find_suite(str(tmp_path / "other"))


def test_only_what_is_not_published_is_trained_and_again_only_what_is(made, tmp_path):
    tasks = {name: {} for name in ("stream", "other")}
    shutil.copy(write_suite(tmp_path) / "stream.yaml", tmp_path / "other.yaml")
    suite, known = read_suite(write_suite(tmp_path, suite_data(tasks=tasks))), read_entries(made[1] / "records")
    assert [one.name for one in methods_to_run(suite, known)] == ["none", "l2_init"]  # of the other task
    assert methods_to_run(suite, known, tasks=[suite.task("stream")]) == []
    asked = []
    runs = SuiteRun(suite, tmp_path / "out", lambda benchmark, path: asked.append(path.parent.name) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        runs.run(suite.methods, left_out=left_out(suite.tasks, suite.methods, known, is_again=False))
    assert asked == ["other"]
    again = left_out(suite.tasks, suite.methods, {("stream", "none"): {}, ("other", "l2_init"): {}}, is_again=True)
    assert again == {("stream", "l2_init"), ("other", "none")}
    assert [task.name for task in tasks_to_run(suite, known, again=["none"])] == ["stream"]
    with pytest.raises(BenchmarkError, match="nothing of 'none' is published on other; --only trains it first"):
        tasks_to_run(suite, known, only=["other"], again=["none"])


def test_a_published_method_of_ones_own_that_changed_needs_another_name(made):
    suite, known = made[0], dict(read_entries(made[1] / "records"))
    known["stream", "mine"] = {**known["stream", "l2_init"], "method": "mine"}
    (same,) = (replace(one, name="mine") for one in suite.methods if one.name == "l2_init")
    assert methods_to_run(suite, known, own=[same]) == [same]
    other = replace(same, data={**same.data, "strength": 0.5})
    with pytest.raises(BenchmarkError, match="mine: is published on stream with other settings; give yours a name"):
        methods_to_run(suite, known, own=[other])


def test_a_reference_is_shown_and_never_ranked(made, tmp_path):
    suite = read_suite(write_suite(tmp_path, suite_data(references={"frozen": {"kind": "none"}})))
    entries = dict(read_entries(made[1] / "records"))
    entries["stream", "frozen"] = {
        **entries["stream", "none"],
        "method": "frozen",
        "is_reference": True,
        "tuned": None,
        "tuning": None,
    }
    [table] = make_board(suite, entries).tables
    assert table.rows[-1].method == "frozen"
    assert [row.final.rank for row in table.rows] == [1, 2, None]
    assert table.rows[-1].final.iqm == table.defaults["none"].final.iqm
    assert "frozen" not in {*table.defaults, *table.against_control}
    assert "frozen (a reference, never ranked)" in publishing.tables(suite, entries)["leaderboard.md"]


def entry_with(made, method, scores, **changes):
    """An entry of the suite, of eight evaluations and one change half-way; seeds differ by 0.01."""
    entry = read_entries(made[1] / "records")["stream", "none"]
    trials = [
        {**trial, "scores": [score + 0.01 * (trial["seed"] - 2) for score in scores]}
        for trial in entry["default"]["trials"]
    ]
    own = {"method": method, "default": {"trials": trials}, "tuned": None, "definition": {"kind": method}}
    course = {"steps": list(range(10, 81, 10)), "change_steps": [40]}
    return {("stream", method): {**entry, **own, **course, **changes}}


WORN = [0.2, 0.3, 0.4, 0.6, 0.1, 0.1, 0.2, 0.4]
FRESH = [0.2, 0.3, 0.4, 0.6, 0.2, 0.4, 0.6, 0.8]


def test_a_table_has_measures_of_the_whole_run_from_records_alone(made, tmp_path):
    suite = read_suite(write_suite(tmp_path, suite_data(tasks={"stream": {"window": 0.1}})))
    entries = entry_with(made, "none", WORN) | entry_with(made, "oracle", FRESH, is_reference=True)
    entries |= entry_with(made, "redo", WORN, definition={"kind": "redo", "every": 20})
    [table] = make_board(suite, entries).tables
    found = {(row.method, row.measure): row.estimate.value for row in table.measures["tuned"]}
    assert {measure: value for (method, measure), value in found.items() if method == "none"} == pytest.approx(
        {
            "area": 0.2875,
            "lost": 0.2,
            "lost_to_fresh": 0.4,
            "forward_transfer": (0.2 - 0.5) / (1.0 - 0.5),
        }
    )
    assert found["redo", "final"] == pytest.approx(0.4)  # at step 80 alone
    assert found["redo", "final_over_reset_periods"] == pytest.approx(0.3)  # at steps 70 and 80
    assert "| redo | 0.287 [" in publishing.tables(suite, entries)["leaderboard.md"]
    wide = read_suite(write_suite(tmp_path, suite_data(tasks={"stream": {"window": 0.5}})))
    [table] = make_board(wide, entries).tables
    found = {(row.method, row.measure): row.estimate.value for row in table.measures["tuned"]}
    assert found["redo", "final"] == pytest.approx(0.2)  # of the last half, as the ranks are


def test_a_table_says_what_its_task_tells_apart(made, tmp_path):
    suite = read_suite(write_suite(tmp_path, suite_data(tasks={"stream": {"window": 0.1}})))
    entries = entry_with(made, "none", WORN) | entry_with(made, "oracle", FRESH, is_reference=True)
    entries |= entry_with(made, "fire", FRESH)
    made_tables = publishing.tables(suite, entries)
    powers = json.loads(made_tables["leaderboard.json"])["power"]
    assert [one["setting"] for one in powers] == ["tuned", "default"]
    assert powers[0]["separated"] == [["fire", "none"]]
    assert powers[0]["loss"]["value"] == pytest.approx(0.4)
    assert powers[0]["criteria"]["control_loses"] is True
    for line in ("| pairs separated | 1 of 1 | 1 of 1 |", "| best method separated from none | yes | yes |"):
        assert line in made_tables["leaderboard.md"]
    assert "what the task tells apart" in made_tables["leaderboard.html"]


def test_a_table_says_nothing_of_what_no_test_was_made_of(made, tmp_path):
    suite = read_suite(write_suite(tmp_path, suite_data(tasks={"stream": {"window": 0.1}})))
    text = publishing.tables(suite, entry_with(made, "none", WORN))["leaderboard.md"]
    assert "| pairs separated | not known | not known |" in text
    assert "| seeds that find a difference of 0.1 with 80% | not known | not known |" in text


def test_the_page_of_a_suite_with_one_task_ranks_methods_with_both_settings(made):
    page = publishing.tables(made[0], read_entries(made[1] / "records"))["leaderboard.html"]
    assert page.count("stream, default settings") >= 1
    assert page.count("<table") == 4  # ranks as tuned and by default, the whole run, what is told apart


@pytest.mark.parametrize("name", suite_names())
def test_published_tables_are_what_their_records_give(name):
    assert publishing.differing(find_suite(name)) == []


def test_published_records_are_what_their_suite_asks_for():
    for name in suite_names():
        suite = find_suite(name)
        for entry in publishing.published(suite).values():
            assert adding.check(suite, entry) == [], Path(entry["task"]) / entry["method"]


@pytest.mark.ray
@pytest.mark.slow
def test_the_command_tunes_runs_and_ranks_and_has_nothing_left_to_do_then(tmp_path):
    folder = write_suite(tmp_path / "tiny-v1")
    options = ["--out", str(tmp_path / "out"), "--results", str(tmp_path / "results"), "--quiet"]
    command = [sys.executable, "-m", "plasticbench", "suite", "run", str(folder), *options]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=600)
    assert "| l2_init |" in (tmp_path / "out" / "leaderboard.md").read_text()
    before = {path: path.read_bytes() for path in (tmp_path / "out" / "records").rglob("*.json")}
    subprocess.run(command, check=True, cwd=tmp_path, timeout=600)
    assert {path: path.read_bytes() for path in (tmp_path / "out" / "records").rglob("*.json")} == before
    assert len(before) == 2
