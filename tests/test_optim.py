"""The population's Adam against ``torch.optim.Adam``, member by member."""

import numpy as np
import pytest
import torch

from plasticbench.learning.network import PopulationNetwork
from plasticbench.learning.networks import mlp
from plasticbench.learning.optimizers.adam import AdamConfig, PopulationAdam

CPU = torch.device("cpu")


def _network(num_members: int) -> PopulationNetwork:
    network = PopulationNetwork(mlp.Config(hidden=(5,)).layers((3,), 2), num_members, CPU)
    network.load(network.draw([np.random.default_rng(m) for m in range(num_members)]))
    return network


def _twins(network: PopulationNetwork, member: int) -> dict[str, torch.nn.Parameter]:
    return {name: torch.nn.Parameter(p[member].detach().clone()) for name, p in network.parameters.items()}


def _set_gradients(network: PopulationNetwork, twins: list[dict[str, torch.nn.Parameter]], seed: int) -> None:
    network.flat_grad.copy_(torch.randn(network.flat_grad.shape, generator=torch.Generator().manual_seed(seed)))
    for member, named in enumerate(twins):
        for name, gradient in network.views(network.flat_grad).items():
            named[name].grad = gradient[member].clone()


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_adam_agrees_with_torch_for_every_member(weight_decay):
    network = _network(3)
    adam = PopulationAdam(network, AdamConfig(learning_rate=0.01, eps=1e-5, weight_decay=weight_decay))
    twins = [_twins(network, member) for member in range(3)]
    kind = torch.optim.AdamW if weight_decay else torch.optim.Adam
    references = [kind(named.values(), lr=0.01, eps=1e-5, weight_decay=weight_decay) for named in twins]
    for seed in range(20):
        _set_gradients(network, twins, seed)
        adam.step()
        for reference in references:
            reference.step()
    for member, named in enumerate(twins):
        for name, parameter in network.parameters.items():
            torch.testing.assert_close(parameter[member], named[name], rtol=2e-6, atol=1e-7)


def test_adam_agrees_with_torch_after_one_parameter_of_one_member_was_reset():
    network = _network(2)
    adam = PopulationAdam(network, AdamConfig(learning_rate=0.01))
    twins = [_twins(network, member) for member in range(2)]
    references = [torch.optim.Adam(named.values(), lr=0.01) for named in twins]
    for seed in range(12):
        if seed == 5:
            row = [slot.name for slot in network.slots].index("fc1.weight")
            adam.steps[row, 1] = 0
            for flat in (adam.exp_avg, adam.exp_avg_sq):
                network.views(flat)["fc1.weight"][1] = 0
            adam.rebuild()
            references[1].state.pop(twins[1]["fc1.weight"])
        _set_gradients(network, twins, seed)
        adam.step()
        for reference in references:
            reference.step()
    for member, named in enumerate(twins):
        for name, parameter in network.parameters.items():
            torch.testing.assert_close(parameter[member], named[name], rtol=2e-6, atol=1e-7)


def test_preview_tells_the_next_step_and_changes_nothing():
    network = _network(2)
    adam = PopulationAdam(network, AdamConfig(learning_rate=0.01))
    network.flat_grad.normal_(generator=torch.Generator().manual_seed(0))
    adam.step()
    before, moments = network.flat.clone(), adam.exp_avg.clone()
    predicted = adam.preview(network.flat_grad)
    assert torch.equal(network.flat, before)
    assert torch.equal(adam.exp_avg, moments)
    adam.step()
    torch.testing.assert_close(network.flat - before, predicted, rtol=0, atol=0)
