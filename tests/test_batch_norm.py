"""Batch normalisation: statistics of the rows in training, running ones elsewhere."""

import copy

import pytest
import torch
from small_agents import agent_with
from small_runs import small
from torch import nn
from treated import BASE, batch, conv_specs, event, part, specs, trained, update

from plasticbench.learning.network import population_batch_norm
from plasticbench.learning.structures import batch_norm
from plasticbench.learning.structures import tanh as other
from plasticbench.platform.definition.reading import BenchmarkError, from_dict

CROSSQ_WN = [part("batch_norm"), part("weight_projection", preset="crossq_wn")]


def test_values_are_brought_to_mean_0_and_variance_1_then_scaled_and_shifted() -> None:
    """1 and 5 have mean 3 and variance 4: -1 and 1; twice that, plus 10: 8 and 12."""
    x = torch.tensor([[[1.0], [5.0]]])
    two, ten, mean, variance = (torch.tensor([[value]]) for value in (2.0, 10.0, 3.0, 4.0))
    torch.testing.assert_close(population_batch_norm(x, two, ten, mean, variance), torch.tensor([[[8.0], [12.0]]]))


def test_norms_stand_behind_nonlinearities_and_before_the_first_layer() -> None:
    names = [(spec.name, spec.weight_shape[0]) for spec in batch_norm.Config().layers(specs())]
    assert names == [("input_norm", 4), ("fc1", 8), ("fc1_norm", 8), ("fc2", 6), ("fc2_norm", 6), ("fc3", 3)]
    shorter = [spec.name for spec in batch_norm.Config(inputs=False).layers(specs())]
    assert shorter == ["fc1", "fc1_norm", "fc2", "fc2_norm", "fc3"]
    with pytest.raises(ValueError, match="batch_norm needs a hidden nonlinearity"):
        batch_norm.Config().layers(specs(hidden=(8,))[1:])
    assert other.Config().layers(batch_norm.Config().layers(specs()))[1].activation == "tanh"


class Plain(nn.Module):
    """The MLP of the toy task with torch's own batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.input_norm, self.fc1_norm, self.fc2_norm = (nn.BatchNorm1d(n, momentum=0.01) for n in (4, 8, 6))
        self.fc1, self.fc2, self.fc3 = nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.fc1_norm(self.fc1(self.input_norm(x)).relu())
        return self.fc3(self.fc2_norm(self.fc2(x).relu()))


def plain_of(network: object, member: int) -> Plain:
    plain = Plain()
    values = {name: value.detach()[member].clone() for name, value in network.online.parameters.items()}
    plain.load_state_dict(values, strict=False)
    return plain


def test_with_rows_of_unit_length_twenty_updates_agree_with_torchs_own() -> None:
    """Torch's running variance is that of a sample: 16 rows give 16/15 times as much as is kept here."""
    network = trained([CROSSQ_WN] * 2)
    plains = [plain_of(network, member) for member in range(2)]
    for member, plain in enumerate(plains):
        optimizer = torch.optim.Adam(plain.parameters(), lr=BASE.learning_rate, eps=BASE.eps)
        for step in range(1, 21):
            inputs, targets = batch([member], step)
            optimizer.zero_grad()
            (plain(inputs[0]) - targets[0]).square().mean().backward()
            optimizer.step()
            with torch.no_grad():
                for layer in (plain.fc1, plain.fc2):
                    layer.weight /= layer.weight.norm(dim=1, keepdim=True)
    for step in range(1, 21):
        update(network, step)
    for member, plain in enumerate(plains):
        for name, value in plain.named_parameters():
            ours = network.online.parameters[name].detach()[member]
            torch.testing.assert_close(ours, value.detach(), rtol=1e-4, atol=1e-4, msg=name)
        assert network.online.parameters["fc2.weight"].detach()[member].norm(dim=1).tolist() == pytest.approx([1.0] * 6)
        for name, value in plain.named_buffers():
            if name.endswith("running_mean"):
                torch.testing.assert_close(network.online.buffers[name][member], value, rtol=1e-4, atol=1e-5)
            elif name.endswith("running_var"):
                start = 0.99**20
                theirs = (value - start) * 15 / 16 + start
                torch.testing.assert_close(network.online.buffers[name][member], theirs, rtol=1e-4, atol=1e-5)


def test_other_passes_go_by_running_statistics_and_leave_them_alone() -> None:
    network = trained([[part("batch_norm")]])
    for step in range(1, 4):
        update(network, step)
    before = copy.deepcopy(network.online.buffers)
    inputs, _ = batch([0], 9)
    one_by_one = [network.online.forward(inputs[:, row : row + 1]) for row in range(inputs.shape[1])]
    torch.testing.assert_close(torch.cat(one_by_one, dim=1), network.online.forward(inputs), rtol=1e-5, atol=1e-6)
    assert all(torch.equal(value, network.online.buffers[name]) for name, value in before.items())
    network.sync_target()
    assert network.target is not None
    assert all(torch.equal(value, network.online.buffers[name]) for name, value in network.target.buffers.items())
    torch.testing.assert_close(network.forward_target(inputs), network.online.forward(inputs))


@pytest.mark.parametrize(("kind", "starts_anew"), [("full_reset", True), ("last_layers", False)])
def test_a_reset_of_the_gains_is_one_of_the_statistics(kind: str, starts_anew: bool) -> None:
    network = trained([[part("batch_norm"), part(kind)]])
    update(network, 1)
    event(network, [0], 1, index=1)
    means = {name: value for name, value in network.online.buffers.items() if name.endswith("running_mean")}
    assert all(not value.any() for value in means.values()) is starts_anew


def test_a_target_that_follows_a_reset_goes_by_the_same_statistics() -> None:
    network = trained([[part("batch_norm"), part("full_reset")]])
    update(network, 1)
    network.sync_target()
    update(network, 2)
    event(network, [0], 2, index=1)
    inputs, _ = batch([0], 3)
    torch.testing.assert_close(network.forward_target(inputs), network.online.forward(inputs), rtol=0, atol=0)


def test_channels_of_a_convolution_have_one_mean_each() -> None:
    network = trained([[part("batch_norm")]], layers=conv_specs())
    update(network, 1, (3, 6, 6))
    inputs, _ = batch([0], 1, (3, 6, 6))
    expected = inputs.mean(dim=(1, 3, 4)) * 0.01
    torch.testing.assert_close(network.online.buffers["input_norm.running_mean"], expected, rtol=1e-4, atol=1e-6)
    assert network.online.buffers["conv1_norm.running_var"].shape == (1, 4)


@pytest.mark.parametrize("kind", ["dqn", "ppo", "sac"])
def test_agents_train_with_it(kind: str) -> None:
    agent = agent_with(kind, CROSSQ_WN, 4)
    for network in agent.trained:
        assert network.online.buffers
        assert torch.isfinite(network.online.flat).all()
        assert all((value != 0).any() for name, value in network.online.buffers.items() if "mean" in name)


@pytest.mark.parametrize("kind", ["aid", "batch_norm"])
def test_an_agent_whose_networks_are_not_ours_refuses_structures_by_name(kind: str) -> None:
    data = small(agent={"kind": "rllib", "algorithm": "DQN"}, methods={"x": {"kind": kind}})
    with pytest.raises(BenchmarkError, match=f"'{kind}' changes how networks are built, which agent kind 'rllib'"):
        from_dict(data)
