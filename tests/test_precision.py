"""Products that read bfloat16: near the float32 ones, and everything that is kept or shown is float32."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_runs import small

from benchmarks.device_cases import Case, filled
from plasticbench import plugins
from plasticbench.agents import dqn, ppo, sac
from plasticbench.contracts.task import BoxActions, DiscreteActions, EnvSpec
from plasticbench.learning.blueprint import Blueprint
from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.module_network import ModuleNetwork
from plasticbench.learning.network import PopulationNetwork
from plasticbench.learning.networks import minatar_cnn, mlp, simba
from plasticbench.learning.trained import TrainedNetwork
from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.plan import make_plan
from plasticbench.seeding import Streams, derive_generator

CPU = torch.device("cpu")
CHEAP_PROBES = [
    kind
    for kind in plugins.names("probes")
    if not any(word in kind for word in ("hessian", "ntk", "trainability", "covariance"))  # they try things for seconds
]
RELATIVE_ERROR = 2**-6  # 8 bits are kept, so each product is off by up to 2**-8 of itself; layers add up
SHAPES = {"mlp": (5,), "minatar_cnn": (4, 10, 10), "vgg16": (3, 32, 32)}
KINDS = [kind for kind in plugins.names("networks") if kind not in ("gpt", "module")]


def built(kind, precision, members=2):
    specs = plugins.config_from("networks", kind, {}).layers(SHAPES.get(kind, (4, 84, 84)), 3)
    make = ModuleNetwork if isinstance(specs, Blueprint) else PopulationNetwork
    made = make(specs, members, CPU, precision)
    made.load(made.draw([derive_generator(seed, "init") for seed in range(members)]))
    return made


def test_a_hidden_product_is_rounded_to_eight_bits_and_an_output_is_not():
    """2 times 1 + 2**-8, which has 9 bits, is 2 where it is rounded; so is a bias of 100.3, to 100.5."""
    specs = [LayerSpec("fc1", "encoder", (1, 1)), LayerSpec("out", "head", (1, 1))]
    values = {"fc1.weight": torch.tensor([[[1.00390625]]]), "fc1.bias": torch.zeros(1, 1)}
    values |= {"out.weight": torch.tensor([[[1.00390625]]]), "out.bias": torch.tensor([[100.3]])}
    hidden = {}
    for precision in ("bfloat16", "float32"):
        made, shown = PopulationNetwork(specs, 1, CPU, precision), []
        made.load(values)
        outputs = made.forward(torch.tensor([[[2.0]]]), shown)
        hidden[precision] = shown[0].item()
        assert outputs.item() == pytest.approx(100.3 + 1.00390625 * hidden[precision], abs=1e-5)
    assert hidden == {"bfloat16": 2.0, "float32": 2.0078125}


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients_lie_near_those_of_float32(kind):
    rounded, exact = (built(kind, precision) for precision in ("bfloat16", "float32"))
    x = torch.rand(2, 8, *SHAPES.get(kind, (4, 84, 84)), generator=torch.Generator().manual_seed(0))
    shown = []
    outputs, expected = rounded.forward(x, shown), exact.forward(x)
    assert {outputs.dtype, *(values.dtype for values in shown)} == {torch.float32}
    assert not torch.equal(outputs, expected)
    assert (outputs - expected).norm() / expected.norm() < 4 * RELATIVE_ERROR
    ours, theirs = (made.gradient(made.forward(x).square().mean(dim=(1, 2))) for made in (rounded, exact))
    assert ours.dtype == torch.float32
    at_least = 0.8 if kind == "vgg16" else 0.97  # 16 layers one behind the other
    assert torch.nn.functional.cosine_similarity(ours, theirs, dim=0) > at_least


def test_members_do_not_depend_on_their_company():
    made, alone = built("mlp", "bfloat16", 3), built("mlp", "bfloat16", 1)
    x = torch.rand(1, 8, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(made.forward(x.expand(3, -1, -1))[:1], alone.forward(x), rtol=2**-7, atol=2**-8)


def spec_of(agent):
    actions = BoxActions(low=(-1.0,), high=(1.0,)) if agent is sac else DiscreteActions(count=2)
    return EnvSpec(obs_shape=(5,), obs_dtype="float32", actions=actions)


@pytest.mark.parametrize("agent", [dqn, sac, ppo])
def test_all_networks_of_an_agent_have_its_precision_and_their_states_are_float32(agent):
    given = {"spec": spec_of(agent), "num_envs": 1, "streams": [Streams(0)], "budget_steps": 1_000, "device": CPU}
    made = agent.Config(precision="bfloat16").build(**given)
    networks = [network for own in made.trained for network in (own.online, own.target) if network is not None]
    assert {network.precision for network in networks} == {"bfloat16"}
    tensors, _ = made.state_dict()
    assert {value.dtype for value in tensors.values() if value.is_floating_point()} == {torch.float32}
    assert {network.precision for own in agent.Config().build(**given).trained for network in [own.online]} == {
        "float32"
    }


CNN = EnvSpec(obs_shape=(4, 10, 10), obs_dtype="float32", actions=DiscreteActions(count=3))
MEASURED = {
    "mlp": Case(name="mlp", config=dqn.Config(network=mlp.Config(hidden=(16, 16))), spec=spec_of(dqn)),
    "cnn": Case(name="cnn", config=dqn.Config(network=minatar_cnn.Config()), spec=CNN),
    "simba": Case(
        name="simba",
        config=sac.Config(actor_network=simba.Config(width=8), critic_network=simba.Config(width=8), batch_rows=32),
        spec=spec_of(sac),
    ),
}


@pytest.mark.parametrize("name", list(MEASURED))
def test_every_probe_measures_the_same_of_networks_that_are_rounded(name):
    found = {}
    for precision in ("float32", "bfloat16"):
        case = MEASURED[name]
        agent = filled(replace(case, config=replace(case.config, precision=precision)), 2, CPU)
        batch = agent.probe_batch(np.random.default_rng(0).random((2, 32)))
        probes = {kind: plugins.load("probes", kind).Config().build() for kind in CHEAP_PROBES}
        found[precision] = {
            f"{kind}/{view.name}/{key}": torch.as_tensor(value)
            for view in agent.views(batch)
            for kind, probe in probes.items()
            for key, value in probe.measure(view).items()
        }
    assert found["float32"].keys() == found["bfloat16"].keys()
    assert any(key.startswith("gradient_dormancy/") for key in found["bfloat16"])
    assert all(value.dtype in (torch.float32, torch.float64, torch.int64) for value in found["bfloat16"].values())


def test_a_value_is_learnt_although_products_are_rounded():
    streams = [Streams(seed) for seed in range(3)]
    base = plugins.config_from("optimizers", "adam", {"learning_rate": 1e-2, "eps": 1e-8, "weight_decay": 0.0})
    specs = mlp.Config(hidden=(32,)).layers((2,), 1)
    trained = TrainedNetwork.build("q", specs, base, streams, CPU, "none", precision="bfloat16")
    assert trained.online.chain is None
    x = torch.rand(3, 64, 2, generator=torch.Generator().manual_seed(0))
    wanted = (x[..., :1] - x[..., 1:]).abs()
    for _ in range(300):
        trained.begin(1)
        loss = (trained.forward(x) - wanted).square().mean(dim=(1, 2))
        trained.descend(loss, 1)
    assert loss.max() < 0.002


def test_only_what_is_rounded_gets_another_trial_id():
    agent = small()["agent"]
    agents = (agent, {**agent, "precision": "float32"}, {**agent, "precision": "bfloat16"})
    plain, same, other = ([trial.id for trial in make_plan(from_dict(small(agent=own))).trials] for own in agents)
    assert plain == same != other
