"""The probes at the end of training: values, verdicts against the control, and the sentences about them."""

import numpy as np
import pytest
from run_directory import write_run

from plasticbench.analysis.colours import method_styles
from plasticbench.analysis.outcomes import outcomes
from plasticbench.analysis.plasticity import ProbesAtEnd, probes_at_end
from plasticbench.analysis.plasticity_text import plasticity_answer, probe_tables
from plasticbench.analysis.probe_facts import KNOWN_KINDS, facts_of, kind_of
from plasticbench.analysis.rows import ALL
from plasticbench.analysis.runs import load_run, read_table
from plasticbench.analysis.score_panels import scatters
from plasticbench.records import Record, RecordWriter

DORMANT = {"none": 0.21, "fire": 0.04, "full_reset": 0.208}
_NOISE = {"none": [-2, -1, 0, 1, 2], "fire": [0, 1, -2, 2, -1], "full_reset": [2, 0, -1, -2, 1]}


def run_with(path, values, *, tasks=("A",), probe="dormant_ratio", seeds=5, scale=0.004):
    """A run whose probe has these values at the end, and others before it."""
    run = write_run(path, {(task, method): [0.5] * seeds for task in tasks for method in values})
    for trial in load_run(run).trials:
        file = run / "records" / f"{trial.id}.jsonl"
        end = values[trial.method] * (1 + tasks.index(trial.task)) + scale * _NOISE[trial.method][trial.seed]
        lines = [line for line in file.read_text().splitlines() if f"online/{probe}" not in line]
        file.write_text("".join(line + "\n" for line in lines))
        writer = RecordWriter(file, file.stat().st_size)
        name = f"plasticity/online/{probe}"
        writer.write(Record(trial.id, step, name, value, 1.8e9) for step, value in ((50, 9.0), (95, end), (100, end)))
        writer.sync()
        writer.close()
    return run


def found(path) -> ProbesAtEnd:
    run = load_run(path)
    return probes_at_end([run], [read_table(run)])


def cells(probes: ProbesAtEnd, task: str, probe: str):
    return {row.method: row for row in probes.rows if (row.task, row.network, row.probe) == (task, "online", probe)}


def test_a_probe_counts_by_its_mean_in_the_last_tenth_and_by_the_test_against_the_control(tmp_path):
    own = cells(found(run_with(tmp_path, DORMANT)), "A", "dormant_ratio")
    assert own["fire"].estimate.value == pytest.approx(0.04)
    assert {m: row.against_control for m, row in own.items()} == {"none": None, "fire": 1, "full_reset": 0}
    assert own["fire"].estimate.low < 0.04 < own["fire"].estimate.high


def test_intervals_keep_to_the_range_of_their_quantity(tmp_path):
    own = cells(found(run_with(tmp_path, {"none": 0.5, "fire": 0.1}, scale=0.049)), "A", "dormant_ratio")
    assert own["fire"].estimate.low == 0.0


def test_over_tasks_shares_are_pooled_and_other_quantities_are_multiples_of_the_control(tmp_path):
    shares = cells(found(run_with(tmp_path / "a", DORMANT, tasks=("A", "B"))), ALL, "dormant_ratio")
    assert shares["fire"].estimate.value == pytest.approx(0.06, abs=0.002)
    assert not shares["fire"].is_relative
    ranks = {"none": 40.0, "fire": 60.0}
    relative = cells(found(run_with(tmp_path / "b", ranks, tasks=("A", "B"), probe="srank", scale=0.1)), ALL, "srank")
    assert relative["fire"].is_relative
    assert relative["fire"].estimate.value == pytest.approx(1.5, abs=0.01)
    assert relative["fire"].against_control == 1


def test_the_sentences_name_the_best_the_control_and_how_certain_it_is(tmp_path):
    first, all_probes = plasticity_answer(found(run_with(tmp_path, DORMANT)).rows, "none")
    assert first.startswith("fire has the lowest share of dormant units at the end: 4.0% [")
    assert "the control (none) has 21.0% [" in first
    assert first.endswith(": a certain difference.")
    assert all_probes == "Of 1 probes with a direction, surely better than the control (none): fire in 1."


def test_few_seeds_make_it_indicative_and_the_control_may_be_best(tmp_path):
    (few,) = plasticity_answer(found(run_with(tmp_path / "few", DORMANT, seeds=3)).rows, "none")
    assert few.endswith("with so few seeds this is indicative.")
    assert "[" not in few
    best, rest = plasticity_answer(found(run_with(tmp_path / "b", {"none": 0.01, "fire": 0.3})).rows, "none")
    assert best.endswith("no method does better than the control there.")
    assert rest.endswith("is any method surely better than the control (none); 1 of 1 are surely worse in some.")


def test_tables_mark_the_best_and_tally_what_is_certain(tmp_path):
    table, *_ = probe_tables(found(run_with(tmp_path, DORMANT)).rows, list(DORMANT))
    assert table.best["dormant_ratio"] == "fire"
    assert [table.tally(method) for method in DORMANT] == [
        "",
        "1 better, 0 worse, 0 open",
        "0 better, 0 worse, 1 open",
    ]
    assert table.text(table.cells["none", "dormant_ratio"]) == "21.0%"


def test_trials_stand_with_probe_and_score_in_one_figure(tmp_path):
    run = load_run(run_with(tmp_path, DORMANT))
    table = read_table(run)
    styles = method_styles(run.methods, run.controls)
    panels = scatters(outcomes([run], [table]), probes_at_end([run], [table]), styles)
    assert [panel.title for panel in panels] == ["Dormant units"]
    assert "15 trials" in panels[0].hint


def test_every_probe_is_described_and_unknown_ones_keep_their_names():
    from plasticbench import plugins

    assert set(KNOWN_KINDS) <= set(plugins.names("probes"))
    assert kind_of("dormant_ratio_0.1") == "dormant_ratio"
    assert facts_of("dormant_ratio_0.1").title == "Dormant units, 0.1"
    assert (facts_of("my_probe").title, facts_of("my_probe").better) == ("My probe", "")
    assert [facts_of("dfi").text(value) for value in (0.5, 12_345.6, 3.2e7, float("nan"))] == [
        "0.5",
        "12,346",
        "3.20e+07",
        "–",  # noqa: RUF001
    ]
    assert np.isinf(facts_of("my_probe").high)


def test_trials_that_have_not_come_to_the_end_say_nothing_of_it(tmp_path):
    run = run_with(tmp_path, DORMANT)
    for trial in load_run(run).trials:
        file = run / "records" / f"{trial.id}.jsonl"
        early = [
            line for line in file.read_text().splitlines() if int(line.partition('"step":')[2].partition(",")[0]) <= 50
        ]
        file.write_text("".join(line + "\n" for line in early))
    assert found(run).rows == []
