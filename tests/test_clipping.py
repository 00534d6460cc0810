"""Gradients held to a largest norm: of each member by itself, of the agent's loss alone, as PyTorch does it."""

import pytest
import torch
from plain_training import assert_agrees, plain_copy
from treated import BASE, batch, part, sample, specs, train, trained, update

from plasticbench.learning.clipping import MemberClipping
from plasticbench.learning.network import ParameterSlot, PopulationNetwork
from plasticbench.learning.trained import TrainedNetwork
from plasticbench.seeding import Streams

CPU = torch.device("cpu")


def _clipped(parts, max_norm, seeds=None):
    streams = [Streams(seed) for seed in (seeds if seeds is not None else range(len(parts)))]
    return TrainedNetwork.build("q", specs(), BASE, streams, CPU, parts=parts, max_gradient_norm=max_norm)


def test_a_member_above_the_norm_is_scaled_down_and_its_neighbour_stays():
    slots = [ParameterSlot("a", 0, 4, (2, 2)), ParameterSlot("b", 4, 6, (2,))]
    gradients = torch.tensor([2.0, 1.0, 0.1, 0.2, 2.0, 0.2])  # members (2, 1 | 2) and (0.1, 0.2 | 0.2): norms 3 and 0.3
    MemberClipping(slots, 1.5)(gradients)
    torch.testing.assert_close(gradients, torch.tensor([1.0, 0.5, 0.1, 0.2, 1.0, 0.2]))


def test_clipping_agrees_with_torch_for_every_member():
    network = PopulationNetwork(specs(), 3, CPU)
    network.flat_grad.normal_(generator=torch.Generator().manual_seed(0))
    for gradient in network.views(network.flat_grad).values():
        gradient.mul_(torch.tensor([0.01, 1.0, 100.0]).view(3, *(1,) * (gradient.ndim - 1)))
    plain = [
        [torch.nn.Parameter(p[member].detach().clone()) for p in network.parameters.values()] for member in range(3)
    ]
    for member, parameters in enumerate(plain):
        for parameter, gradient in zip(parameters, network.views(network.flat_grad).values(), strict=True):
            parameter.grad = gradient[member].clone()
        torch.nn.utils.clip_grad_norm_(parameters, 2.0)
    MemberClipping(network.slots, 2.0)(network.flat_grad)
    for member, parameters in enumerate(plain):
        for parameter, gradient in zip(parameters, network.views(network.flat_grad).values(), strict=True):
            torch.testing.assert_close(gradient[member], parameter.grad)


def test_a_member_whose_gradient_is_not_finite_leaves_the_others_alone():
    slots = [ParameterSlot("a", 0, 4, (2, 2))]
    gradients = torch.tensor([float("nan"), 1.0, 3.0, 4.0])
    MemberClipping(slots, 1.0)(gradients)
    assert gradients[:2].isnan().all()
    torch.testing.assert_close(gradients[2:], torch.tensor([0.6, 0.8]))


def test_training_agrees_with_a_plain_loop_that_clips():
    network = _clipped([(), ()], 0.05)
    plain = [plain_copy(network, member) for member in range(2)]
    train(network, 20)
    for seed, module in enumerate(plain):
        optimizer = torch.optim.Adam(module.parameters(), lr=BASE.learning_rate, eps=BASE.eps)
        for step in range(1, 21):
            inputs, targets = batch([seed], step)
            optimizer.zero_grad()
            (module(inputs[0]) - targets[0]).square().mean().backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 0.05)
            optimizer.step()
        assert_agrees(network, seed, module)


def test_a_bound_that_nothing_reaches_changes_no_bit():
    bounded, free = _clipped([(), ()], 1e6), trained([(), ()])
    train(bounded, 20)
    train(free, 20)
    assert torch.equal(bounded.online.flat, free.online.flat)


def test_what_a_treatment_adds_is_not_clipped():
    strength, bound = 10.0, 1e-3
    network, bare = _clipped([(part("l2_init", strength=strength),)], bound), _clipped([()], bound)
    train(network, 3)
    bare.online.flat.copy_(network.online.flat)
    pull = 2 * strength * (network.online.flat - network.original)
    update(network, 4)
    update(bare, 4)
    assert bare.online.flat_grad.norm().item() == pytest.approx(bound, rel=1e-2)
    torch.testing.assert_close(network.online.flat_grad - bare.online.flat_grad, pull, rtol=1e-4, atol=1e-5)
    assert pull.norm() > 10 * bound


def test_a_penalty_on_activations_is_not_clipped_and_as_large_as_without_a_bound():
    methods = [(part("feature_decorrelation", strength=1e5),), (part("none"),)]
    bounded, free, bare = _clipped(methods, 1e-3), trained(methods), trained([(), ()])
    for network in (bounded, free, bare):
        update(network, 1)
    gradients = [network.online.flat_grad for network in (bounded, free, bare)]
    pull, (member, other) = gradients[1] - gradients[2], range(2)
    for name, value in bounded.online.views(gradients[0]).items():
        by_member = bounded.online.views(pull)[name]
        torch.testing.assert_close(value[member], by_member[member], rtol=1e-3, atol=2e-3)
        assert not by_member[other].any()
    assert pull.norm() > 1e-1
    assert bounded.online.views(pull)["fc3.weight"].norm() == 0.0, "the outputs read what is penalised"


def test_probes_see_the_gradient_as_it_is_and_the_step_that_the_clipped_one_leads_to():
    network, inputs = _clipped([()], 1e-3), batch([0], 1)[0]
    gradients = network.online.flatten(sample(network, 1).gradients.values())
    view = network.view("online", inputs, gradients, None)
    before = network.online.flat.clone()
    update(network, 1)
    moved = network.online.views(network.online.flat - before)
    assert gradients.norm() > 1e-2
    for layer in view.layers:
        assert torch.equal(layer.weight_gradient, network.online.views(gradients)[f"{layer.name}.weight"])
        torch.testing.assert_close(layer.weight_update, moved[f"{layer.name}.weight"])
