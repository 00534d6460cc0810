"""Every task that Gymnasium itself registers is planned, or refused by a sentence; its own known returns are used."""

from typing import Any

import gymnasium
import pytest
from small_runs import facts, run_all, small

from plasticbench.envs import classic, mujoco
from plasticbench.envs.gymnasium import Config
from plasticbench.platform.definition.reading import BenchmarkError, from_dict
from plasticbench.platform.planning.plan import make_plan

MLP = {"kind": "mlp", "hidden": [16, 16]}
SAC = {
    "kind": "sac",
    "actor_network": MLP,
    "critic_network": MLP,
    "batch_rows": 16,
    "learning_starts_steps": 30,
    "capacity_transitions": 200,
}


def _registered_by_gymnasium(entry_point: Any) -> bool:
    home = entry_point if isinstance(entry_point, str) else str(getattr(entry_point, "__module__", ""))
    return home.startswith(("gymnasium.", "shimmy."))


TASKS = [task for task, spec in gymnasium.registry.items() if _registered_by_gymnasium(spec.entry_point)]


def _data(task: str, **settings: Any) -> dict[str, Any]:
    is_choice = isinstance(Config(task=task, **settings).spec.actions, classic.DiscreteActions)
    agent = small()["agent"] if is_choice else SAC
    environment = {"kind": "gymnasium", "task": task, **settings}
    evaluation = {"every_steps": 100, "steps": 20}
    return small(environments=[environment], agent=agent, evaluation=evaluation, seeds=1, budget_steps=200)


def test_the_registry_is_there() -> None:
    assert len(TASKS) >= 60


@pytest.mark.parametrize("task", TASKS)
def test_every_registered_task_is_planned_or_refused_by_a_sentence_that_says_what_to_do(task: str) -> None:
    try:
        plan = make_plan(from_dict(_data(task)))
    except ValueError as error:
        (line,) = str(error).splitlines()
        assert line.startswith(f"task: {task}")
        if "FlattenObservation" in line:
            assert make_plan(from_dict(_data(task, wrappers=["FlattenObservation"]))).trials
            return
        newest = task.rpartition("-v")[0] + "-v5"
        assert f"Use {newest}" in line or "pip install" in line
        assert newest in gymnasium.registry or "pip install" in line
        return
    assert [trial.task for trial in plan.trials] == [task, task]


def test_a_refusal_is_the_only_problem_of_its_file() -> None:
    data = _data("CartPole-v1") | {"environments": [{"kind": "gymnasium", "task": "HalfCheetah-v3"}]}
    with pytest.raises(BenchmarkError) as error:
        from_dict(data)
    (line,) = str(error.value).splitlines()
    assert line.startswith("benchmark: environments.0.task: HalfCheetah-v3 cannot be made: The mujoco v2 and v3 based")
    assert line.endswith("Use HalfCheetah-v5")


@pytest.mark.parametrize("task", ["HalfCheetah-v5", "LunarLander-v3"])
def test_what_people_bring_first_runs_from_end_to_end(task: str, tmp_path) -> None:
    data = _data(task) | {"probes": {"every_steps": 100, "batch_rows": 16, "kinds": ["weight_norm"]}}
    found = facts(tmp_path / "run", run_all(tmp_path / "run", data))
    for method in ("none", "fire"):
        scores = [float(value) for step, name, value in found[method, 0] if name == "eval/score"]
        assert len(scores) == 2


def test_known_returns_are_those_of_the_families_that_have_the_task() -> None:
    for family, task in ((classic, "CartPole-v1"), (mujoco, "Hopper-v4")):
        ours, theirs = Config(task=task), family.Config(task=task)
        assert (ours.score(77.0), ours.score_source) == (theirs.score(77.0), theirs.score_source)


def test_a_reward_threshold_is_the_high_return_and_random_play_the_low() -> None:
    assert gymnasium.spec("HalfCheetah-v5").reward_threshold == 4800
    config = Config(task="HalfCheetah-v5")
    assert [config.score(x) for x in (-280.9, 4800.0)] == pytest.approx([0, 1])
    assert "random actions, measured here over 300 episodes; 1: 4800, the reward threshold" in config.score_source


def test_without_random_play_a_positive_threshold_is_measured_from_zero_and_any_other_is_not_used() -> None:
    try:
        for task, threshold in (("Good-v0", 50.0), ("Bad-v0", -50.0)):
            gymnasium.register(task, "gymnasium.envs.classic_control:CartPoleEnv", threshold, max_episode_steps=9)
        good, bad = Config(task="Good-v0"), Config(task="Bad-v0")
        assert (good.score(25.0), good.score_source[:16]) == (0.5, "0: a return of 0")
        assert (bad.has_references, bad.score(25.0)) == (False, 25.0)
        one = Config(task="Good-v0", low_return=10.0)
        assert (one.score(30.0), one.has_references) == (0.5, True)
    finally:
        for task in ("Good-v0", "Bad-v0"):
            gymnasium.registry.pop(task, None)
