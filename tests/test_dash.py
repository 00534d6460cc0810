"""DASH: shrinking by direction."""

import pytest
import torch
from plain_training import plain_copy
from treated import BASE, batch, conv_specs, event, part, train, trained, update, weights


def test_directions_are_multiplied_by_their_cosine_with_the_descent_and_held_at_the_bound() -> None:
    network = trained([[part("dash", least_kept=0.3)]])
    update(network, 1)
    (application,) = network.parts.applications
    assert application.state is not None
    weight, mean = network.online.parameters["fc1.weight"].data[0], application.state["fc1.weight"][0]
    weight.zero_()
    mean.zero_()
    weight[:3, 0] = 5.0
    mean[0, 0] = 2.0  # along
    mean[1, :2] = torch.tensor([3.0, 4.0])  # cosine 0.6
    mean[2, 0] = -1.0  # against
    event(network, [0], 1)
    assert weight[:3, 0].tolist() == pytest.approx([5.0, 3.0, 1.5])


def test_the_running_mean_and_the_event_agree_with_a_plain_loop() -> None:
    alphas_least = (0.1, 0.4)
    network = trained([[part("dash", alpha=alphas_least[0], least_kept=alphas_least[1])]])
    module = plain_copy(network, 0)
    train(network, 20)
    event(network, [0], 20)
    optimizer = torch.optim.Adam(module.parameters(), lr=BASE.learning_rate, eps=BASE.eps)
    means = [torch.zeros_like(parameter) for parameter in module.parameters()]
    for step in range(1, 21):
        inputs, targets = batch([0], step)
        optimizer.zero_grad()
        (module(inputs[0]) - targets[0]).square().mean().backward()
        for mean, parameter in zip(means, module.parameters(), strict=True):
            mean.mul_(0.9).sub_(0.1 * parameter.grad)
        optimizer.step()
    for (name, parameter), mean in zip(module.named_parameters(), means, strict=True):
        rows = parameter.detach() if parameter.ndim == 2 else parameter.detach()[None]
        cosine = torch.nn.functional.cosine_similarity(rows, mean if mean.ndim == 2 else mean[None], dim=1)
        expected = (rows * cosine.clamp(0.4, 1.0)[:, None]).view_as(parameter)
        torch.testing.assert_close(weights(network, 0)[name], expected, rtol=1e-4, atol=1e-5)


def test_of_a_convolution_each_kernel_is_a_direction() -> None:
    network = trained([[part("dash", least_kept=0.0)]], layers=conv_specs())
    update(network, 1, (3, 6, 6))
    (application,) = network.parts.applications
    assert application.state is not None
    kernel, mean = network.online.parameters["conv1.weight"].data[0], application.state["conv1.weight"][0]
    mean.copy_(kernel)
    mean[0, 0].neg_()
    before = kernel.clone()
    event(network, [0], 1, shape=(3, 6, 6))
    assert float(kernel[0, 0].abs().max()) == 0.0
    torch.testing.assert_close(kernel[0, 1:], before[0, 1:], rtol=1e-5, atol=1e-6)
