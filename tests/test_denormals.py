"""Numbers below the smallest normal float32: zeros while networks are trained, and as they are everywhere else."""

from __future__ import annotations

import pytest
import torch

from plasticbench.agents import dqn
from plasticbench.contracts.task import DiscreteActions, EnvSpec
from plasticbench.learning.denormals import flushed
from plasticbench.learning.networks import mlp
from plasticbench.seeding import Streams

TINY = 1e-40
needs_switch = pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this processor has no such switch")


def _is_kept() -> bool:
    return bool(torch.tensor(TINY) * 0.5 != 0)


@needs_switch
def test_they_are_zeros_inside_alone():
    assert _is_kept()
    with flushed():
        assert not _is_kept()
    assert _is_kept()


@needs_switch
def test_whoever_had_switched_them_off_finds_them_so():
    torch.set_flush_denormal(True)
    try:
        with flushed():
            pass
        assert not _is_kept()
    finally:
        torch.set_flush_denormal(False)


@needs_switch
def test_an_error_inside_leaves_them_as_they_were():
    with pytest.raises(KeyError), flushed():
        raise KeyError
    assert _is_kept()


@needs_switch
@pytest.mark.parametrize("has_graph", [False, True])
def test_the_moments_of_dead_units_do_not_stay_at_the_smallest_numbers_for_ever(has_graph):
    spec = EnvSpec(obs_shape=(3,), obs_dtype="float32", actions=DiscreteActions(count=2))
    agent = dqn.Config(network=mlp.Config(hidden=(4,)), capacity_transitions=100).build(
        spec=spec, num_envs=1, streams=[Streams(0)], budget_steps=100, device=torch.device("cpu")
    )
    if has_graph:
        agent.q.online.chain = None
    moment = agent.q.optimizer.moments["exp_avg"]
    moment.fill_(TINY)
    agent.q.begin(1)
    values = agent.q.forward(torch.zeros(1, 5, 3))
    if has_graph:
        agent.q.descend(0.0 * values.sum(dim=(1, 2)), 1)
    else:
        agent.q.descend_along(torch.zeros_like(values), 1)
    assert torch.count_nonzero(moment) == 0
    assert _is_kept()
