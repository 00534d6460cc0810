"""Probes that try something on a network: hand-worked numbers, references, every agent, and no trace in training."""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from small_agents import AGENTS, NUM_ENVS, agent_with, chance, views_of
from torch import Tensor

from plasticbench import plugins
from plasticbench.agents._earned import discounted_returns
from plasticbench.agents.learners import classifier
from plasticbench.contracts.network import LayerView, NetworkView
from plasticbench.contracts.supervised import Batch, PhaseClock
from plasticbench.contracts.task import DiscreteActions, EnvSpec, EnvStep
from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.network import PopulationNetwork
from plasticbench.learning.networks import gpt, resnet18
from plasticbench.learning.optimizers import adam, sgd
from plasticbench.learning.workings import NetworkWorkings
from plasticbench.seeding import Streams, derive_generator

KINDS = [kind for kind in plugins.names("probes") if plugins.load("probes", kind).Config.needs is not None]
CPU = torch.device("cpu")
# Products of these rows with a 1 beside them, over rows: diag(2, 8, 4).
ROWS = [[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]]


def of_linear(
    rows: Sequence[Sequence[float]] = ROWS,
    weight: Sequence[float] = (0.0, 0.0),
    labels: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    optimizer: Any = sgd.Config(learning_rate=0.5, weight_decay=0.0),  # noqa: B008 (it is frozen)
    **known: Any,
) -> NetworkView:
    """One member, outputs ``weight . row`` with a bias of 0, trained on the mean squared error to ``labels``."""
    network = PopulationNetwork([LayerSpec("out", "head", (1, len(weight)))], 1, CPU)
    network.load({"out.weight": torch.tensor([[weight]]), "out.bias": torch.zeros(1, 1)})
    inputs, aim = torch.tensor([rows]), torch.tensor([labels])

    def loss() -> Tensor:
        return (network.forward(inputs).squeeze(-1) - aim).square().mean(1)

    base = adam.Config(learning_rate=0.1, eps=1e-8, weight_decay=0.0)
    workings = NetworkWorkings(
        network=network,
        optimizer=optimizer.build(network, base),
        seeds=[0],
        inputs=inputs,
        followed=network.gradient(loss()),
        loss=loss,
        meaning=known.pop("meaning", {"values": slice(None)}),
        **known,
    )
    layer = LayerView(name="out", weight=network.parameters["out.weight"].detach())
    return NetworkView(name="online", layers=(layer,), features=inputs, workings=workings)


def measure(kind: str, view: NetworkView, **settings: object) -> dict[str, list[float]]:
    probe = plugins.config_from("probes", kind, settings).build()
    return {name: value.tolist() for name, value in probe.measure(view).items()}


def total(kind: str, view: NetworkView, **settings: object) -> float:
    return measure(kind, view, **settings)[""][0]


# Curvature


def test_hessian_of_a_linear_fit_has_the_moments_of_its_rows() -> None:
    view = of_linear()  # 2/4 diag(2, 8, 4) = diag(1, 4, 2)
    assert total("hessian_top", view, iterations=40) == pytest.approx(4.0)
    assert total("hessian_trace", view, samples=1) == pytest.approx(7.0)  # exact, as nothing stands off the diagonal


def test_the_top_eigenvalue_keeps_its_sign() -> None:
    view = of_linear()
    assert view.workings is not None
    plain = view.workings.loss
    upside_down = replace(view, workings=replace(view.workings, loss=lambda: -plain()))
    assert total("hessian_top", upside_down, iterations=40) == pytest.approx(-4.0)


def test_curvature_agrees_with_a_hessian_computed_whole() -> None:
    agent = agent_with("sac", [], updates=5)
    workings = views_of(agent, 32)["critic1"].workings
    (trained,) = (each for each in agent.trained if each.name == "critic1")
    parameters = trained.online.parameters
    batch = agent.probe_batch(np.random.default_rng(0).random((2, 32)))
    workings = replace(workings, loss=lambda: agent.losses(batch)[1])
    direction = torch.nn.functional.normalize(torch.randn(2, sum(v[0].numel() for v in parameters.values())))
    product = workings.curvature()(direction)
    # Of the second member, by differences of the gradient along its direction.
    gradients = []
    for size in (1e-3, -1e-3):
        kept = trained.online.flat.clone()
        moved = workings._flat(direction * torch.tensor([[0.0], [size]]))
        with torch.no_grad():
            trained.online.flat += moved
        gradients.append(workings._matrix(trained.online.gradient(agent.losses(batch)[1]))[1])
        with torch.no_grad():
            trained.online.flat.copy_(kept)
    reference = (gradients[0] - gradients[1]) / 2e-3
    assert torch.nn.functional.cosine_similarity(product[1], reference, dim=0) > 0.98


