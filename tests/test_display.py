"""What a person sees of many populations."""

import io

import pytest
from rich.console import Console
from run_directory import write_run

from plasticbench.analysis.leaderboard import leaderboard
from plasticbench.platform import heartbeat
from plasticbench.platform.display import (
    Display,
    LiveDisplay,
    PlainDisplay,
    TrialCounts,
    closing_lines,
    make_display,
    standings,
)
from plasticbench.platform.heartbeat import Pace
from plasticbench.platform.training.segment import Progress


def _running(count: int) -> list[Progress]:
    return [
        Progress(f"h1-balance-simple-v0--shrink-perturb-and-4-more--s{n}--0-100", 40, 0, 100, 2, 5.0, -1234.5, {})
        for n in range(count)
    ]


def _plain(count: int) -> str:
    text = io.StringIO()
    PlainDisplay(Console(file=text, width=200)).update(_running(count), 180 * count)
    return text.getvalue()


def _lines(running: list[Progress], left: list[int], *, width: int, height: int = 60) -> list[str]:
    """What stands on a terminal after updates with these member-steps to go."""
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    display = LiveDisplay(console)
    display.start()
    for member_steps_left in left:
        display.update(running, member_steps_left)
    lines = console.render_lines(display._bars.get_renderable(), pad=False)
    display.stop()
    return ["".join(segment.text for segment in line).rstrip() for line in lines]


def test_a_log_names_a_few_populations_and_counts_many():
    assert _plain(20).count("step 40 of 100, 2 members, 5 steps/s, last return -1234.5, all done in about -\n") == 20
    assert _plain(21) == "21 populations run: 3,780 member-steps to go, about -\n"


def test_a_line_tells_whose_values_diverged():
    running = [Progress("p", 10, 0, 100, 5, 5.0, 9.3, {}, num_overvalued=n) for n in (3, 0)]
    text = io.StringIO()
    PlainDisplay(Console(file=text, width=200)).update(running, 900)
    first, second = text.getvalue().splitlines()
    assert "last return 9.3, values diverged in 3 of 5 members, all done" in first
    assert "last return 9.3, all done" in second
    (_, live) = _lines([Progress("p", 10, 0, 100, 25, 5.0, 9.3, {}, num_overvalued=12)], [900], width=80)
    assert "  12/25 diverged" in live
    assert len(live) <= 80


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_has_one_line_for_all_and_one_for_each_population(width):
    lines = _lines(_running(3), [1000, 750], width=width)
    assert len(lines) == 4
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("all populations  ")
    assert "25%" in lines[0]
    for number, line in enumerate(lines[1:]):
        assert line.split(" ")[0].endswith(f"s{number}")
        assert "━" in line
        assert line.split()[-6:] == ["5", "steps/s", "return", "-1234.5", "-:--:--", "left"]


def test_a_terminal_shows_as_many_populations_as_fit_and_counts_the_rest():
    assert len(lines := _lines(_running(23), [4_140], width=120)) == 21
    assert lines[0].startswith("all, 3 not shown ")
    assert len(lines := _lines(_running(23), [4_140], width=120, height=10)) == 8
    assert lines[0].startswith("all, 16 not shown ")


def test_a_population_that_ended_gives_its_line_to_the_next():
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    display = LiveDisplay(console)
    display.start()
    first, second, third = _running(3)
    display.update([first, second], 300)
    display.update([second, third], 200)
    names = [task.description.strip() for task in display._bars.tasks]
    display.stop()
    assert [name[-4:] for name in names] == ["ions", "--s1", "--s2"]


def test_the_line_for_all_counts_what_ended_and_tells_the_time_that_passed():
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    display = LiveDisplay(console)
    display.start()
    first, second, third = _running(3)
    display.update([first, second], 300)
    display.update([second, third], 200)
    (line, *_) = console.render_lines(display._bars.get_renderable(), pad=False)
    display.stop()
    assert "33% 0m00s" in "".join(segment.text for segment in line)
    assert " 1 done " in "".join(segment.text for segment in line)


def test_a_line_above_all_others_counts_trials_by_what_became_of_them():
    display = LiveDisplay(Console(file=io.StringIO(), width=80, height=10, force_terminal=True, color_system=None))
    display.trials(TrialCounts(done=5, running=10, waiting=4, failed=1))
    display.update(_running(23), 300)
    lines = display._console.render_lines(display._bars.get_renderable(), pad=False)
    assert len(lines) == 9
    first = "".join(segment.text for segment in lines[0]).rstrip()
    assert first == "20 trials: 5 done, 10 running, 4 waiting, 1 failed"


def test_a_log_counts_trials_before_it_names_populations():
    text = io.StringIO()
    display = PlainDisplay(Console(file=text, width=200))
    display.trials(TrialCounts(done=0, running=1, waiting=0, failed=0))
    display.update(_running(1), 180)
    assert text.getvalue().startswith("1 trial: 1 running\nh1-balance")


def test_an_estimate_leaves_out_the_time_before_anything_moved(monkeypatch):
    clock = iter([0.0, 60.0, 120.0, 125.0, 130.0])
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: next(clock))
    pace = Pace()
    assert [pace.seconds_left(left) for left in (1_000, 1_000, 1_000, 900, 800)] == [None, None, None, 45.0, 40.0]


SCORES = {
    ("A", "none"): [0.0, 0.1, 0.2, 0.1, 0.1],
    ("A", "fire"): [0.8, 0.9, 0.9, 1.0, 0.9],
    ("A", "shrink_perturb_and_layer_norm"): [0.8, 0.9, 0.9, 1.0, 0.8],
}


def test_a_run_ends_with_ranks_that_stay_open_intervals_in_one_piece_and_the_answer(tmp_path):
    board = leaderboard([write_run(tmp_path, SCORES)])
    text = io.StringIO()
    for table in standings(board.rows):
        Console(file=text, width=80).print(table)
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    ranked = [line for line in lines[3:] if line[:1].isdigit()]  # a long name takes a second line
    assert [line.split("  ")[0] for line in ranked] == ["1 (1–2)", "2 (1–2)", "3"]  # noqa: RUF001
    assert all(line.count("[") == line.count("]") == 2 for line in ranked)
    assert "agent dqn, 5 seeds" in lines[-1]
    first, *_, last = closing_lines(board)
    assert first.startswith("At the end of training, fire has the highest score (IQM 0.900), and is clearly ahead of ")
    assert last == "15 trials, 0 incomplete, 1m30s from the first record to the last"


def test_quiet_is_quiet_and_a_message_reaches_a_log_in_one_line():
    text = io.StringIO()
    console = Console(file=text, width=20)
    quiet = make_display(console, quiet=True)
    assert type(quiet) is Display
    quiet.message("population died")
    assert text.getvalue() == ""
    make_display(console, quiet=False).message("population-1 died and is starting again")
    assert text.getvalue() == "population-1 died and is starting again\n"


def test_a_trial_that_failed_counts_as_nothing_else_and_others_are_not_counted():
    counts = TrialCounts.of({"a", "b", "c", "d"}, done={"a", "b", "gone"}, running=["b", "c"], failed={"b", "gone"})
    assert counts == TrialCounts(done=1, running=1, waiting=1, failed=1)
