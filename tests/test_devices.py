"""What is restored is on the agent's device. The device ``meta`` stands for a second one: it mixes with no other."""

from typing import Any

import pytest
import torch
from small_agents import AGENTS, NUM_ENVS, agent_with
from torch import Tensor
from treated import part

from plasticbench.platform.training.recorder import MetricWindow
from plasticbench.seeding import Streams

META = torch.device("meta")
PARTS = [part("continual_backprop", replacement_rate=0.01, maturity_updates=1), part("hare_tortoise")]


def _tensors(value: Any, seen: dict[int, Any]) -> list[Tensor]:
    """All tensors below an object of this package, but for counters that live on the CPU by contract."""
    if id(value) in seen:
        return []
    seen[id(value)] = value  # kept alive, so that no other object gets its number
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in _tensors(item, seen)]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _tensors(item, seen)]
    if type(value).__module__.startswith("plasticbench."):
        held = {name: item for name, item in getattr(value, "__dict__", {}).items() if name != "steps"}
        return _tensors(held, seen)
    return []


@pytest.mark.parametrize("kind", ["dqn", "ppo", "sac"])
def test_an_agent_restored_on_another_device_has_everything_there(kind) -> None:
    saved = agent_with(kind, PARTS, updates=6)
    tensors, plain = saved.state_dict()
    config, spec = AGENTS[kind]
    streams = [Streams(seed) for seed in range(2)]
    agent = config.build(
        spec=spec, num_envs=NUM_ENVS, streams=streams, budget_steps=600, device=META, parts=[PARTS] * 2
    )
    agent.load_state_dict(tensors, plain, [1, 0])
    chunks = [(0, saved.replay.export(0))]
    agent.replay.restore(saved.replay.meta(), chunks, [1, 0])
    found = _tensors(agent, {})
    assert len(found) > 40
    assert {tensor.device.type for tensor in found} == {"meta"}


def test_sums_of_metrics_go_on_where_the_updates_are() -> None:
    window = MetricWindow()
    window.add({"loss": torch.tensor([1.0, 2.0])})
    restored = MetricWindow()
    restored.load_state_dict(window.state_dict(), [1, 0], META)
    restored.add({"loss": torch.zeros(2, device=META)})  # sums left on the CPU would not mix
    assert restored._sums["loss"].device == META
