"""The shipped benchmark files: every one makes a plan, and the papers' are their protocols."""

import re
from pathlib import Path

import pytest
from shipped_files import smoke_overrides
from small_runs import facts

from plasticbench import plugins
from plasticbench.agents import sac
from plasticbench.platform.definition.reading import load
from plasticbench.platform.planning.plan import Plan, make_plan, summary
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.segment import SegmentRun

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.mark.usefixtures("graphics_library")
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_make_plans(path: Path) -> None:
    plan = make_plan(load(path, smoke_overrides(path)))
    # Of the zoo's methods most act from the first update on, and share no training; a task that changes many times is
    # shared up to the first change alone.
    least = {"method_zoo": 0.16, "digits_random_labels": 0.04, "digits_permuted": 0.01, "continual_gym": 0.03}
    least |= {"fire_warm_start": 0.3, "fire_continual": 0.005, "fire_class_incremental": 0.02, "fire_language": 0.375}
    least |= {"label_bandit": 0.05, "pendulum_primed": 0.13, "demo_bandit": 0.09, "demo_digits": 0.06}
    assert summary(plan)["saved_by_forks"] >= least.get(path.stem, 0.375)
    assert Plan.from_json(plan.to_json()) == plan


def test_the_quickstart_gives_two_cores_a_population_each() -> None:
    plan = make_plan(load(next(path for path in CONFIGS if path.stem == "quickstart")))
    assert [len(segment.members) for segment in plan.segments] == [3, 12, 2, 8]


def test_fire_atari_is_the_papers_protocol() -> None:
    path = next(path for path in CONFIGS if path.stem == "fire_atari")
    benchmark, plan = load(path), make_plan(load(path))
    agent = benchmark.method("fire").agent_config
    assert [environment.config.task for environment in benchmark.environments] == [
        "Asterix",
        "BeamRider",
        "DemonAttack",
    ]
    assert {environment.config.num_envs for environment in benchmark.environments} == {4}
    assert (agent.learning_rate, agent.adam_eps, agent.batch_rows) == (6.25e-5, 1.5e-4, 32)
    assert (agent.capacity_transitions, agent.target_period_steps) == (1_000_000, 2_000)
    assert (agent.replay_ratio, agent.learning_starts_steps) == (1.0, 20_000)
    assert (agent.epsilon_start, agent.epsilon_end, agent.epsilon_decay_fraction) == (1.0, 0.01, 0.1)
    assert agent.evaluation_epsilon == 0.001
    assert (benchmark.evaluation.every_steps, benchmark.evaluation.steps) == (250_000, 125_000)
    assert {trial.reset_steps for trial in plan.trials} == {(1_250_000,)}
    assert len(plan.trials) == 3 * 5 * 5
    assert "last_layers" in [method.name for method in benchmark.methods]


@pytest.mark.usefixtures("graphics_library")
@pytest.mark.skipif("humanoid" not in plugins.names("envs"), reason="the humanoid environments are not there")
def test_fire_humanoid_is_the_papers_protocol() -> None:
    path = next(path for path in CONFIGS if path.stem == "fire_humanoid")
    benchmark, plan = load(path), make_plan(load(path))
    assert [environment.config.task for environment in benchmark.environments] == [
        "h1-balance_simple-v0",
        "h1-walk-v0",
        "h1-run-v0",
    ]
    assert {environment.config.num_envs for environment in benchmark.environments} == {1}
    agent = benchmark.method("fire").agent_config
    assert agent == sac.PRESETS["fire_paper_sac"]
    assert agent.replay_ratio * benchmark.budget_steps == 1_000_000
    assert {trial.reset_steps for trial in plan.trials} == {(250_000,)}
    assert len(plan.trials) == 75
    policies = {method.name: method.parts[0].chosen.config for method in benchmark.methods}
    assert policies["full_reset"].init_source == "original"
    assert {policies[name].temperature for name in ("full_reset", "shrink_perturb", "fire")} == {"reset"}


FIRE_STREAMS = ("fire_warm_start", "fire_continual", "fire_class_incremental", "fire_language")


@pytest.mark.parametrize("name", FIRE_STREAMS)
def test_the_streams_of_fire_are_as_long_as_they_say(name: str) -> None:
    """Passes over the data, as the published protocol has them; the data themselves are the user's."""
    text = (Path(__file__).parents[1] / "configs" / f"{name}.yaml").read_text(encoding="utf-8")
    budget = int(re.search(r"budget_updates: ([\d_]+)", text)[1])
    passes = {"fire_warm_start": 2 * 100, "fire_continual": 100 * 5.5, "fire_class_incremental": 100 * 10.5}
    expected = passes[name] * 50_000 / 256 if name in passes else 30_000 + 18_500
    assert budget == pytest.approx(expected, abs=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIRE_STREAMS)
def test_the_streams_of_fire_run_end_to_end_as_their_comments_say(name: str, tmp_path: Path) -> None:
    path = Path(__file__).parents[1] / "configs" / f"{name}.yaml"
    benchmark = load(path, smoke_overrides(path))
    plan = make_plan(benchmark)
    RunDirectory(tmp_path).create(benchmark, plan)
    for segment in plan.segments:
        assert SegmentRun(tmp_path, segment.id).run()
    scores = [value for own in facts(tmp_path, plan).values() for _, name, value in own if name == "eval/score"]
    assert len(scores) >= 2 * len(plan.trials)
