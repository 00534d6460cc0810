"""SimBa v2: a network whose weights and features stay on spheres."""

import dataclasses
import math

import pytest
import torch
from contract import company, examined, restore, save
from contract import train as train_with_events
from small_agents import AGENTS, agent_with
from torch import Tensor
from torch.nn.functional import normalize
from treated import BASE, batch, event, part, trained, update

from plasticbench.learning.networks import simbav2
from plasticbench.learning.structures import layer_norm
from plasticbench.learning.trained import TrainedNetwork

LAYERS = simbav2.Config(num_blocks=2, width=6).layers((4,), 3)


def network_of(num_members: int = 1) -> TrainedNetwork:
    return trained([[] for _ in range(num_members)], layers=LAYERS)


def test_every_constant_starts_where_the_authors_code_has_it() -> None:
    """Width 6, two blocks: scales at the root of 1/3, half of it inside blocks, shares of a third."""
    values = {name: value.detach()[0] for name, value in network_of().online.parameters.items()}
    assert values["embed_scale.weight"].tolist() == pytest.approx([math.sqrt(1 / 3)] * 6)
    assert values["block1_fc1_scale.weight"].tolist() == pytest.approx([math.sqrt(1 / 3) / 2] * 24)
    assert values["block2_lerp.weight"].tolist() == pytest.approx([1 / math.sqrt(6)] * 6)
    [lerp] = [spec for spec in LAYERS if spec.name == "block1_lerp"]
    assert lerp.constant * lerp.gain == pytest.approx(1 / 3)
    assert values["head_scale.weight"].tolist() == [1.0] * 6
    for name in ("embed", "block1_fc1", "block2_fc2", "head", "out"):
        assert values[f"{name}.weight"].norm(dim=1).tolist() == pytest.approx([1.0] * len(values[f"{name}.weight"]))


def test_a_constant_beside_the_inputs_keeps_their_size() -> None:
    """(4, 0, 0, 0) with 3 beside it has length 5: 0.8 and 0.6 of the first and the last column."""
    network = network_of()
    weights = network.online.parameters
    with torch.no_grad():
        weights["embed.weight"].zero_()
        weights["embed.weight"][0, 0, 0] = weights["embed.weight"][0, 1, 4] = 1.0
        hidden: list[Tensor] = []
        network.online.forward(torch.tensor([[[4.0, 0.0, 0.0, 0.0]]]), hidden)
    assert hidden[0].flatten().tolist() == pytest.approx([0.8, 0, 0, 0, 0.6])
    assert hidden[3].flatten().tolist() == pytest.approx([0.8, 0.6, 0, 0, 0, 0])


def plain(values: dict[str, Tensor], x: Tensor) -> Tensor:
    """The network of one member, written anew."""
    x = normalize(torch.cat((x, torch.full((len(x), 1), 3.0)), dim=1), dim=1)
    x = normalize(values["embed_scale.weight"] * (x @ values["embed.weight"].T), dim=1)
    for block in ("block1", "block2"):
        inner = (values[f"{block}_fc1_scale.weight"] * (x @ values[f"{block}_fc1.weight"].T)).relu()
        other = normalize(inner @ values[f"{block}_fc2.weight"].T, dim=1)
        share = values[f"{block}_lerp.weight"] * math.sqrt(6) / 3
        x = normalize(x + share * (other - x), dim=1)
    x = values["head_scale.weight"] * (x @ values["head.weight"].T)
    return x @ values["out.weight"].T + values["out.bias"]


def test_twenty_updates_agree_with_a_plain_loop_that_projects_after_each() -> None:
    network = network_of(2)
    copies = [
        {name: value.detach()[member].clone().requires_grad_() for name, value in network.online.parameters.items()}
        for member in range(2)
    ]
    for step in range(1, 21):
        update(network, step)
    for member, values in enumerate(copies):
        optimizer = torch.optim.Adam(values.values(), lr=BASE.learning_rate, eps=BASE.eps)
        for step in range(1, 21):
            inputs, targets = batch([member], step)
            optimizer.zero_grad()
            (plain(values, inputs[0]) - targets[0]).square().mean().backward()
            optimizer.step()
            with torch.no_grad():
                for value in values.values():
                    if value.ndim == 2:
                        value.copy_(normalize(value, dim=1))
        for name, value in values.items():
            ours = network.online.parameters[name].detach()[member]
            torch.testing.assert_close(ours, value.detach(), rtol=1e-4, atol=1e-5, msg=name)


def test_features_stay_on_the_sphere_whatever_is_trained() -> None:
    network = network_of()
    for step in range(1, 6):
        update(network, step)
    hidden: list[Tensor] = []
    network.online.forward(batch([0], 9)[0] * 100, hidden)
    named = dict(zip((spec.name for spec in network.online.hidden), hidden, strict=True))
    for name in ("inputs", "embed_unit", "block1_unit", "block2_unit"):
        torch.testing.assert_close(named[name].norm(dim=2), torch.ones(1, 16))


@pytest.mark.parametrize(
    "kind", ["redo", "fire", "shrink_perturb", "full_reset", "adamo", "continual_backprop", "l2_init"]
)
def test_treatments_and_optimizers_work_on_it_and_go_on_from_a_checkpoint(kind: str) -> None:
    methods = company(examined(kind, "clean"))
    network = trained(methods, layers=LAYERS)
    train_with_events(network, 1, 5, events_at=[3])
    resumed = restore(methods, save(network), range(5), LAYERS)
    for one in (network, resumed):
        train_with_events(one, 6, 8, events_at=[7])
    ours, theirs = network.state_dict(), resumed.state_dict()
    assert [name for name, value in ours.items() if not torch.equal(value, theirs[name])] == []
    assert all(torch.isfinite(value).all() for value in ours.values())


def test_a_recycled_unit_gets_the_scale_back_that_it_began_with() -> None:
    network = trained([[part("partial_reset", share=1.0)]], layers=LAYERS)
    for step in range(1, 4):
        update(network, step)
    event(network, [0], 3)
    scales = network.online.parameters["block1_fc1_scale.weight"].detach()[0]
    assert scales.tolist() == pytest.approx([math.sqrt(1 / 3) / 2] * 24)


def test_what_would_fight_its_projection_is_refused() -> None:
    with pytest.raises(ValueError, match="the network itself holds at length 1"):
        part("nap").config.fits(LAYERS)
    with pytest.raises(ValueError, match="layer_norm needs a hidden nonlinearity without a normalisation"):
        layer_norm.Config().layers(LAYERS)


def test_a_sac_trains_with_it_as_actor_and_critic(monkeypatch: pytest.MonkeyPatch) -> None:
    config, spec = AGENTS["sac"]
    network = simbav2.Config(width=8)
    changed = dataclasses.replace(config, actor_network=network, critic_network=network)
    monkeypatch.setitem(AGENTS, "sac", (changed, spec))
    agent = agent_with("sac", [part("redo")], 4)
    for own in agent.trained:
        for name, value in own.online.parameters.items():
            if value.ndim == 3:
                torch.testing.assert_close(value.detach().norm(dim=2), torch.ones(value.shape[:2]), msg=name)
    assert [spec.name for spec in agent.actor.online.outputs] == ["mean", "log_std"]
