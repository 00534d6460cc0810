"""How long a plan takes, measured on its own populations for seconds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from small_runs import small
from small_streams import small_stream

from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.training import timing
from plasticbench.platform.training.timing import Costs, estimate, finished_after

ROLLOUTS = {"kind": "ppo", "network": {"kind": "mlp", "hidden": [16]}, "rollout_steps": 16, "minibatches": 2}


@pytest.fixture(autouse=True)
def _briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_MEASURED_S", 0.02)


def _segment(name: str, start: str | None = None) -> Any:
    return SimpleNamespace(id=name, start=start)


def test_populations_run_as_soon_as_a_place_is_free_and_what_they_start_from_is_done():
    segments = [_segment("a"), _segment("a1", "a"), _segment("a2", "a"), _segment("b"), _segment("b1", "b")]
    seconds = {"a": 2.0, "a1": 3.0, "a2": 4.0, "b": 5.0, "b1": 1.0}
    assert finished_after(segments, seconds, 1) == 15.0
    assert finished_after(segments, seconds, 2) == 9.0  # a a1 a2 on one place, b b1 on the other
    assert finished_after(segments, seconds, 8) == 6.0  # the longest chain


def test_seconds_are_strides_evaluations_and_probes_between_the_smallest_and_the_largest_population(monkeypatch):
    # Members cost 1 ms each: a prefix of 2 and branches of 4, each 200 steps of 2 environments, looked at twice.
    asked = []

    def measured(_: Any, segment: Any) -> Costs:
        asked.append(len(segment.members))
        return Costs(0.001 * len(segment.members), 1.0, 0.5)

    monkeypatch.setattr(timing, "measure", measured)
    benchmark = from_dict(small())
    found = estimate(benchmark, make_plan(benchmark), 2, lambda text: None)
    assert asked == [2, 4]
    assert found.work_s == pytest.approx((100 * 0.002 + 3) + (100 * 0.004 + 3))
    assert found.seconds == found.work_s  # the branches wait for their prefix
    assert found.side_by_side == 2


@pytest.mark.parametrize("data", [small(), small(agent=ROLLOUTS), small_stream()], ids=["dqn", "ppo", "data"])
def test_every_kind_of_agent_can_be_measured_where_it_learns(data):
    updates = []
    benchmark = from_dict(data)
    plan = make_plan(benchmark)
    stride_s = timing._stride_s

    def watched(course: Any, steps: Any) -> float:
        advance = course.advance
        course.advance = lambda step: [updates.append(step) or metrics for metrics in advance(step)]
        return stride_s(course, steps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "_stride_s", watched)
        costs = timing.measure(benchmark, plan.segments[-1])
    assert min(costs) > 0
    assert len(updates) > timing._FIRST


def test_what_cannot_be_measured_here_is_refused_with_its_reason(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    benchmark = from_dict(small(execution={"device": "cuda", "num_gpus": 1}))
    with pytest.raises(ValueError, match=r"--time: execution.device is 'cuda', and this machine has no GPU"):
        estimate(benchmark, make_plan(benchmark), 2, lambda text: None)
