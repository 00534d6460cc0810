"""Oracle and frozen: what a fresh agent and one that learns no more would reach, shown and never ranked."""

import numpy as np
import pytest
import torch
from run_directory import trial, write_run
from small_runs import facts, run_all, small
from treated import event, part, train, trained

from plasticbench import plugins
from plasticbench.analysis.aggregate import Runs
from plasticbench.analysis.headline import answer
from plasticbench.analysis.leaderboard import REFERENCE, leaderboard
from plasticbench.analysis.leaderboard_text import to_json, to_markdown
from plasticbench.analysis.plasticity import Roles, _rows
from plasticbench.analysis.plasticity_text import plasticity_answer, probe_tables
from plasticbench.analysis.report import write_report
from plasticbench.analysis.runs import REFERENCES, Trial, load_run
from plasticbench.platform.definition.reading import BenchmarkError, from_dict
from plasticbench.platform.planning.plan import make_plan, summary

SCORES = {
    ("A", "none"): [0.0, 0.1, 0.2, 0.1, 0.1],
    ("A", "fire"): [0.8, 0.9, 0.9, 1.0, 0.9],
    ("A", "oracle"): [1.0, 1.1, 1.2, 1.1, 1.1],
    ("A", "frozen"): [-0.1, 0.0, 0.1, 0.0, 0.0],
}
METHODS = {kind: {"kind": kind} for kind in ("none", "fire", "oracle", "frozen")}


def test_an_oracle_is_a_new_network_with_a_new_optimizer_and_target():
    network = trained([[part("oracle")], [part("none")]])
    train(network, 10)
    before = {name: value.clone() for name, value in network.online.parameters.items()}
    event(network, [0], 10)
    for name, value in network.online.parameters.items():
        assert (value[0] != before[name][0]).all(), name
        assert torch.equal(value[1], before[name][1]), name
        assert torch.equal(network.target.parameters[name][0], value[0]), name
    moments = {name: value[0] for name, value in network.state_dict().items() if "exp_avg" in name}
    assert moments
    assert all((value == 0).all() for value in moments.values())


def test_frozen_networks_stay_as_they_are_from_the_first_event_on():
    network = trained([[part("frozen", begin_step=10)], [part("none")]])
    alone = trained([[part("none")], [part("none")]])
    train(network, 10)
    train(alone, 10)
    then = {name: value.clone() for name, value in network.online.parameters.items()}
    for name, value in alone.online.parameters.items():
        assert torch.equal(value, then[name]), "it learns as any other until then"
    event(network, [0], 10)
    train(network, 10, first=11)
    event(network, [0], 20)
    train(network, 5, first=21)
    for name, value in network.online.parameters.items():
        assert torch.equal(value[0], then[name][0]), name
        assert (value[1] != then[name][1]).any(), name


def test_references_share_what_comes_before_the_first_change_and_frozen_weights_keep_their_norm(tmp_path):
    data = small(methods=METHODS, resets={"at": "boundaries"}, seeds=1, budget_steps=400)
    plan = run_all(tmp_path, data)
    assert summary(plan)["saved_by_forks"] == pytest.approx(0.375)
    found = facts(tmp_path, plan)
    norms = {
        method: [value for _, name, value in records if name == "plasticity/online/weight_norm"]
        for (method, _), records in found.items()
    }
    assert len(norms["frozen"]) == 4
    assert len(set(norms["frozen"][1:])) == 1, "at 200, 300 and 400 steps"
    assert len(set(norms["none"])) == len(set(norms["oracle"])) == 4
    assert norms["none"][:2] == norms["oracle"][:2] == norms["frozen"][:2]


def test_references_have_scores_and_intervals_and_no_rank_and_move_nobody_elses(tmp_path):
    rows = {row.method: row for row in leaderboard([write_run(tmp_path / "all", SCORES)]).rows if row.task == "A"}
    others = {key: own for key, own in SCORES.items() if key[1] in ("none", "fire")}
    alone = {row.method: row for row in leaderboard([write_run(tmp_path / "two", others)]).rows if row.task == "A"}
    assert {method: rows[method] for method in alone} == alone
    oracle = rows["oracle"]
    assert (oracle.final.rank, oracle.after.rank, oracle.final.behind.value) == (None, None, None)
    assert oracle.final.iqm.value == pytest.approx(1.1)
    assert oracle.final.iqm.low < 1.1 < oracle.final.iqm.high
    assert oracle.after.iqm.value == pytest.approx(1.1)
    assert (oracle.summary.mean, oracle.summary.mean_return) == pytest.approx((1.1, 110.0))
    assert oracle.note == rows["frozen"].note == REFERENCE
    assert list(rows) == ["fire", "none", "oracle", "frozen"]


