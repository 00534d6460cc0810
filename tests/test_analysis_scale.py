import json
import math
import re
from functools import partial

import pytest
from run_directory import write_run

from benchmarks.analysis import growth, seconds, write_synthetic_run
from plasticbench.analysis._scan import scan
from plasticbench.analysis.leaderboard import leaderboard
from plasticbench.analysis.report import write_report
from plasticbench.analysis.runs import load_run, read_table
from plasticbench.records import Record

ANY = '[^"]*'


def lines(*records: tuple[int, str, float]) -> bytes:
    return b"".join(Record("t", *record, 1.7e9).to_json().encode() + b"\n" for record in records)


def test_scan_returns_whole_names_alone_in_the_order_of_the_file():
    data = lines((1, "eval/score", 0.5), (1, "plasticity/online/dfi/fc1", 2.0), (2, "eval/score", -1e-7), (2, "x", 3.0))
    assert scan(data, "eval/score|x") == ([1, 2, 2], (b"eval/score", b"eval/score", b"x"), [0.5, -1e-7, 3.0])
    assert scan(data, "plasticity/[^/]+/[^/]+") == ([], (), [])


def test_scan_reads_values_that_are_no_json_numbers():
    found = scan(lines((1, "a", math.nan), (2, "a", math.inf), (3, "a", -math.inf), (4, "a", 1.0)), ANY)
    assert found is not None
    assert repr(found.values) == "[nan, inf, -inf, 1.0]"


@pytest.mark.parametrize(
    "line",
    [
        Record("t", 1, "größe", 1.0, 0.0).to_json(),
        json.dumps({"trial": "t", "step": 1, "name": "eval/score", "value": 1.0, "time": 0.0}),
        '{"trial":"t","step":1,"name":"eval/score","value":one,"time":0.0}',
        "",
    ],
)
def test_scan_leaves_what_it_cannot_be_sure_of_to_the_parser(line):
    assert scan(lines((1, "eval/score", 0.5)) + line.encode() + b"\n", ANY) is None


def test_lines_in_another_form_are_read_all_the_same(tmp_path):
    run = load_run(write_run(tmp_path, {("A", "none"): [0.0]}))
    file = run.path / "records" / f"{run.trials[0].id}.jsonl"
    expected = read_table(run, "eval/score")
    file.write_text("".join(json.dumps(json.loads(line)) + "\n" for line in file.read_text().splitlines()))
    assert read_table(run, "eval/score").equals(expected)


def test_many_tasks_show_their_scores_alone_and_probes_over_all_tasks(tmp_path):
    page = write_report(write_run(tmp_path, {(f"T{i}", "none"): [0.1, 0.2, 0.3] for i in range(31)})).read_text()
    assert page.count('aria-label="Score on T') == 31
    assert page.count('aria-label="Return on T') == 0
    assert re.findall(r'aria-label="Dormant units [^;]*;', page) == [
        'aria-label="Dormant units over all tasks over agent steps;'
    ]


@pytest.mark.slow
@pytest.mark.parametrize("work", [write_report, lambda path: leaderboard([path])], ids=["report", "leaderboard"])
def test_cost_grows_no_faster_than_the_trials(tmp_path, work):
    names = ("eval/return", "eval/score", "plasticity/online/srank", "plasticity/online/srank/fc1")
    cpu_s = {}
    for num_trials in (1_000, 4_000):
        run = write_synthetic_run(tmp_path / str(num_trials), num_trials, names)
        cpu_s[num_trials] = seconds(partial(work, run))["cpu_s"]
    assert growth(cpu_s)[0] < 1.25
