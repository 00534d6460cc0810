"""A population needs one node that has all it asks for; what no node has is told by its key before anything starts."""

from pathlib import Path

import pytest
from small_runs import small

from plasticbench.platform.cluster.placement import Needs, check_fits, needs
from plasticbench.platform.definition.reading import BenchmarkError, from_dict, load
from plasticbench.platform.planning.plan import make_plan

GIB = 2**30
CONFIGS = Path(__file__).parents[1] / "configs"


def _segments(**changes):
    return make_plan(from_dict(small(**changes))).segments


def _node(cpus: float, gpus: float, gib: float) -> dict[str, float]:
    return {"CPU": cpus, "GPU": gpus, "memory": gib * GIB, "node:127.0.0.1": 1.0}


def _refusal(segments, *nodes) -> str:
    with pytest.raises(BenchmarkError) as refusal:
        check_fits(segments, nodes)
    return str(refusal.value)


def test_memory_is_asked_for_in_steps_so_that_workers_can_be_kept():
    first, second = _segments()
    assert first.memory_bytes < second.memory_bytes
    assert needs(first) == needs(second)
    assert needs(first).memory_bytes % (256 * 2**20) == 0
    assert 0 <= needs(first).memory_bytes - first.memory_bytes < 256 * 2**20


def test_a_node_must_have_everything_itself():
    wanted = Needs(num_cpus=2, num_gpus=0.5, memory_bytes=4 * GIB)
    assert wanted.fit(_node(2, 1, 4))
    assert not wanted.fit(_node(1, 1, 4))
    assert not wanted.fit(_node(2, 0, 4))
    assert not wanted.fit(_node(2, 1, 3.9))


@pytest.mark.parametrize(
    ("execution", "node", "key"),
    [
        ({"num_cpus": 4}, (2, 0, 8), "execution.num_cpus: "),
        ({"num_gpus": 1.0, "device": "cuda"}, (2, 0, 64), "execution.num_gpus: "),
        ({}, (2, 0, 0.5), "execution.members_per_population: "),
    ],
)
def test_what_no_node_has_is_named_by_its_key(execution, node, key):
    message = _refusal(_segments(execution=execution), _node(*node), _node(*node))
    assert message.startswith(key)
    assert f"Nodes: 2 x {node[0]} CPUs" in message


def test_a_replay_on_the_gpu_is_not_asked_of_the_host():
    """The GPU group of the Kubernetes manifest: 64 GiB beside a GPU, which holds the ten members' 71 GB of frames."""
    plan = make_plan(load(CONFIGS / "fire_atari.yaml", ["execution.replay_store=raw"]))
    assert max(segment.gpu_memory_bytes for segment in plan.segments) > 70 * 10**9
    check_fits(plan.segments, [_node(8, 1, 64)])


def test_compressed_replays_of_the_atari_figure_fit_a_workstation_and_raw_ones_are_told_what_to_do():
    compressed, raw = (
        make_plan(load(CONFIGS / "fire_atari.yaml", ["execution.device=cpu", "execution.num_gpus=0", *more])).segments
        for more in ([], ["execution.replay_store=raw"])
    )
    check_fits(compressed, [_node(4, 0, 16)])
    with pytest.raises(BenchmarkError, match=r"It trains 5: lower the number, set execution.replay_store: compressed"):
        check_fits(raw, [_node(4, 0, 16)], replay_store="raw")


def test_resources_that_lie_on_different_nodes_do_not_add_up():
    segments = _segments(execution={"num_cpus": 4})
    message = _refusal(segments, _node(4, 0, 0.1), _node(1, 0, 64))
    assert message.startswith("execution: ")
    check_fits(segments, [_node(4, 0, 0.1), _node(1, 0, 64), _node(4, 0, 64)])


def test_the_first_population_that_fits_nowhere_is_the_one_that_is_named():
    large = {"capacity_transitions": 200_000_000}
    methods = {"small": {"kind": "none"}, "large": {"kind": "none", "agent": large}}
    cut = {"execution": {"members_per_population": 2}, "budget_steps": 200_000_000}
    segments = _segments(methods=methods, resets=None, seeds=4, **cut)
    message = _refusal(segments, _node(8, 0, 4))
    assert segments[2].id in message
    assert "It trains 2" in message
