"""One member that is not finite is one member: its siblings, bit for bit, do not notice."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_agents import AGENTS, NUM_ENVS, chance
from treated import part

from plasticbench.agents import sac
from plasticbench.agents._silence import Silence, faults
from plasticbench.contracts.task import BoxActions, DiscreteActions, EnvSpec, EnvStep
from plasticbench.contracts.treatment import Part
from plasticbench.learning.treatments._polar import project
from plasticbench.seeding import Streams, derive_generator

MEMBERS, BAD = 4, 1
METHODS: dict[str, list[Part]] = {
    "none": [part("none")],
    "fire": [part("fire")],
    "several": [part("l2_init", strength=1e-3), part("continual_backprop"), part("muon"), part("redo")],
}


class ChanceWorld:
    """Environments of nothing but chance, one stream each, whatever the members do."""

    def __init__(self, spec: EnvSpec, num_members: int) -> None:
        self.spec, self.shape = spec, (num_members, NUM_ENVS)
        self.rng = derive_generator(0, "world")
        self.obs, self.ended = chance(self.rng, spec, self.shape).obs, np.zeros(self.shape, dtype=bool)
        self.spoil = lambda step: step
        self.actions: list[np.ndarray] = []

    def step(self, action: np.ndarray) -> EnvStep:
        self.actions.append(action)
        step = self.spoil(chance(self.rng, self.spec, self.shape))
        self.obs, self.ended = step.obs, step.terminated | step.truncated
        return step


def built(kind: str, method: str, **changes: Any) -> tuple[Any, ChanceWorld]:
    config, spec = AGENTS[kind]
    agent = replace(config, **changes).build(
        spec=spec,
        num_envs=NUM_ENVS,
        streams=[Streams(seed) for seed in range(MEMBERS)],
        budget_steps=600,
        device=torch.device("cpu"),
        parts=[METHODS[method]] * MEMBERS,
    )
    world = ChanceWorld(spec, MEMBERS)
    agent.begin(world.obs)
    return agent, world


def train(agent: Any, world: ChanceWorld, updates: int, step: int = 0) -> int:
    made = 0
    while made < updates:
        made += sum(1 for _ in agent.advance(world, step))
        step += NUM_ENVS
    return step


def tensors_of(agent: Any) -> dict[str, torch.Tensor]:
    found = {f"{t.name}/{k}": v for t in agent.trained for k, v in t.state_dict().items() if "treatment" not in k}
    return {name: tensor.clone() for name, tensor in found.items()}


def assert_siblings_equal(agent: Any, healthy: Any, members: int = MEMBERS) -> None:
    siblings = [m for m in range(members) if m != BAD]
    ours, theirs = tensors_of(agent), tensors_of(healthy)
    different = [name for name, value in ours.items() if not torch.equal(value[siblings], theirs[name][siblings])]
    assert different == []


def poison_weight(agent: Any, world: ChanceWorld) -> None:
    next(iter(agent.trained[0].online.parameters.values())).data[BAD, 0, 0] = torch.nan


def poison_reward(agent: Any, world: ChanceWorld) -> None:
    def spoil(step: EnvStep) -> EnvStep:
        reward = step.reward.copy()
        reward[BAD, 1] = np.inf
        return step._replace(reward=reward)

    world.spoil = spoil


def poison_observation(agent: Any, world: ChanceWorld) -> None:
    def spoil(step: EnvStep) -> EnvStep:
        obs = step.obs.copy()
        obs[BAD, 0].reshape(-1)[3] = np.nan
        return step._replace(obs=obs)

    world.spoil = spoil


POISONS = {
    "weight": (poison_weight, "parameter {network}.{layer}.weight"),
    "reward": (poison_reward, "reward of environment 1"),
    "observation": (poison_observation, "observation 3 of environment 0"),
}


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("method", ["none", "fire", "several"])
@pytest.mark.parametrize("kind", ["dqn", "ppo", "sac"])
def test_siblings_are_bit_equal_over_updates_and_events_and_the_bad_one_is_zeros(kind, method, poison):
    """The weights are poisoned between two looks, so that updates are made with them first."""
    (agent, world), (healthy, undisturbed) = built(kind, method), built(kind, method)
    for one, its_world in ((agent, world), (healthy, undisturbed)):
        step = train(one, its_world, 5)
        if one is agent:
            POISONS[poison][0](agent, world)
        step = train(one, its_world, 20, step)
        one.check_finite()
        before = one.probe_batch(derive_generator(0, "probe").random((MEMBERS, 32)))
        for index, own in enumerate(METHODS[method]):
            if own.kind in ("none", "fire", "redo"):
                one.treat(range(MEMBERS), index, step, before)
        one.check_finite()
        train(one, its_world, 30, step)
    assert healthy.not_finite == {}
    network = agent.trained[0]
    named = POISONS[poison][1].format(network=network.name, layer=network.online.specs[0].name)
    assert agent.not_finite == {BAD: named}
    assert_siblings_equal(agent, healthy)
    for name, tensor in tensors_of(agent).items():
        if "adam_steps" not in name and "original" not in name:
            assert not tensor[BAD].any(), name


@pytest.mark.parametrize("kind", ["dqn", "ppo", "sac"])
def test_a_silent_member_reads_and_does_nothing(kind):
    agent, world = built(kind, "none")
    step = train(agent, world, 5)
    agent.silence({BAD: "reward of environment 0"})
    world.actions.clear()
    train(agent, world, 20, step)
    assert all((action[BAD] == 0).all() for action in world.actions)
    assert any((action[BAD + 1] != 0).any() for action in world.actions)
    batch = agent.probe_batch(derive_generator(0, "probe").random((MEMBERS, 32)))
    seen, earned = (batch.obs, batch.target) if kind == "ppo" else (batch.frames, batch.reward)
    assert not seen[BAD].any()
    assert not earned[BAD].any()
    assert seen[BAD + 1].any()


def test_actions_that_are_not_finite_never_reach_an_environment():
    agent, world = built("sac", "none")
    step = train(agent, world, 5)
    agent.actor.online.parameters["fc1.weight"].data[BAD] = torch.nan
    train(agent, world, 1, step)
    assert all(np.isfinite(action).all() for action in world.actions)
    assert agent.not_finite == {BAD: "parameter actor.fc1.weight"}


def test_running_statistics_and_temperature_of_a_silent_member_stay_finite_and_those_of_siblings_equal():
    (agent, world), (healthy, undisturbed) = (built("sac", "none", observation_norm="running") for _ in range(2))
    poison_observation(agent, world)
    train(agent, world, 40)
    train(healthy, undisturbed, 40)
    ours, theirs = agent.state_dict()[0], healthy.state_dict()[0]
    siblings = [m for m in range(MEMBERS) if m != BAD]
    for name in (name for name in ours if name.startswith(("observations/", "temperature/"))):
        assert ours[name].isfinite().all(), name
        assert torch.equal(ours[name][siblings], theirs[name][siblings]), name
    assert ours["temperature/log_alpha"][BAD] == np.float32(np.log(sac.Config().temperature_start))


def test_the_first_fault_of_each_member_is_named():
    values = np.zeros((3, 2, 4), dtype=np.float32)
    values[0, 1, 2], values[0, 1, 3], values[2, 0, 0] = np.nan, np.inf, -np.inf
    reward = np.array([[0, 0], [0, np.nan], [0, np.inf]], dtype=np.float32)
    assert faults({"reward": reward, "observation": values}) == {
        0: "observation 2 of environment 1",
        1: "reward of environment 1",
        2: "reward of environment 1",
    }
    assert faults({"observation": np.full((2, 2, 3), 255, dtype=np.uint8)}) == {}


@pytest.mark.parametrize(
    ("actions", "idle"), [(DiscreteActions(count=5), 0), (BoxActions(low=(1.0, -2.0), high=(3.0, 2.0)), [2.0, 0.0])]
)
def test_a_silent_member_acts_in_the_middle_of_what_is_allowed(actions, idle):
    silent = Silence(EnvSpec(obs_shape=(2,), obs_dtype="float32", actions=actions))
    silent.reasons[1] = "reward"
    action = np.full((2, 3, *np.shape(idle)), np.nan, dtype=np.float32)
    assert silent.acted(action)[1].tolist() == [idle] * 3
    assert np.isnan(silent.acted(action)[0]).all()


def test_an_exact_projection_sees_no_matrix_that_is_not_finite():
    torch.manual_seed(0)
    weights = torch.randn(3, 5, 4)
    alone = project([weights], solver="svd")[0]
    weights[1, 2, 2] = torch.inf
    factors = project([weights], solver="svd")[0]
    assert torch.equal(factors[[0, 2]], alone[[0, 2]])
    assert factors[1].isnan().all()


def test_what_rllib_is_shown_stays_finite_to_the_end_of_its_round():
    from plasticbench.agents.rllib.env import WorldEnv

    spec = EnvSpec(obs_shape=(3,), obs_dtype="float32", actions=DiscreteActions(count=2))
    env, world = WorldEnv(spec), ChanceWorld(spec, 1)
    world.shape = (1, 1)
    world.spoil = lambda step: step._replace(reward=np.full((1, 1), np.nan, dtype=np.float32))
    env.world = world
    _, reward, *_ = env.step(np.array([1]))
    assert reward.tolist() == [0.0]
    assert env.faults == {0: "reward of environment 0"}