# Kernels


def test_tangent_kernel_of_a_linear_network_is_that_of_its_rows() -> None:
    share = np.array([2.0, 8.0, 4.0]) / 14
    view = of_linear()
    assert total("ntk_rank", view) == pytest.approx(math.exp(-(share * np.log(share)).sum()), rel=1e-5)
    assert total("ntk_condition", view) == pytest.approx(1e12, rel=1e-3)  # three weights cannot move four rows
    assert total("ntk_condition", view, rows=2) == pytest.approx(1.0)  # products 2, 0, 0, 2
    assert total("ntk_condition", view, rows=3) == pytest.approx(
        (7 + 17**0.5) / (7 - 17**0.5), rel=1e-5
    )  # [[2,0,1],[0,2,1],[1,1,5]]


def test_gradients_that_point_one_way_have_rank_one() -> None:
    assert total("gradient_covariance_rank", of_linear(), rows=2) == pytest.approx(2.0)  # (1, 0, 1) and (-1, 0, 1)
    equal = [[1.0, 0.0], [2.0, 0.0]]
    opposed = of_linear(rows=[equal[0], equal[0]], labels=(1.0, -1.0))
    assert total("gradient_covariance_rank", opposed) == pytest.approx(1.0)
    # A row that fits has no gradient, and counts for nothing.
    assert total("gradient_covariance_rank", of_linear(labels=(0.0, 1.0, 0.0, 0.0))) == pytest.approx(1.0)
    assert total("gradient_covariance_rank", of_linear(labels=(0.0,) * 4)) == 0.0


# One update


def test_value_churn_is_the_mean_change_by_the_next_update() -> None:
    # The gradient at zero weights with labels 1, 1, 1, 3 is -2/4 (0, -4, 6) = (0, 2, -3); half of it is stepped.
    view = of_linear(labels=(1.0, 1.0, 1.0, 3.0))
    # Weights (0, -1), bias 1.5: values 1.5, 1.5, -0.5, 3.5 from zeros.
    assert total("value_churn", view) == pytest.approx((1.5 + 1.5 + 0.5 + 3.5) / 4)
    assert measure("policy_churn", view) == {}
    assert total("policy_churn", of_linear(labels=(1.0, 1.0, 1.0, 3.0), meaning={"means": slice(0, 1)})) == (
        pytest.approx(7.0 / 4)
    )


def test_policy_churn_is_the_share_of_rows_whose_best_action_changes() -> None:
    network = PopulationNetwork([LayerSpec("out", "head", (2, 1))], 1, CPU)
    network.load({"out.weight": torch.tensor([[[1.0], [0.0]]]), "out.bias": torch.zeros(1, 2)})
    inputs = torch.tensor([[[0.1], [1.0], [3.0], [5.0]]])
    workings = NetworkWorkings(
        network=network,
        optimizer=sgd.Config(learning_rate=1.0, weight_decay=0.0).build(network, adam.Config()),
        seeds=[0],
        inputs=inputs,
        followed=network.flatten([torch.zeros(1, 2, 1), torch.tensor([[0.0, -2.0]])]),
        loss=lambda: torch.zeros(1),
        meaning={"action_values": slice(None)},
    )
    # The second action gains 2: it is now better than 0.1 and 1, but not than 3 and 5.
    view = NetworkView(name="online", layers=(), workings=workings)
    assert total("policy_churn", view) == 0.5
    assert total("value_churn", view) == pytest.approx(1.0)  # 0 and 2 by turns


# Optimizers


def test_effective_learning_rate_divides_by_the_norm_or_by_its_square() -> None:
    plain = of_linear(weight=(3.0, 4.0))
    assert measure("effective_learning_rate", plain) == {"": [pytest.approx(0.5 / 25)], "out": [pytest.approx(0.02)]}
    normalised = of_linear(weight=(3.0, 4.0), optimizer=adam.Config())
    assert total("effective_learning_rate", normalised) == pytest.approx(0.1 / 5)


def test_adam_health_counts_idle_parameters_and_weighs_the_others() -> None:
    view = of_linear(optimizer=adam.Config())
    assert total("adam_health", view) == 1.0
    assert view.workings is not None
    moments = view.workings.optimizer.moments
    moments["exp_avg"].copy_(torch.tensor([0.3, -0.2, 5.0]))
    moments["exp_avg_sq"].copy_(torch.tensor([0.25, 0.16, 1e-17]))
    assert measure("adam_health", view) == {"": [pytest.approx(1 / 3)], "out": [pytest.approx(1 / 3)]}
    assert total("adam_health", view, quantity="signal") == pytest.approx((0.6 + 0.5) / 3)
    assert measure("adam_health", of_linear()) == {}  # plain descent keeps no means


