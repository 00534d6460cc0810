"""Penalties on what layers pass on, taken back through the pass that was trained on."""

import torch
from treated import batch, conv_specs, part, trained


def test_what_goes_back_is_the_gradient_that_automatic_differentiation_finds() -> None:
    network = trained([[part("l2")], [part("none")], [part("l2")]], layers=conv_specs())
    inputs, targets = batch([0, 1, 2], 1, (3, 6, 6))
    loss = (network.forward(inputs) - targets).square().mean(dim=(1, 2))
    loss.sum().backward(retain_graph=True)
    application = network.parts.applications[0]
    look = application._look(1, application.members, network.last_sample())
    passed_on = look.activations
    pulls = {name: torch.randn_like(passed_on[name]) for name in ("conv2", "fc1")}
    found = look.pass_back(pulls)
    values = {name: p.detach()[application.members].requires_grad_() for name, p in network.online.parameters.items()}
    _, again = look.evaluate(values, inputs[application.members])
    total = sum((pulls[name] * again[name]).sum() for name in pulls)
    expected = torch.autograd.grad(total, list(values.values()), allow_unused=True)
    assert found.keys() == {name for name, gradient in zip(values, expected, strict=True) if gradient is not None}
    assert "fc2.weight" not in found
    for name, gradient in zip(values, expected, strict=True):
        if gradient is not None:
            torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)
