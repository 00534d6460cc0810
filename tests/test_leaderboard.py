import json
import shutil

import numpy as np
import pytest
from run_directory import write_run

from plasticbench.analysis import leaderboard
from plasticbench.analysis.aggregate import Runs
from plasticbench.analysis.headline import answer, separation
from plasticbench.analysis.leaderboard import standings
from plasticbench.analysis.leaderboard_text import number_text, to_json, to_markdown
from plasticbench.analysis.rows import ALL, Row

SCORES = {
    ("A", "none"): [0.0, 0.1, 0.2, 0.1, 0.1],
    ("A", "fire"): [0.8, 0.9, 0.9, 1.0, 0.9],
    ("A", "full_reset"): [0.5, 0.4, 0.6, 0.5, 0.5],
}


def board(paths) -> list[Row]:
    """The rows of a leaderboard."""
    return leaderboard.leaderboard(paths).rows


def row_of(rows: list[Row], method: str, task: str = "all") -> Row:
    (row,) = [row for row in rows if (row.task, row.method) == (task, method)]
    return row


def test_rows_by_hand(tmp_path):
    rows = board([write_run(tmp_path, SCORES)])
    assert [(row.task, row.method, row.final.rank) for row in rows] == [
        (task, method, rank) for task in ("all", "A") for rank, method in enumerate(("fire", "full_reset", "none"), 1)
    ]
    row = row_of(rows, "none", "A")
    assert (row.n_seeds, row.n_incomplete) == (5, 0)
    assert [row.final.iqm.value, row.summary.mean, row.summary.median, row.after.iqm.value] == pytest.approx([0.1] * 4)
    assert row.summary.optimality_gap == pytest.approx(0.9)
    assert row.summary.mean_return == pytest.approx(10.0)
    assert row.final.behind.value == pytest.approx(0.8)
    assert row.final.behind.low > 0.5
    assert (row.final.iqm.low + row.final.iqm.high) / 2 == pytest.approx(0.1)
    assert (row.final.rank_best, row.final.rank_worst) == (3, 3)


def test_a_bad_final_score_counts_only_the_last_tenth_of_the_budget(tmp_path):
    run = write_run(tmp_path, {("A", "none"): [0.5]})
    path = run / "records" / "a--none--s0.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if line["name"] == "eval/score":
            line["value"] = {90: 7.0, 100: 0.25}.get(line["step"], 0.0)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    row = board([run])[0]
    assert row.final.iqm.value == pytest.approx(0.25)
    assert row.after.iqm.value == pytest.approx((7.0 + 0.25) / 5)


def test_the_mean_of_all_tasks_is_the_mean_of_the_task_means_and_returns_are_not_mixed(tmp_path):
    scores = {("A", "none"): [0.0, 0.0, 0.0], ("B", "none"): [1.0, 1.0, 1.0, 1.0, 1.0]}
    row = row_of(board([write_run(tmp_path, scores)]), "none")
    assert row.summary.mean == pytest.approx(0.5)
    assert row.n_seeds == 3
    assert row.summary.mean_return is None


def test_equal_scores_share_a_rank(tmp_path):
    scores = {("A", "none"): [0.5] * 5, ("A", "fire"): [0.5] * 5, ("A", "full_reset"): [0.1] * 5}
    rows = board([write_run(tmp_path, scores)])
    assert {row.method: row.final.rank for row in rows} == {"none": 1, "fire": 1, "full_reset": 3}
    assert (row_of(rows, "none").final.rank_best, row_of(rows, "none").final.rank_worst) == (1, 2)


def test_what_methods_share_seed_by_seed_separates_them_though_their_intervals_overlap():
    seeds, values = tuple(range(5)), np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    paired = standings({"x": [Runs(values + 0.01, seeds)], "y": [Runs(values, seeds)]})
    assert paired["x"].iqm.low < paired["y"].iqm.high
    assert (paired["x"].rank_worst, paired["y"].rank_best) == (1, 2)
    unpaired = standings({"x": [Runs(values + 0.01, seeds)], "y": [Runs(values, (5, 6, 7, 8, 9))]})
    assert (unpaired["x"].rank_worst, unpaired["y"].rank_best) == (2, 1)


def test_a_method_that_fails_on_one_of_many_tasks_does_not_stand_above_those_found_ahead_of_it():
    seeds, spread = tuple(range(5)), np.array([-0.02, -0.01, 0.0, 0.01, 0.02])
    means = {"fails_once": (0.0, 0.8, 0.8, 0.8), "steady": (0.7, 0.7, 0.7, 0.7), "low": (0.1, 0.1, 0.1, 0.1)}
    found = standings({name: [Runs(mean + spread, seeds) for mean in own] for name, own in means.items()})
    assert found["fails_once"].iqm.value > found["steady"].iqm.value
    assert {name: one.rank for name, one in found.items()} == {"steady": 1, "fails_once": 2, "low": 3}
    assert all(one.rank_best <= one.rank <= one.rank_worst for one in found.values())
    assert found["steady"].behind.value == 0.0


