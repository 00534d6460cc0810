"""Which segment may start when, what a failure takes along, and what all of it costs as plans grow."""

import time

import pytest
from small_runs import small

from plasticbench.platform.cluster.placement import needs
from plasticbench.platform.cluster.work_queue import WorkQueue, statuses
from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.plan import Plan, make_plan


def _plan(**changes) -> Plan:
    return make_plan(from_dict(small(**changes)))


def _take_all(queue: WorkQueue) -> list[str]:
    taken = []
    for wanted in queue.ready():
        while (segment := queue.take(wanted)) is not None:
            taken.append(segment.id)
    return taken


def test_a_branch_is_ready_once_its_prefix_is_done():
    prefix, branches = (plan := _plan()).segments
    queue = WorkQueue(plan.segments)
    assert _take_all(queue) == [prefix.id]
    assert queue.member_steps_left == 2 * 200 + 4 * 200
    queue.finish(prefix)
    assert queue.member_steps_left == 4 * 200
    assert _take_all(queue) == [branches.id]
    assert queue.done_trials == set()
    queue.finish(branches)
    assert (queue.done_trials, queue.failed_trials) == ({trial.id for trial in plan.trials}, set())
    assert (queue.member_steps_left, queue.ready(), queue.failed) == (0, [], {})
    assert set(statuses(plan, queue).values()) == {"FINISHED"}


def test_a_prefix_is_over_once_all_that_comes_from_it_is_done():
    """A trunk that goes on after the first branches left it: what the later ones keep of their past lies with both."""
    late = {"kind": "full_reset", "at": [0.75]}
    plan = _plan(methods={"none": {"kind": "none"}, "fire": {"kind": "fire"}, "late": late})
    first, branches, second, last = plan.segments
    assert (branches.start, second.start, last.start) == (first.id, first.id, second.id)
    queue = WorkQueue(plan.segments)
    over = []
    for segment in (first, second, last, branches):
        queue.finish(segment)
        over.append([one.id for one in queue.end(segment)])
    assert over == [[], [], [last.id, second.id], [branches.id, first.id]]


def test_a_failed_prefix_takes_its_branches_along_and_nothing_else():
    plan = _plan(seeds=4, execution={"members_per_population": 4})
    first, branches, other, _ = plan.segments
    queue = WorkQueue(plan.segments)
    queue.fail(first, "ValueError: no")
    assert queue.failed == {first.id: "ValueError: no", branches.id: f"{first.id}, where it starts, failed"}
    assert queue.failed_trials == {trial for member in first.members for trial in member.trials}
    assert _take_all(queue) == [first.id, other.id]  # the queue does not know what was taken
    ended = statuses(plan, queue)
    assert sorted(ended.values()) == ["FAILED"] * 4 + ["KILLED"] * 4
    assert {ended[trial] for member in first.members for trial in member.trials} == {"FAILED"}


def test_segments_start_in_the_order_of_the_plan_and_by_what_they_need():
    large = {"capacity_transitions": 20_000_000}
    methods = {"small": {"kind": "none"}, "large": {"kind": "none", "agent": large}}
    alone = {"execution": {"members_per_population": 1}, "budget_steps": 20_000_000}
    plan = _plan(methods=methods, seeds=3, resets=None, **alone)
    queue = WorkQueue(plan.segments)
    small_needs, large_needs = queue.ready()
    assert small_needs.memory_bytes < large_needs.memory_bytes
    assert [queue.take(large_needs).members[0].method for _ in range(3)] == ["large"] * 3
    assert queue.take(large_needs) is None
    assert [queue.take(small_needs).members[0].seed for _ in range(3)] == [0, 1, 2]
    assert queue.ready() == []


def test_a_segment_that_rests_is_ready_when_its_time_has_come():
    segment = (plan := _plan()).segments[0]
    queue = WorkQueue(plan.segments)
    queue.take(needs(segment))
    queue.rest(segment, until_s=10.0)
    assert queue.wake(9.9)
    assert queue.ready() == []
    assert not queue.wake(10.0)
    assert _take_all(queue) == [segment.id]


def _work_through(plan: Plan) -> None:
    queue = WorkQueue(plan.segments)
    while wanted := queue.ready():
        queue.finish(queue.take(wanted[0]))
        queue.wake(0.0)
    statuses(plan, queue)


def _growth(axis: str, step) -> float:
    """How many times as long ``step`` takes with ten times as many trials; the better of two, as others use the CPU."""
    sizes = {10: _enlarged(axis, 10), 100: _enlarged(axis, 100)}
    times = {size: min(_cpu_s(step, data) for _ in range(2)) for size, data in sizes.items()}
    return times[100] / times[10]


def _enlarged(axis: str, times: int) -> dict:
    """200 or 2,000 trials: 20 with one of their three axes made ``times`` as long."""
    seeds, methods, environments = (times if axis == name else 1 for name in ("seeds", "methods", "environments"))
    base = small()["environments"][0]
    return small(
        environments=[base | {"name": f"task {n}"} for n in range(2 * environments)],
        methods={f"method {n}": {"kind": "none"} for n in range(2 * methods)},
        seeds=5 * seeds,
        execution={"members_per_population": 2},
    )


def _cpu_s(step, data: dict) -> float:
    argument = step.prepare(data)
    began = time.process_time()
    step(argument)
    return time.process_time() - began


def _planning(data: dict) -> None:
    plan = make_plan(from_dict(data))
    assert Plan.from_json(plan.to_json()) == plan


_planning.prepare = lambda data: data
_work_through.prepare = lambda data: make_plan(from_dict(data))


@pytest.mark.slow
@pytest.mark.parametrize("axis", ["seeds", "methods", "environments"])
@pytest.mark.parametrize("step", [_planning, _work_through])
def test_ten_times_as_many_trials_cost_about_ten_times_as_much(axis, step):
    assert _growth(axis, step) < 25  # quadratic growth would be 100