# Values


def test_co_adaptation_is_the_mean_product_of_neighbouring_features() -> None:
    later = torch.tensor([[[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]])
    assert total("co_adaptation", of_linear(read_next=lambda: later)) == pytest.approx((2 - 1 + 2 + 0) / 4)
    assert measure("co_adaptation", of_linear()) == {}


def test_overestimation_is_what_values_claim_beyond_what_was_earned() -> None:
    known = of_linear(earned=lambda rows: (torch.tensor([[5.0, 1.0]]), torch.tensor([[2.0, 0.0]])))
    assert total("overestimation", known) == pytest.approx(2.0)
    assert measure("overestimation", of_linear()) == {}


def test_a_return_is_known_where_the_episode_came_to_its_end() -> None:
    reward = np.array([[[1.0], [2.0], [4.0], [8.0], [16.0]]])
    ends, valid = np.zeros((1, 5, 1)), np.ones((1, 5, 1), dtype=bool)
    ends[0, 2] = 1.0  # 1 + 2/2 + 4/4 = 3; the last episode is still going on
    returns = discounted_returns(reward, ends, valid, 0.5)[0, :, 0]
    assert returns.tolist() == pytest.approx([3.0, 4.0, 4.0, math.nan, math.nan], nan_ok=True)
    valid[0, 1] = False  # no transition: an episode was cut short before it
    assert np.isnan(discounted_returns(reward, ends, valid, 0.5)[0, :2, 0]).all()


def test_returns_of_a_replay_are_those_of_its_episodes() -> None:
    agent = agent_with("dqn", [], updates=20)
    slots, outcome, valid = agent.replay.latest_courses(2_000)
    returns = discounted_returns(outcome[..., 0], outcome[..., 1], valid, agent.config.discount)
    assert len(slots) == agent.replay.rows - 1
    for row in range(len(slots) - 1):
        done, known = outcome[0, row, 0, 1] > 0, np.isfinite(returns[0, row, 0])
        if valid[0, row, 0] and known:
            later = 0.0 if done else returns[0, row + 1, 0]
            assert returns[0, row, 0] == pytest.approx(outcome[0, row, 0, 0] + agent.config.discount * later)
    assert np.isfinite(returns).any()


# Learning again


def test_a_fresh_network_is_as_trainable_as_itself() -> None:
    view = views_of(agent_with("dqn", [], updates=1))["online"]  # which is nearly none
    found = measure("trainability", view, updates=20, targets=2, rows=32)[""]
    assert found == pytest.approx([1.0, 1.0], rel=0.3)


def test_units_that_are_dead_cannot_be_trained() -> None:
    agent = agent_with("dqn", [], updates=3)
    healthy = measure("trainability", views_of(agent)["online"], updates=60, targets=2)[""]
    with torch.no_grad():
        agent.q.online.parameters["fc1.bias"][0] = -1e3
    sick, well = measure("trainability", views_of(agent)["online"], updates=60, targets=2)[""]
    assert sick < 0.8 * healthy[0]
    assert well == pytest.approx(healthy[1], rel=1e-4)


def test_a_fresh_head_forgets_how_large_outputs_were() -> None:
    agent = agent_with("dqn", [], updates=3)
    with torch.no_grad():
        agent.q.online.parameters["fc2.weight"] *= 100.0
    view = views_of(agent)["online"]
    kept, fresh = (total("trainability", view, updates=20, targets=1, head=head) for head in ("kept", "fresh"))
    assert kept < 0.5 < fresh


def test_gradient_dormancy_is_of_the_gradient_and_not_of_the_activation() -> None:
    agent = agent_with("dqn", [], updates=3)
    with torch.no_grad():
        agent.q.online.parameters["fc2.weight"][:, :, :6] = 0.0  # half of twelve units are read by nobody
    measured = measure("gradient_dormancy", views_of(agent)["online"])
    assert min(measured["fc1"]) >= 0.5
    assert max(measure("dormant_ratio", views_of(agent)["online"])["fc1"]) < 0.5


# Every agent, and no trace


@pytest.fixture(scope="module")
def trained() -> dict[str, Any]:
    return {kind: agent_with(kind, [], updates=5) for kind in AGENTS}


EXPECTED = MappingProxyType(
    {
        "dqn": {"online": set(KINDS)},
        "ppo": {"shared": set(KINDS) - {"co_adaptation", "overestimation"}},
        "sac": {
            "actor": set(KINDS) - {"co_adaptation", "overestimation", "value_churn"},
            "critic1": set(KINDS) - {"policy_churn"},
        },
    }
)


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_probe_measures_what_an_agent_shows_and_leaves_no_trace(agent: str, kind: str, trained) -> None:
    own = trained[agent]
    before, plain = own.state_dict()
    before, plain = {name: value.clone() for name, value in before.items()}, copy.deepcopy(plain)
    gradients, state = [each.online.flat_grad.clone() for each in own.trained], torch.get_rng_state()
    settings = {"updates": 5} if kind == "trainability" else {}
    views = views_of(own)
    for network, expected in EXPECTED[agent].items():
        first, second = (measure(kind, replace(views[network]), **settings) for _ in range(2))
        assert bool(first) == (kind in expected), network
        assert repr(first) == repr(second)
        assert all(len(values) == 2 for values in first.values())
        assert kind == "overestimation" or all(math.isfinite(value) for value in first.get("", ()))
    after, plain_after = own.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert plain == plain_after
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(g, each.online.flat_grad) for g, each in zip(gradients, own.trained, strict=True))


