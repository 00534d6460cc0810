"""SAC through the whole platform: forks, resume, records of every network, and the temperature rule."""

import itertools

import pytest
from small_runs import facts, prepare, run_all, small

from plasticbench import plugins
from plasticbench.platform.training.segment import SegmentRun

KINDS = [kind for kind in plugins.names("treatments") if "fire_paper_sac" in plugins.load("treatments", kind).PRESETS]


def pendulum():
    """Pendulum with shuffled inputs and every policy as FIRE's SAC code has it, over 300 steps."""
    data = small(
        agent={
            "kind": "sac",
            "actor_network": {"kind": "mlp", "hidden": [8, 8]},
            "critic_network": {"kind": "simba", "width": 8},
            "observation_norm": "running",
            "temperature_start": 0.5,
            "temperature_learning_rate": 0.01,
            "batch_rows": 16,
            "learning_starts_steps": 50,
            "capacity_transitions": 300,
        },
        methods={kind: {"kind": kind, "preset": "fire_paper_sac"} for kind in KINDS},
        seeds=1,
        budget_steps=300,
        probes={"every_steps": 100, "batch_rows": 32},
        evaluation={"every_steps": 150, "episodes": 2, "num_envs": 2},
    )
    data["environments"][0]["task"] = "Pendulum-v1"
    return data


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed")
    return path, run_all(path, pendulum())


def test_stopping_and_going_on_changes_no_record(undisturbed, tmp_path):
    path, plan = undisturbed
    prepare(tmp_path / "run", pendulum())
    for segment in plan.segments:
        for _ in itertools.count():
            run = SegmentRun(tmp_path / "run", segment.id)
            countdown = itertools.count(1)
            if run.run(should_stop=lambda countdown=countdown: next(countdown) >= 37):
                break
    assert facts(tmp_path / "run", plan) == facts(path, plan)


def test_every_probe_measures_actor_critics_and_targets_apart(undisturbed):
    path, plan = undisturbed
    names = {name for _, name, _ in facts(path, plan)["fire", 0]}
    for network in ("actor", "critic1", "critic2", "critic1_target", "critic2_target"):
        assert f"plasticity/{network}/weight_norm" in names
        assert f"reset/after/{network}/dormant_ratio" in names
    assert {"reset/actor/sfe", "reset/critic1/sfe", "reset/critic2/sfe"} <= names
    assert "plasticity/critic1/gradient_norm/block1_fc1" in names
    assert "plasticity/critic1/weight_norm/norm" not in names


def test_the_temperature_starts_anew_with_every_policy_but_none(undisturbed):
    path, plan = undisturbed
    for kind in KINDS:
        series = {
            step: float(value)
            for step, name, value in facts(path, plan)[kind, 0]
            if name == "policy/temperature" and value != "nan"
        }
        assert series[150] < 0.4  # the mean of the 50 steps up to 150
        assert (series[200] > 0.4) is (kind != "none"), kind
