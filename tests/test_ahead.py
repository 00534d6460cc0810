"""Batches that are opened one update ahead are those that would have been opened when they were needed."""

import threading

import numpy as np
import pytest
import torch
from small_runs import facts, run_all, small

from plasticbench.agents._ahead import Ahead
from plasticbench.agents._compressed_replay import CompressedReplay
from plasticbench.agents._uniforms import MemberUniforms
from plasticbench.envs._course import RLCourse
from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.training.trainer import build_course
from plasticbench.seeding import Streams

CPU = torch.device("cpu")


class Sampling:
    """Gives back the uniforms, and notes which thread asked."""

    def __init__(self) -> None:
        self.threads: list[str] = []

    def __call__(self, uniforms: np.ndarray) -> np.ndarray:
        self.threads.append(threading.current_thread().name)
        return uniforms.copy()


def draws() -> MemberUniforms:
    return MemberUniforms([Streams(0), Streams(1)], "replay", (3,))


def test_batches_come_in_the_order_of_the_draws_and_all_but_the_first_of_a_burst_from_the_other_thread():
    sampling, plain = Sampling(), draws()
    ahead = Ahead(sampling, draws(), CPU)
    for burst in (4, 1, 70):  # the last one goes beyond a block of draws
        for left in reversed(range(burst)):
            np.testing.assert_array_equal(ahead.batch(more=left > 0), plain.draw())
    ahead.close()
    assert [name.startswith("ahead") for name in sampling.threads[:6]] == [False, True, True, True, False, False]


def test_nothing_is_drawn_ahead_of_the_end_of_a_burst():
    own = draws()
    ahead = Ahead(Sampling(), own, CPU)
    for left in (1, 0):
        ahead.batch(more=left > 0)
    assert own.state_dict()["cursor"] == 2
    ahead.close()


def test_what_fails_ahead_is_raised_where_it_is_needed():
    def sample(uniforms: np.ndarray) -> None:
        if threading.current_thread().name.startswith("ahead"):
            raise OSError("damaged")

    ahead = Ahead(sample, draws(), CPU)
    ahead.batch(more=True)
    with pytest.raises(OSError, match="damaged"):
        ahead.batch(more=False)
    ahead.close()


def pictured(opener_threads: int | None, method: dict, **agent: object) -> dict:
    return small(
        environments=[{"kind": "minatar", "task": "Breakout-MinAtar", "num_envs": 4}],
        agent=small()["agent"] | {"network": {"kind": "minatar_cnn"}, "replay_ratio": 0.5, **agent},
        methods={"none": {"kind": "none"}, "m": method},
        execution={"replay_store": "compressed", "opener_threads": opener_threads},
    )


@pytest.mark.parametrize(
    ("method", "agent"),
    [
        ({"kind": "fire"}, {}),
        ({"kind": "altnet"}, {"capacity_transitions": 200}),
        ({"kind": "redo"}, {"priming": {"at_step": 120, "updates": 70}, "n_step": 3}),
        ({"kind": "fire"}, {"update_period_steps": 20, "replay": {"kind": "recency"}}),
    ],
)
def test_records_are_equal_whoever_opens_the_frames(tmp_path, method, agent):
    found = []
    for number, threads in enumerate((0, 1, 3)):
        plan = run_all(tmp_path / str(number), pictured(threads, method, **agent))
        found.append(facts(tmp_path / str(number), plan))
    assert found[0] == found[1] == found[2]


def course(opener_threads: int | None, store: str = "compressed") -> RLCourse:
    data = pictured(opener_threads, {"kind": "fire"})
    data["execution"] = {"replay_store": store} | ({} if store == "raw" else {"opener_threads": opener_threads})
    benchmark = from_dict(data)
    segment = make_plan(benchmark).segments[0]
    return build_course(benchmark, segment, [None] * len(segment.members))


def test_a_cpu_opens_frames_when_they_are_needed_and_threads_end_with_their_agent():
    assert course(None).learner._ahead is None
    assert course(None, "raw").learner._ahead is None
    agent = course(3).learner
    assert isinstance(agent.replay, CompressedReplay)
    before = threading.active_count()
    list(agent.replay._openers.map(abs, range(9)))
    assert threading.active_count() > before
    openers = [thread for thread in threading.enumerate() if thread.name.startswith("opener")]
    agent.close()
    assert not any(thread.is_alive() for thread in openers)
