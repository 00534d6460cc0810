"""Agents with every setting that codes differ in: interrupted or not, they leave the same records."""

import itertools

import pytest
from small_runs import facts, prepare, run_all, small

from plasticbench.platform.training.segment import SegmentRun

MLP = {"kind": "mlp", "hidden": [16]}
SCENARIO = {"kind": "observation_permutation", "at": [0.25, 0.5], "replay": "keep"}
BURSTS = {"n_step": 3, "max_gradient_norm": 0.5, "update_clock": "before_step", "capacity_transitions": 200}
AGENTS = {
    "CartPole-v1": {
        "kind": "dqn", "network": MLP, "loss": "squared", "update_period_steps": 12, "target_period_updates": 7,
        "target_tau": 0.5, "warm_up_actions": "uniform", "epsilon_decay_begins": "first_step",
        "optimizer": {"kind": "rmsprop", "preset": "minatar", "momentum": 0.5}, "exploration": "shared",
        "learning_starts_steps": 20,
    },
    "Pendulum-v1": {
        "kind": "sac", "actor_network": MLP, "critic_network": MLP, "batch_rows": 16, "learning_starts_steps": 20,
        "update_order": "cleanrl", "policy_period_updates": 2, "critic_learning_rate": 1e-2,
        "temperature_objective": "log_alpha", "log_std_bound": "clipped",
    },
}  # fmt: skip


@pytest.mark.parametrize("task", AGENTS)
def test_stopping_and_going_on_changes_no_record(task, tmp_path):
    environment = {"kind": "classic", "task": task, "num_envs": 2, "scenario": SCENARIO}
    data = small(environments=[environment], agent=AGENTS[task] | BURSTS, budget_steps=240)
    undisturbed = run_all(tmp_path / "undisturbed", data)
    plan = prepare(tmp_path / "run", data)
    for segment in plan.segments:
        for _ in itertools.count():
            countdown = itertools.count(1)
            run = SegmentRun(tmp_path / "run", segment.id)
            if run.run(should_stop=lambda countdown=countdown: next(countdown) >= 17):
                break
    assert facts(tmp_path / "run", plan) == facts(tmp_path / "undisturbed", undisturbed)
    names = {name for _, name, _ in facts(tmp_path / "run", plan)["none", 0]}
    assert {"q/mean"} <= names if task == "CartPole-v1" else {"loss/actor", "loss/critic1"} <= names