def test_two_seeds_have_no_interval_and_the_row_says_so(tmp_path):
    row = board([write_run(tmp_path, {("A", "none"): [0.0, 1.0]})])[0]
    assert row.final.iqm.value == pytest.approx(0.5)
    assert (row.final.iqm.low, row.final.iqm.high, row.final.rank_best) == (None, None, None)
    assert row.note == "no interval: 2 seeds, 5 are needed"


def test_a_trial_without_its_final_evaluation_takes_its_method_out_of_the_ranking(tmp_path):
    cut = write_run(tmp_path, SCORES, last_step=lambda task, method, seed: 90 if (method, seed) == ("fire", 2) else 100)
    rows = board([cut])
    row = row_of(rows, "fire")
    assert (row.final.rank, row.final.iqm.value, row.n_seeds, row.n_incomplete) == (None, None, 4, 1)
    assert row.note == "not ranked: 1 of 5 trials incomplete"
    assert rows[2] is row
    assert row_of(rows, "full_reset").final.rank == 1


def test_a_trial_without_a_record_file_is_incomplete(tmp_path):
    run = write_run(tmp_path, SCORES)
    (run / "records" / "a--fire--s0.jsonl").unlink()
    assert row_of(board([run]), "fire").n_incomplete == 1


def test_a_score_that_is_not_a_number_counts_as_the_reference_low(tmp_path):
    row = board([write_run(tmp_path, {("A", "none"): [float("nan"), 0.5, 0.7]})])[0]
    assert (row.n_incomplete, row.summary.mean, row.summary.median) == (0, pytest.approx(0.4), 0.5)


def test_a_method_that_lacks_a_task_is_not_ranked_over_all(tmp_path):
    rows = board([write_run(tmp_path, {**SCORES, ("B", "none"): [0.0] * 3})])
    assert row_of(rows, "fire").note == "not ranked: was not run on B"
    assert row_of(rows, "fire", "A").final.rank == 1


