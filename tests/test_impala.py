"""IMPALA's network under PPO: what is trained, judged and reset of it; and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import small_agents
import torch
from small_agents import PPO, agent_with, views_of
from treated import part

from plasticbench.learning.networks import impala_cnn


@pytest.fixture
def on_impala(monkeypatch):
    network = impala_cnn.Config(channels=(4, 5), hidden_units=6, initializer="orthogonal")
    _, spec = small_agents.AGENTS["ppo"]
    monkeypatch.setitem(small_agents.AGENTS, "ppo", (replace(PPO, network=network), spec))


def test_every_layer_of_a_shared_trunk_is_trained(on_impala):
    state = agent_with("ppo", [part("redo"), part("l2_init", strength=1e-3)], 16).state_dict()[0]
    firsts = {name: value for name, value in state.items() if name.startswith("shared/original/")}
    assert len(firsts) == 2 * (2 * 5 + 3)
    assert [n for n, first in firsts.items() if torch.equal(first, state[n.replace("original", "online")])] == []


def test_probes_judge_what_no_stream_takes_up_and_resets_reach_every_layer(on_impala):
    agent = agent_with("ppo", [part("full_reset")], 16)
    layers = {layer.name: layer for layer in views_of(agent)["shared"].layers}
    judged = [name for name, layer in layers.items() if layer.activation is not None]
    assert judged == [*(f"stage{s}_block{b}_conv1" for s in (1, 2) for b in (1, 2)), "fc1"]
    before = {name: layer.weight.clone() for name, layer in layers.items()}
    agent.treat([0], 0, 64, None)
    after = {layer.name: layer.weight for layer in views_of(agent)["shared"].layers}
    assert all(not torch.equal(after[name][0], before[name][0]) for name in before)
    assert all(torch.equal(after[name][1], before[name][1]) for name in before)


def test_fire_makes_isometries_of_its_convolutions(on_impala):
    agent = agent_with("ppo", [part("fire")], 16)
    agent.treat([0, 1], 0, 64, agent.probe_batch(np.zeros((2, 8))))
    report = agent.treat([0, 1], 0, 64, agent.probe_batch(np.zeros((2, 8))))["shared"]
    assert (report.measurements["sfe"] < 1e-6).all(), "what is one already stays as it is"


def test_observations_without_a_height_and_a_width_are_refused():
    with pytest.raises(ValueError, match=r"impala_cnn needs observations \(channels, height, width\), got \(4,\)"):
        impala_cnn.Config().layers((4,), 2)
