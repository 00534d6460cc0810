"""All treatments, structures and optimizers on PPO: members alone and in company, interrupted, and where they act."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from contract import EXAMINED, KINDS, acts, company, examined
from small_ppo import CHOICE, CONFIG, NUM_ENVS, VECTOR, Drift, built, train
from treated import part

from plasticbench.learning.networks import mlp
from plasticbench.seeding import derive_generator

RELU = mlp.Config(hidden=(8, 6), initializer="torch_default")
SMALL = replace(CONFIG, network=RELU, critic_network=RELU, rollout_steps=16, epochs=2, minibatches=2)
SHARED = replace(SMALL, trunk="shared")
CASES = [(kind, "separate") for kind in KINDS] + [
    pytest.param(kind, "shared", marks=pytest.mark.slow) for kind in KINDS
]


def case(trunk):
    return (SHARED, VECTOR) if trunk == "shared" else (SMALL, CHOICE)


def events(agent, step):
    """The events of all members that have one, member by member."""
    for member, own in enumerate(agent.parts):
        for index, one in enumerate(own):
            if acts(one.kind, "event"):
                rows = [derive_generator(agent.streams[member].seed, "probe", step).random(12)] * agent.num_members
                batch = agent.probe_batch(np.stack(rows))
                agent.treat([member], index, step, batch)


def trained_with(methods, seeds, trunk, clocks=(20, 52)):
    """After an event in the middle of a rollout, and updates that follow it."""
    config, spec = case(trunk)
    agent, env = built(seeds, config, spec, parts=methods), Drift(len(seeds))
    train(agent, env, clocks[0])
    events(agent, clocks[0])
    train(agent, env, clocks[1], clocks[0])
    return agent, env


def own_tensors(agent, member):
    found = {}
    for name, tensor in agent.state_dict()[0].items():
        if "/treatment/" not in name:
            found[name] = tensor[member].clone()
    for network in agent.trained:
        for application in network.parts.applications:
            members = list(range(*application.members.indices(agent.num_members)))
            if member in members:
                for name, tensor in (application.state or {}).items():
                    found[f"{network.name} {application.index} {name}"] = tensor[members.index(member)].clone()
    return found


@pytest.mark.parametrize(("kind", "trunk"), CASES)
def test_members_in_company_train_as_they_do_alone(kind, trunk):
    methods = examined(kind, "clean")
    together, _ = trained_with(company(methods), range(5), trunk)
    for member, method in zip(EXAMINED, methods, strict=True):
        alone, _ = trained_with([method], [member], trunk)
        ours, theirs = own_tensors(together, member), own_tensors(alone, 0)
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            torch.testing.assert_close(value, theirs[name], rtol=1e-4, atol=1e-5, msg=lambda t, n=name: f"{n}: {t}")
        assert all(value.isfinite().all() for value in ours.values())


@pytest.mark.parametrize(("kind", "trunk"), CASES)
def test_a_population_resumed_in_the_middle_of_a_rollout_goes_on_bit_equal(kind, trunk):
    methods = company(examined(kind, "clean"))
    agent, env = trained_with(methods, range(5), trunk, clocks=(20, 38))
    tensors, plain = agent.state_dict()
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    resumed, its_env = built(range(5), *case(trunk), parts=methods), Drift(5)
    resumed.load_state_dict(tensors, plain, range(5))
    its_env.obs, its_env.age = env.obs.copy(), env.age.copy()
    for one, world in ((agent, env), (resumed, its_env)):
        events(one, 38)
        train(one, world, 52, 38)
    ours, theirs = resumed.state_dict()[0], agent.state_dict()[0]
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


# -- where resets act -------------------------------------------------------------------------------------------------

PLACES = {
    ("separate", "all"): {"actor", "critic"},
    ("separate", "actor"): {"actor"},
    ("separate", "critic"): {"critic"},
    ("separate", "critics"): {"critic"},
    ("shared", "all"): {"fc1", "fc2", "mean", "log_std", "value"},
    ("shared", "shared"): {"fc1", "fc2", "mean", "log_std", "value"},
    ("shared", "actor"): {"mean", "log_std"},
    ("shared", "critic"): {"value"},
    ("shared", "critics"): {"value"},
}


@pytest.mark.parametrize(("trunk", "networks"), PLACES)
def test_a_reset_rewrites_actor_critic_or_both_and_begins_their_optimizers_anew(trunk, networks):
    method = [part("full_reset", networks=networks)]
    config, spec = case(trunk)
    agent, env = built([0, 1], config, spec, parts=[method, [part("none")]]), Drift(2)
    train(agent, env, 64)
    before = {name: tensor.clone() for name, tensor in agent.state_dict()[0].items()}
    agent.treat([0], 0, 64, None)
    after = agent.state_dict()[0]
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert all(torch.equal(before[name][1], after[name][1]) for name in before), "nobody else is touched"
    place = 0 if trunk == "separate" else 2  # actor/online/fc1.weight, shared/online/fc1.weight
    written = {name.replace(".", "/").split("/")[place] for name in changed if "/online/" in name}
    assert written == PLACES[trunk, networks]
    for name in changed:
        if "/exp_avg" in name:
            assert not after[name][0].any()
            assert name.replace(".", "/").split("/")[place] in written
    if trunk == "separate":
        assert (after["actor/adam_steps"][0] == 0).all() == ("actor" in written)


@pytest.mark.parametrize("kind", ["full_reset", "none", "optimizer_reset"])
def test_what_a_policy_did_before_it_was_rewritten_is_not_learnt_from(kind):
    agent, env = built([0, 1], SMALL, parts=[[part(kind)], [part("none")]]), Drift(2)
    train(agent, env, 22)
    agent.treat([0], 0, 22, None)
    train(agent, env, 32, 22)
    weight = agent.rollouts.learnt.weight.view(2, -1, NUM_ENVS)
    rewritten = kind == "full_reset"
    assert weight[0, :3].any() == (not rewritten)
    assert weight[0, 3:].any()
    assert weight[1, :3].any()


def test_treatments_of_one_population_may_be_placed_on_different_sections_of_a_shared_network():
    methods = [[part("full_reset", networks=networks)] for networks in ("actor", "critic", "all")]
    agent, env = built([0, 0, 0], SHARED, VECTOR, parts=methods), Drift(3)
    train(agent, env, 32)
    before = agent.trained[0].online.flat.clone()
    views = agent.trained[0].online.views
    agent.treat(range(3), 0, 32, None)
    now, then = views(agent.trained[0].online.flat), views(before)
    changed = {n: [not torch.equal(now[n][m], then[n][m]) for m in range(3)] for n in ("mean.weight", "value.weight")}
    assert changed == {"mean.weight": [True, False, True], "value.weight": [False, True, True]}
    assert [not torch.equal(now["fc1.weight"][m], then["fc1.weight"][m]) for m in range(3)] == [False, False, True]