def test_runs_are_compared_across_directories(tmp_path):
    parts = [write_run(tmp_path / m, {key: v for key, v in SCORES.items() if key[1] == m}) for _, m in SCORES]
    apart = board(parts)
    assert sorted(apart, key=repr) == sorted(board([write_run(tmp_path / "one", SCORES)]), key=repr)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"budget_steps": 90}, "A: trials of one task need one budget_steps: 100 in .*first, 90 in .*second"),
        ({"change_steps": [20]}, "A: trials of one task need the same change_steps"),
        ({"settings": {"evaluation": {"episodes": 9}}}, "A: trials of one task need the same environment"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(tmp_path, changes, message):
    first = write_run(tmp_path / "first", {("A", "none"): [0.0] * 3})
    second = write_run(tmp_path / "second", {("A", "fire"): [0.0] * 3}, **changes)
    with pytest.raises(ValueError, match=message):
        board([first, second])


def test_another_evaluation_is_refused(tmp_path):
    first = write_run(tmp_path / "first", {("A", "none"): [0.0] * 3})
    second = write_run(tmp_path / "second", {("A", "fire"): [0.0] * 3})
    plan = (second / "plan.json").read_text()
    (second / "plan.json").write_text(plan.replace('"episodes": 5', '"episodes": 7'))
    with pytest.raises(ValueError, match="A: trials of one task need the same evaluation"):
        board([first, second])


def test_one_name_for_two_methods_is_refused(tmp_path):
    first = write_run(tmp_path / "first", {("A", "fire"): [0.0] * 3})
    shutil.copytree(first, tmp_path / "second")
    plan = (first / "plan.json").read_text()
    (tmp_path / "second" / "plan.json").write_text(plan.replace('"iterations": 5', '"iterations": 9'))
    with pytest.raises(ValueError, match="two methods are called 'fire'"):
        board([first, tmp_path / "second"])


def test_a_trial_that_is_there_twice_is_refused(tmp_path):
    first = write_run(tmp_path / "first", {("A", "fire"): [0.0] * 3})
    shutil.copytree(first, tmp_path / "second")
    with pytest.raises(ValueError, match="'fire' with seed 0 is both in"):
        board([first, tmp_path / "second"])


@pytest.mark.parametrize("plan", [None, "{", '{"name": "x"}', "[]"])
def test_a_directory_without_a_plan_is_refused_with_its_name(tmp_path, plan):
    if plan is not None:
        (tmp_path / "plan.json").write_text(plan)
    with pytest.raises(ValueError, match=r"plan\.json: "):
        board([tmp_path])


def test_a_broken_record_is_refused_with_its_line(tmp_path):
    run = write_run(tmp_path, SCORES)
    path = run / "records" / "a--fire--s1.jsonl"
    path.write_text(path.read_text().replace('"name":"eval/score","value":0.9', '"name":"eval/score","value":oops', 1))
    with pytest.raises(ValueError, match=r"a--fire--s1\.jsonl: line 2"):
        board([run])


def test_a_last_line_that_was_cut_is_left_out(tmp_path):
    run = write_run(tmp_path, SCORES)
    expected = board([run])
    with open(run / "records" / "a--fire--s1.jsonl", "a") as file:
        file.write('{"trial":"a--fire--s1","step":100,"name":"eval/sco')
    assert board([run]) == expected


def test_json_and_markdown_hold_every_row(tmp_path):
    found = leaderboard.leaderboard([write_run(tmp_path, SCORES)])
    document = json.loads(json.dumps(to_json(found), allow_nan=False))
    known = {"schema_version", "rows", "probes", "improvement", "measures", "recoveries", "provenance"}
    assert document.keys() == known
    assert document["rows"][0]["method"] == "fire"
    markdown = to_markdown(found.rows)
    assert "| 1 | fire | dqn | 0.900 [" in markdown
    assert markdown.count("\n| ") == 5
    assert "All tasks" not in markdown


def test_numbers_have_a_true_minus_sign_and_no_negative_zero():
    texts = [number_text(value) for value in (-0.5, -0.0001, None)]
    assert texts == ["\N{MINUS SIGN}0.500", "0.000", "\N{EN DASH}"]


def test_the_answer_names_a_winner_only_if_the_test_finds_it_ahead(tmp_path):
    clear = answer(board([write_run(tmp_path / "clear", SCORES)])[:3])
    assert clear[0].startswith("At the end of training, fire has the highest score (IQM 0.900), clearly ahead of every")
    close = {**SCORES, ("A", "full_reset"): [1.0, 0.7, 1.0, 0.7, 0.8]}
    sentence = answer(board([write_run(tmp_path / "close", close)])[:3])[0]
    assert "is clearly ahead of none, but is not separated from full_reset" in sentence


def test_the_answer_does_not_give_the_highest_score_to_a_method_that_has_not(tmp_path):
    spread, means = (-0.02, -0.01, 0.0, 0.01, 0.02), {"none": (0.0, 0.8, 0.8, 0.8), "fire": (0.7,) * 4}
    scores = {(f"T{task}", m): [mean + s for s in spread] for m, own in means.items() for task, mean in enumerate(own)}
    rows = [row for row in board([write_run(tmp_path, scores)]) if row.task == ALL]
    known = "IQM 0.700; none has 0.792, but its mean is found behind another's"
    assert f"fire stands first ({known}), clearly ahead of none: mean score 0.100" in answer(rows)[0]


def test_the_answer_claims_nothing_from_two_seeds(tmp_path):
    scores = {key: values[:2] for key, values in SCORES.items()}
    sentence = answer(board([write_run(tmp_path, scores)])[:3])[0]
    assert "with 2 seeds per method this is indicative, and cannot show that it is better" in sentence


def test_nobody_alone_has_the_highest_score_that_another_has_too(tmp_path):
    scores = {("A", method): [0.4, 0.6] for method in ("none", "fire")} | {("A", "redo"): [0.1, 0.2]}
    sentence = answer(board([write_run(tmp_path, scores)])[:3])[0]
    both = "At the end of training, none and fire have the highest score (IQM 0.500)"
    assert sentence == f"{both}; with 2 seeds each this is indicative."


def test_a_board_on_which_nothing_was_learned_has_no_winner(tmp_path):
    nothing = {("A", "none"): [0.03, -0.02, 0.0, -0.03, 0.02], ("A", "fire"): [0.04, -0.03, 0.02, -0.01, 0.03]}
    rows = board([write_run(tmp_path / "five", nothing)])
    sentences = answer(rows[:2])
    assert sentences[0].startswith("No method is distinguishable from random play (score 0) at the end of training: ")
    assert len(sentences) == 2, "and the power, without a word about who leads after the change"
    assert {row.above_reference for row in rows} == {False}
    few = board([write_run(tmp_path / "two", {key: values[:2] for key, values in nothing.items()})])
    assert "hardly above random play (score 0), and with 2 seeds" in answer(few[:2])[0]
    assert {row.above_reference for row in few} == {None}


def test_many_methods_are_counted_and_few_are_named():
    others = [f"m{i}" for i in range(10)]
    assert separation(others, others) == ", clearly ahead of every other method"
    assert separation(others, others[:4]).endswith("ahead of 4 of 10 others, and not separated from the other 6")
    assert separation(others, []) == ", but is not separated from any of the other 10"
    assert separation(others[:3], []) == ", but is not separated from m0, m1 and m2"