def test_no_sentence_claims_anything_of_a_reference(tmp_path):
    board = leaderboard([write_run(tmp_path, SCORES)])
    said = " ".join(answer([row for row in board.rows if row.task == "A"]))
    assert "fire has the highest score" in said
    assert "oracle" not in said
    assert "frozen" not in said
    assert {pair.method for pair in board.improvement} | {pair.over for pair in board.improvement} == {"none", "fire"}
    assert "oracle (a reference, never ranked)" in to_markdown(board.rows)
    ranks = {row["method"]: row["rank"] for row in to_json(board)["rows"] if row["task"] == "A"}
    assert ranks == {"fire": 1, "none": 2, "oracle": None, "frozen": None}


def test_the_report_of_a_run_with_references_names_them_as_such(tmp_path):
    run = write_run(tmp_path, SCORES)
    page = write_report(run).read_text()
    assert REFERENCE in page
    summary_text = (run / "report" / "leaderboard.md").read_text().partition("###")[0]
    assert "fire" in summary_text
    assert "oracle" not in summary_text
    assert "frozen" not in summary_text


def test_probes_of_references_are_shown_and_compared_with_nobodys():
    seeds = tuple(range(5))
    shares = {"none": 0.5, "fire": 0.3, "oracle": 0.0}
    noise = np.array([-0.01, 0.0, 0.01, 0.0, 0.02])
    values = {method: [Runs(share + noise, seeds)] for method, share in shares.items()}
    others = {method: own for method, own in values.items() if method != "oracle"}
    rows = _rows("A", "online/dormant_ratio", values, Roles("none", frozenset({"oracle"})))
    alone = _rows("A", "online/dormant_ratio", others, Roles("none"))
    assert rows[:2] == alone
    assert (rows[1].against_control, rows[2].against_control, rows[2].is_reference) == (1, None, True)
    (table,) = probe_tables(rows, list(shares))
    assert table.methods == list(shares)
    assert table.best == {"dormant_ratio": "fire"}
    assert plasticity_answer(rows, "none") == plasticity_answer(alone, "none")


def test_a_reference_that_is_incomplete_says_so(tmp_path):
    run = write_run(tmp_path, SCORES, last_step=lambda task, method, seed: 60 if method == "oracle" else 100)
    row = next(row for row in leaderboard([run]).rows if (row.task, row.method) == ("A", "oracle"))
    assert row.note == f"{REFERENCE}, and without all of its trials"
    assert row.final.iqm.value is None


def test_a_method_with_an_oracle_among_its_parts_is_a_reference(tmp_path):
    fields = {"kind": "layer_norm + oracle", "layer_norm": {}, "oracle": {}}
    run = load_run(write_run(tmp_path, {("A", "none"): [0.0]}))
    (known,) = run.trials
    made = Trial(**{name: getattr(known, name) for name in Trial.__slots__} | {"settings": {"method": fields}})
    assert made.is_reference
    assert not known.is_reference
    assert trial("A", "none", 0)["settings"]["method"]["kind"] == "none"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resets": None}, "methods.oracle: would never act"),
        ({"resets": {"at": [0.25]}}, "methods.oracle.at: 'oracle' must act at all changes of 'CartPole-v1', got .100."),
        ({"resets": {"every": 100}}, "'oracle' must act at all changes of 'CartPole-v1', got .100, 200, 300."),
        (
            {"methods": {"oracle": {"kind": "oracle", "networks": "q"}}},
            "methods.oracle.at: the reference 'oracle' is about whole agents",
        ),
    ],
)
def test_references_that_act_elsewhere_are_refused(changes, message):
    data = small(methods={"none": {"kind": "none"}, "oracle": {"kind": "oracle"}}) | changes
    with pytest.raises(BenchmarkError, match=message):
        make_plan(from_dict(data))


def test_an_oracle_needs_a_replay_that_is_emptied():
    (environment,) = small()["environments"]
    kept = environment | {"scenario": environment["scenario"] | {"replay": "keep"}}
    with pytest.raises(BenchmarkError, match="an oracle begins with an empty replay: give the scenario 'replay: clear"):
        from_dict(small(environments=[kept], methods=METHODS, resets={"at": "boundaries"}))


def test_reports_know_all_references_by_name():
    kinds = plugins.names("treatments")
    marked = {kind for kind in kinds if getattr(plugins.load("treatments", kind).Config, "is_reference", False)}
    assert marked == REFERENCES
