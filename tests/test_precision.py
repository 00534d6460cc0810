"""Products that read bfloat16: near the float32 ones, and everything that is kept or shown is float32."""

import pytest
import torch
from small_runs import small

from plasticbench import plugins
from plasticbench.agents import dqn, ppo, sac
from plasticbench.contracts.task import BoxActions, DiscreteActions, EnvSpec
from plasticbench.learning.blueprint import Blueprint
from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.module_network import ModuleNetwork
from plasticbench.learning.network import PopulationNetwork
from plasticbench.learning.networks import mlp
from plasticbench.learning.trained import TrainedNetwork
from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.plan import make_plan
from plasticbench.seeding import Streams, derive_generator

CPU = torch.device("cpu")
RELATIVE_ERROR = 2**-6  # 8 bits are kept, so each product is off by up to 2**-8 of itself; layers add up
SHAPES = {"mlp": (5,), "minatar_cnn": (4, 10, 10), "gpt": (5,), "module": (5,), "vgg16": (3, 32, 32)}
SETTINGS = {"gpt": {"tied_head": False}, "module": {"target": "test_module_network:Odd"}}
DENSE = [kind for kind in plugins.names("networks") if kind not in ("gpt", "module")]


def built(kind, precision, members=2):
    specs = plugins.config_from("networks", kind, SETTINGS.get(kind, {})).layers(SHAPES.get(kind, (4, 84, 84)), 3)
    make = ModuleNetwork if isinstance(specs, Blueprint) else PopulationNetwork
    made = make(specs, members, CPU, precision)
    made.load(made.draw([derive_generator(seed, "init") for seed in range(members)]))
    return made


def test_a_product_worked_by_hand_is_rounded_to_eight_bits():
    made = PopulationNetwork([LayerSpec("out", "head", (1, 1))], 1, CPU, "bfloat16")
    made.load({"out.weight": torch.tensor([[[1.00390625]]]), "out.bias": torch.zeros(1, 1)})  # 1 + 2**-8 has 9 bits
    assert made.forward(torch.tensor([[[2.0]]])).item() == 2.0
    exact = PopulationNetwork([LayerSpec("out", "head", (1, 1))], 1, CPU)
    exact.load({name: value.detach() for name, value in made.parameters.items()})
    assert exact.forward(torch.tensor([[[2.0]]])).item() == 2.0078125


@pytest.mark.parametrize("kind", DENSE)
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


@pytest.mark.parametrize("members", [1, 3])
def test_members_do_not_depend_on_their_company(members):
    made, alone = built("mlp", "bfloat16", members), built("mlp", "bfloat16", 1)
    x = torch.rand(1, 8, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(made.forward(x.expand(members, -1, -1))[:1], alone.forward(x), rtol=2**-7, atol=2**-8)


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
