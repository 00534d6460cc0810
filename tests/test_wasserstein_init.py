"""The Wasserstein distance to the initialisation."""

from types import SimpleNamespace

import pytest
import torch
from plain_training import assert_agrees, plain_copy, plain_training
from treated import part, train, trained, update, weights

from plasticbench.contracts.network import LayerState, NetworkState, ParameterState
from plasticbench.learning.treatments import wasserstein_init


@pytest.mark.parametrize(("reduction", "divisor"), [("sum", 1.0), ("mean", 3.0)])
def test_each_value_is_drawn_to_the_initial_value_of_its_rank(reduction, divisor) -> None:
    value, original = torch.tensor([[5.0, 1.0, 2.0]]), torch.tensor([[0.0, 4.0, 3.0]])
    weight = ParameterState(value, lambda: value, original=original, gradient=torch.zeros(1, 3))
    net = NetworkState([], norms=[LayerState("norm", "encoder", False, weight)])
    treatment = wasserstein_init.Config(strength=0.5, reduction=reduction).build()
    treatment.on_gradient(net, treatment.init(net), SimpleNamespace())  # type: ignore[arg-type]
    assert weight.gradient is not None
    # Sorted: 1, 2, 5 against 0, 3, 4.
    assert weight.gradient[0].tolist() == pytest.approx([1.0 / divisor, 1.0 / divisor, -1.0 / divisor])


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_members_of_two_strengths_agree_with_plain_training_under_the_penalty(reduction) -> None:
    strengths = (1e-2, 3e-1)
    network = trained([[part("wasserstein_init", strength=s, reduction=reduction)] for s in strengths])
    modules = [plain_copy(network, member) for member in range(2)]
    train(network, 20)
    for member, (module, strength) in enumerate(zip(modules, strengths, strict=True)):
        first = [parameter.detach().flatten().sort().values for parameter in module.parameters()]

        def penalty(module=module, first=first, strength=strength):
            pairs = zip(module.parameters(), first, strict=True)
            return strength * sum(getattr((p.flatten().sort().values - q).square(), reduction)() for p, q in pairs)

        plain_training(module, member, penalty=penalty)
        assert_agrees(network, member, module)


def test_exchanged_weights_are_as_far_from_the_initialisation_as_before() -> None:
    """The distance knows no places: after turning a layer's values round, the first update is that of none."""
    treated, untreated = trained([[part("wasserstein_init", strength=10.0)]]), trained([[part("none")]])
    for network in (treated, untreated):
        values = network.online.parameters["fc1.weight"].data
        values.copy_(values.flip(1))
        update(network, 1)
    ours, theirs = weights(treated, 0), weights(untreated, 0)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-5, atol=1e-6)
