"""Weights that are scaled back after every update, and Normalize-and-Project."""

import pytest
import torch
from plain_training import assert_agrees, plain_copy, plain_training
from treated import conv_specs, part, specs, train, trained, update, weights

from plasticbench.learning.networks import simba
from plasticbench.learning.structures import layer_norm
from plasticbench.learning.treatments import nap
from plasticbench.platform.definition.reading import BenchmarkError, from_dict


def hidden_norms(network, member: int) -> dict[str, float]:
    return {
        name: float(v.norm()) for name, v in weights(network, member).items() if name in ("fc1.weight", "fc2.weight")
    }


def test_hidden_weights_keep_their_first_norm_and_the_output_is_free() -> None:
    network = trained([[part("weight_projection")], [part("none")]])
    first = [hidden_norms(network, member) for member in range(2)]
    output = weights(network, 0)["fc3.weight"].norm()
    train(network, 50)
    assert hidden_norms(network, 0) == pytest.approx(first[0], rel=1e-5)
    assert hidden_norms(network, 1) != pytest.approx(first[1], rel=1e-2)
    assert weights(network, 0)["fc3.weight"].norm() != pytest.approx(float(output), rel=1e-2)


@pytest.mark.parametrize("layers", [None, conv_specs()])
def test_rows_of_units_have_length_one(layers) -> None:
    network = trained([[part("weight_projection", preset="crossq_wn")]], layers=layers)
    update(network, 1, (4,) if layers is None else (3, 6, 6))
    first = next(iter(weights(network, 0).values()))
    assert first.flatten(1).norm(dim=1) == pytest.approx(torch.ones(len(first)), rel=1e-5)


def test_members_of_two_rates_agree_with_plain_training_and_scaling() -> None:
    rates = (1.0, 0.25)
    network = trained([[part("weight_projection", rate=rate)] for rate in rates])
    modules = [plain_copy(network, member) for member in range(2)]
    train(network, 20)
    for member, (module, rate) in enumerate(zip(modules, rates, strict=True)):
        layers = [module.get_submodule(name) for name in ("fc1", "fc2")]
        first = [float(layer.weight.detach().norm()) for layer in layers]

        def scale(step: int, layers=layers, first=first, rate=rate) -> None:
            for layer, norm in zip(layers, first, strict=True):
                layer.weight.mul_((norm / layer.weight.norm()) ** rate)

        plain_training(module, member, after=scale)
        assert_agrees(network, member, module)


def test_a_layer_of_zeros_stays() -> None:
    network = trained([[part("weight_projection")]])
    network.online.flat.zero_()
    update(network, 1)
    assert torch.isfinite(network.online.flat).all()


@pytest.mark.parametrize(
    ("layers", "bare"), [(specs(), "fc1, fc2"), (simba.Config(num_blocks=1, width=6).layers((4,), 3), "block1_fc1")]
)
def test_nap_is_refused_without_normalisations_and_taken_with_them(layers, bare) -> None:
    with pytest.raises(ValueError, match=rf"{bare} (has|have) none. Put \{{kind: layer_norm\}} before it"):
        nap.Config().fits(layers)
    nap.Config().fits(layer_norm.Config().layers(layers))


def test_a_benchmark_file_says_so_before_anything_starts() -> None:
    def read(method) -> None:
        from_dict(
            {
                "name": "tiny",
                "environments": [{"kind": "classic", "task": "Acrobot-v1"}],
                "agent": {"kind": "dqn"},
                "methods": {"nap": method},
                "seeds": 2,
                "budget_steps": 10_000,
                "evaluation": {"every_steps": 1_000, "episodes": 5},
            },
            source="bench.yaml",
        )

    with pytest.raises(BenchmarkError, match=r"methods\.nap: 'nap' needs a normalisation"):
        read({"kind": "nap"})
    read([{"kind": "layer_norm"}, {"kind": "nap"}])


def test_projection_behind_a_normalisation_leaves_the_output_as_it_was() -> None:
    network = trained([[part("layer_norm"), part("nap", norms="free")], [part("layer_norm")]], seeds=[0, 0])
    inputs = torch.randn(2, 16, 4, generator=torch.Generator().manual_seed(0))
    inputs[1] = inputs[0]
    for name in ("fc1", "fc2"):
        for kind in ("weight", "bias"):
            network.online.parameters[f"{name}.{kind}"].data.mul_(3.0)
    with torch.no_grad():
        before = network.online.forward(inputs)
    application = network.parts.applications[0]
    application._begun()
    application._treatment.on_update(application._net, application.state, None)
    with torch.no_grad():
        after = network.online.forward(inputs)
    # Biases before a normalisation are not scaled, so only their share differs.
    assert float((after[0] - before[0]).abs().max()) < 0.5 * float(before[0].abs().max())
    assert hidden_norms(network, 0)["fc1.weight"] == pytest.approx(hidden_norms(network, 1)["fc1.weight"] / 3, rel=1e-5)


@pytest.mark.parametrize("preset", ["clean", "decay"])
def test_gains_and_shifts_are_held(preset) -> None:
    network = trained([[part("layer_norm"), part("nap", preset=preset)]])
    gain = network.online.parameters["fc1_norm.weight"].data
    gain.fill_(5.0)
    update(network, 1)
    if preset == "clean":
        shift = network.online.parameters["fc1_norm.bias"].data
        assert float((gain.square().sum() + shift.square().sum()).sqrt()) == pytest.approx(8**0.5, rel=1e-5)
    else:
        assert gain.mean() == pytest.approx(5.0 - 1e-3 * 4.0, abs=0.02)
