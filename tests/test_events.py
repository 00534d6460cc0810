"""Which steps the methods of a task have in common, and which steps figures mark."""

from plasticbench.analysis.colours import method_styles
from plasticbench.analysis.drawing import MUTED
from plasticbench.analysis.events import task_events
from plasticbench.analysis.marks import marks, marks_over_tasks
from plasticbench.analysis.runs import Trial


def trial(method: str, resets: tuple[int, ...] = (), changes: tuple[int, ...] = (), fork: int | None = None) -> Trial:
    settings = {"method": {"kind": method}}
    return Trial(
        id=method, task="A", method=method, seed=0, reset_steps=resets, change_steps=changes, score_source="",
        settings=settings, fork_step=fork,
    )  # fmt: skip


def test_what_one_method_does_by_itself_is_no_event_of_the_task():
    often = tuple(range(500, 40_000, 500))
    events = task_events([trial("none", (20_000,)), trial("fire", (20_000,)), trial("redo", often)])
    assert (events.changes, events.resets, events.after_step) == ((), (20_000,), 20_000)
    changed = task_events([trial("fire", (), (10_000, 30_000)), trial("redo", often, (10_000, 30_000))])
    assert (changed.steps, changed.after_step) == ((10_000, 30_000), 10_000)
    assert [changed.label(step) for step in changed.steps] == ["change", "change"]


def test_a_control_alone_has_no_events_whatever_its_schedule_says():
    events = task_events([trial("none", (20_000,))])
    assert (events.steps, events.after_step) == ((), None)


def test_methods_with_schedules_of_their_own_are_compared_once_each_has_begun():
    events = task_events([trial("fire", (10_000, 30_000)), trial("full_reset", (20_000,)), trial("l2", (), (), 5_000)])
    assert (events.resets, events.after_step) == ((), 20_000)


def test_a_fork_is_the_event_of_a_method_that_has_one():
    assert task_events([trial("redo", (2_000, 4_000), (), 5_000)]).resets == (5_000,)


def test_few_events_have_lines_and_many_a_rug_with_their_period():
    methods = ["none", "fire", "redo"]
    styles = method_styles(methods, {"none"})
    few = marks([trial("none"), trial("fire", (100, 200)), trial("redo", (100, 200))], styles)
    assert (few.lines, few.rugs, few.note) == ([(100, "reset"), (200, "reset")], {}, "")
    often = tuple(range(100, 2_000, 100))
    many = marks([trial("none"), trial("fire", often), trial("redo", often)], styles)
    assert (many.lines, many.rugs, many.note) == ([], {MUTED: list(often)}, "reset every 100 steps")
    own = marks([trial("fire", (500,)), trial("redo", often)], styles)
    assert (own.lines, own.note) == ([(500, "reset")], "ticks: redo resets every 100 steps")
    assert own.rugs == {styles["redo"].colour: list(often)}


def test_all_tasks_mark_what_they_have_in_common():
    tasks = [[trial("fire", (), (10, 20))], [trial("fire", (), (20, 30))]]
    assert marks_over_tasks(tasks).lines == [(20, "change")]
