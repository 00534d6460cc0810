"""Soft shrink and perturb."""

import pytest
import torch
from plain_training import assert_agrees, plain_copy, plain_training
from treated import part, train, trained, weights

from plasticbench.learning.treatments import soft_shrink_perturb
from plasticbench.seeding import Streams


def applied(network, updates: int = 1) -> None:
    (application,) = network.parts.applications
    for _ in range(updates):
        treatment, state = application._treatment, application._begun()
        treatment.on_update(application._net, state, application._look(1, application.members, None))


def test_a_weight_becomes_what_is_kept_of_it_plus_noise_times_the_first_initialisation() -> None:
    network = trained([[part("soft_shrink_perturb", shrink=0.25, noise=0.5, init_source="original")]])
    network.online.flat.fill_(8.0)
    applied(network)
    assert torch.allclose(network.online.flat, 6.0 + 0.5 * network.original)


def test_fresh_values_come_from_the_treatments_own_stream() -> None:
    network = trained([[part("soft_shrink_perturb", shrink=1.0, noise=1.0)]])
    applied(network)
    drawn = network.online.draw([Streams(0)["treatment/q/soft_shrink_perturb"]])
    for name, value in weights(network, 0).items():
        assert torch.equal(value, drawn[name][0]), name


def test_each_update_draws_anew() -> None:
    network = trained([[part("soft_shrink_perturb", shrink=1.0, noise=1.0)]])
    applied(network)
    first = weights(network, 0)["fc1.weight"]
    applied(network)
    assert not torch.equal(weights(network, 0)["fc1.weight"], first)


def test_members_of_two_strengths_agree_with_plain_training_that_decays_to_the_first_weights() -> None:
    strengths = ((0.1, 0.1), (0.02, 0.05))
    methods = [[part("soft_shrink_perturb", shrink=s, noise=n, init_source="original")] for s, n in strengths]
    network = trained(methods)
    modules = [plain_copy(network, member) for member in range(2)]
    train(network, 20)
    for member, (module, (shrink, noise)) in enumerate(zip(modules, strengths, strict=True)):
        first = [parameter.detach().clone() for parameter in module.parameters()]

        def soften(step: int, module=module, first=first, shrink=shrink, noise=noise) -> None:
            for parameter, initial in zip(module.parameters(), first, strict=True):
                parameter.mul_(1 - shrink).add_(noise * initial)

        plain_training(module, member, after=soften)
        assert_agrees(network, member, module)


@pytest.mark.parametrize(("preset", "source"), [("clean", "fresh"), ("plasticine", "original")])
def test_presets_differ_in_where_initial_values_come_from(preset, source) -> None:
    assert soft_shrink_perturb.PRESETS[preset].init_source == source