def first_members(num_members: int) -> NetworkView:
    """The first of two DQNs that meet the same chance whoever is with them."""
    config, spec = AGENTS["dqn"]
    streams = [Streams(seed) for seed in range(num_members)]
    agent = config.build(spec=spec, num_envs=NUM_ENVS, streams=streams, budget_steps=600, device=CPU, parts=())
    rng = derive_generator(0, "chance")
    obs = chance(rng, spec, (2, NUM_ENVS)).obs[:num_members]
    agent.begin(obs)
    for step in range(0, 48, NUM_ENVS):
        answer = EnvStep(*(value[:num_members] for value in chance(rng, spec, (2, NUM_ENVS))))
        agent.observe(agent.act(obs, step), answer)
        obs = answer.obs
        list(agent.learn(step + NUM_ENVS))
    uniforms = derive_generator(0, "probe").random((2, 32))[:num_members]
    return agent.views(agent.probe_batch(uniforms))[0]


@pytest.fixture(scope="module")
def companies() -> list[NetworkView]:
    return [first_members(1), first_members(2)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_measures_the_same_alone_and_in_company(kind: str, companies: list[NetworkView]) -> None:
    settings = {"updates": 5} if kind == "trainability" else {}
    alone, together = (measure(kind, replace(view), **settings) for view in companies)
    assert {name: values[0] for name, values in together.items()} == pytest.approx(
        {name: values[0] for name, values in alone.items()}, rel=1e-3, abs=1e-6, nan_ok=True
    )


def of_modules(network: Any, spec: EnvSpec, inputs: Tensor, labels: Tensor) -> Any:
    streams = [Streams(seed) for seed in range(2)]
    learner = classifier.Classifier(classifier.Config(network=network), spec, streams, CPU)
    batch = Batch(inputs, labels)
    for step in range(2):
        learner.update(batch, step, PhaseClock(step, 10))
    return learner, learner.views(batch)[0]


@pytest.fixture(scope="module")
def modules() -> dict[str, NetworkView]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 12, 1, 8, 8, generator=generator)
    tokens = torch.randint(5, (2, 12, 6), generator=generator)
    rows = {
        "resnet18": (resnet18.Config(width=4), (1, 8, 8), images, torch.randint(3, (2, 12), generator=generator)),
        "gpt": (gpt.Config(num_blocks=1, num_heads=2, width=8), (6,), tokens, tokens.roll(-1, 2)),
    }
    made = {}
    for name, (network, shape, inputs, labels) in rows.items():
        dtype = "int64" if name == "gpt" else "float32"
        spec = EnvSpec(obs_shape=shape, obs_dtype=dtype, actions=DiscreteActions(count=5 if name == "gpt" else 3))
        learner, view = of_modules(network, spec, inputs, labels)
        made[name] = learner, view
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network", ["resnet18", "gpt"])
def test_modules_with_attention_and_running_statistics_are_tried_like_batched_layers(network, kind, modules) -> None:
    learner, view = modules[network]
    before = {name: value.clone() for name, value in learner.state_dict()[0].items()}
    settings = {"updates": 3, "rows": 8} if kind == "trainability" else {}
    measured = measure(kind, replace(view), **settings)
    assert bool(measured) == (plugins.load("probes", kind).Config.needs in ("losses", "policy"))
    assert all(math.isfinite(value) for value in measured.get("", ()))
    after = learner.state_dict()[0]
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_target_network_is_only_looked_at(kind: str, trained) -> None:
    assert measure(kind, views_of(trained["dqn"])["target"]) == {}
