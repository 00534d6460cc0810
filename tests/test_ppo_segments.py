"""PPO through the whole platform: forks, resume, records of every network, and what its settings are told."""

import itertools

import pytest
from small_runs import facts, prepare, run_all, small

from plasticbench.platform.definition.reading import BenchmarkError, from_dict
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.training.segment import SegmentRun

MLP = {"kind": "mlp", "hidden": [8], "initializer": "orthogonal"}
AGENT = {"kind": "ppo", "network": MLP, "critic_network": MLP, "rollout_steps": 48, "epochs": 2, "learning_rate": 0.01}
METHODS = {
    "none": {"kind": "none"},
    "full_reset": {"kind": "full_reset"},
    "shrink_perturb": {"kind": "shrink_perturb"},
    "fire": {"kind": "fire"},
}
NORMED = {"observation_norm": "running", "reward_norm": "running", "learning_rate_schedule": "linear"}
RUNS = {
    "choices": (AGENT, "CartPole-v1", "clear"),
    "vectors": (AGENT | NORMED | {"target_kl": 0.01}, "Pendulum-v1", "keep"),
}


def data(name, **changes):
    agent, task, rule = RUNS[name]
    scenario = {"kind": "observation_permutation", "at": [0.25, 0.5], "replay": rule}
    environment = {"kind": "classic", "task": task, "num_envs": 2, "scenario": scenario}
    return small(**({"environments": [environment], "agent": agent, "methods": METHODS} | changes))


@pytest.mark.parametrize("name", RUNS)
def test_stopping_and_going_on_in_the_middle_of_rollouts_changes_no_record(name, tmp_path):
    undisturbed = run_all(tmp_path / "undisturbed", data(name))
    plan = prepare(tmp_path / "run", data(name))
    for segment in plan.segments:
        for _ in itertools.count():
            countdown = itertools.count(1)
            run = SegmentRun(tmp_path / "run", segment.id)
            if run.run(should_stop=lambda countdown=countdown: next(countdown) >= 37):
                break
    whole = facts(tmp_path / "undisturbed", undisturbed)
    assert facts(tmp_path / "run", plan) == whole
    names = {name for _, name, _ in whole["fire", 0]}
    for network in ("actor", "critic"):
        assert {f"plasticity/{network}/weight_norm", f"reset/{network}/sfe", f"loss/{network}"} <= names
    assert {"policy/entropy", "policy/approx_kl", "policy/clip_fraction", "q/bound_ratio"} <= names
    assert not any("target" in name for name in names)


def test_a_change_that_clears_forgets_the_rollout_under_way(tmp_path):
    """Of 400 steps rollouts of 48 fill up from 0, from the change at 100 and from that at 200: 2, 2 and 4 of them."""
    plan = prepare(tmp_path, data("choices", methods={"none": {"kind": "none"}}))
    for segment in plan.segments:
        run = SegmentRun(tmp_path, segment.id)
        assert run.run()
    assert run._trainer.agent.updates_made == (2 + 2 + 4) * 2 * 4


def problems_of(**changes):
    with pytest.raises(BenchmarkError) as error:
        make_plan(from_dict(data("choices", **changes)))
    return str(error.value)


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("replay_ratio", 1.0, "agent.replay_ratio: there is no such setting. a rollout is learnt from and forgotten"),
        ("recurrent", True, "agent.recurrent: there is no such setting. networks have no memory"),
        ("clip_coef", 0.1, "agent.clip_coef: there is no such setting. Here it is called 'ratio_clip'."),
        ("minibatches", 5, "agent.minibatches: must divide rollout_steps (48) evenly, got 5"),
        ("minibatches", 48, "agent.minibatches: must leave at least 2 of rollout_steps (48) in each, as one row alone"),
        ("rollout_steps", 500, "agent.rollout_steps: must be at most the budget of 400, got 500"),
        ("rollout_steps", 45, "agent.rollout_steps: must be a multiple of the 2 environments, which step together"),
        ("trunk", "shared", "agent.critic_network: this setting has no effect: the critic reads what the actor reads"),
    ],
)
def test_settings_that_cannot_be_are_answered(setting, value, expected):
    minibatches = {"minibatches": 3} if setting == "rollout_steps" and value == 45 else {}
    assert expected in problems_of(agent=AGENT | minibatches | {setting: value})


def test_sampled_evaluation_of_vectors_is_refused():
    environment = {"kind": "classic", "task": "Pendulum-v1", "num_envs": 2}
    agent = AGENT | {"evaluation_policy": "sampled"}
    told = problems_of(environments=[environment], agent=agent)
    assert "agent: does not fit 'Pendulum-v1': evaluation_policy: must be mode for continuous actions" in told


def test_what_has_nothing_to_act_on_on_the_outputs_of_a_shared_network_is_refused_by_name():
    agent = {name: value for name, value in AGENT.items() if name != "critic_network"} | {"trunk": "shared"}
    methods = {
        "fire": {"kind": "fire", "networks": "actor"},
        "norm": {"kind": "layer_norm", "networks": "critic"},
        "muon": {"kind": "muon", "networks": "actor"},
        "typo": {"kind": "full_reset", "networks": "actr"},
    }
    told = problems_of(agent=agent, methods=METHODS | methods)
    assert "methods.fire.layers: must select at least one layer of policy (head), got 'hidden'" in told
    assert "methods.norm.networks: 'layer_norm' is what a whole network is built with, and 'critic' is a part" in told
    assert "methods.muon.networks: 'muon' is what a whole network is built with, and 'actor' is a part of one" in told
    assert "methods.typo.networks: must name networks of agent kind 'ppo', got 'actr'. Did you mean 'actor'?" in told


def test_rules_for_targets_that_are_not_there_have_no_effect():
    told = problems_of(methods={"hare": {"kind": "full_reset", "target": "sync"}})
    assert "methods.hare.target: this setting has no effect: actor and critic has no target network" in told


def test_resets_placed_on_actor_or_critic_share_their_training_until_the_first_event(tmp_path):
    agent = {name: value for name, value in AGENT.items() if name != "critic_network"} | {"trunk": "shared"}
    methods = {"none": {"kind": "none"}} | {
        name: {"kind": "full_reset", "networks": name} for name in ("actor", "critic", "all")
    }
    plan = run_all(tmp_path, data("choices", agent=agent, methods=methods, resets={"at": [0.5]}))
    assert [len(segment.members) for segment in plan.segments] == [2, 8]
    whole = facts(tmp_path, plan)
    before = {
        method: [fact for fact in whole[method, 0] if fact[0] < 200 and not fact[1].startswith("reset")]
        for method in methods
    }
    assert all(before["none"] == own for own in before.values())
    assert "plasticity/shared/weight_norm/value" in {name for _, name, _ in whole["critic", 0]}
