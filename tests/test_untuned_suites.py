"""Suites whose methods have settings of their own, as those of a paper, and are not tuned."""

import json

from test_suites import suite_data, train, write_suite

from plasticbench.platform.suites import adding, publishing
from plasticbench.platform.suites.definition import read_suite
from plasticbench.platform.suites.entries import read_entries
from plasticbench.platform.suites.running import SuiteRun

METHODS = {"none": {"kind": "none"}, "l2_init": {"kind": "l2_init", "strength": 1.0e-3}}


def test_a_suite_without_tuning_trains_reporting_seeds_alone_and_ranks_them(tmp_path):
    data = suite_data(methods=METHODS, tuning_seeds=None)
    suite = read_suite(write_suite(tmp_path / "tiny-v1", {key: own for key, own in data.items() if own is not None}))
    SuiteRun(suite, tmp_path / "out", train).run(suite.methods)
    assert [path.name for path in (tmp_path / "out" / "stream").iterdir()] == ["reporting"]
    entries = read_entries(tmp_path / "out" / "records")
    assert [adding.check(suite, entry) for entry in entries.values()] == [[], []]
    assert all(entry["tuning"] is entry["tuned"] is None for entry in entries.values())
    tables = publishing.tables(suite, entries)
    text, board = tables["leaderboard.md"], json.loads(tables["leaderboard.json"])
    assert {row["setting"] for part in ("rows", "measures", "power") for row in board[part]} == {"default"}
    assert "Each method has the settings that the suite gives it, and 5 seeds; none was tuned." in text
    assert "|  | with the suite's settings |" in text
    assert ", as tuned" not in text
    assert "default settings" not in text
