"""Scenarios that change rewards or environments, by hand; then what holds for all scenarios in worlds."""

import itertools
import math
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import pytest
from small_runs import facts, prepare, run_all, small

from plasticbench import plugins
from plasticbench.envs import _dynamics, classic, minatar, mujoco
from plasticbench.envs._dynamics import Dynamics
from plasticbench.envs._world import World
from plasticbench.envs.scenarios import (
    dynamics_drift,
    level_sets,
    repeat,
    reward_flip,
    target_switch,
    task_sequence,
)
from plasticbench.platform.definition.reading import BenchmarkError, from_dict
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.training.segment import SegmentRun

SEEDS = (3, 4)
GAMES = ("Breakout-MinAtar", "Asterix-MinAtar", "Seaquest-MinAtar")
MODELS = files("envpool_assets") / "mujoco" / "assets_gym"
CARTPOLE = {"kind": "classic", "task": "CartPole-v1", "num_envs": 2}
IN_WORLDS = {
    "dynamics_drift": ({"kind": "mujoco", "task": "Hopper-v4", "num_envs": 2}, {"friction": [1.0, 0.1]}),
    "label_permutation": ({"kind": "label_bandit", "num_envs": 2}, {"phases": 2}),
    "level_sets": ({"kind": "envpool", "task": "CoinrunEasy-v0", "num_envs": 2, "num_levels": 2}, {"phases": 2}),
    "observation_offset": (CARTPOLE, {"at": [0.5]}),
    "observation_permutation": (CARTPOLE, {"at": [0.5]}),
    "random_labels": ({"kind": "label_bandit", "num_envs": 2}, {"phases": 2}),
    "repeat": (
        {"kind": "minatar", "task": GAMES[0], "num_envs": 2, "channels": 10},
        {"tasks": GAMES[:2], "rounds": 2},
    ),
    "reward_flip": (CARTPOLE, {"at": [0.5]}),
    "stationary": (CARTPOLE, {}),
    "target_switch": (
        {"kind": "classic", "task": "Pendulum-v1", "num_envs": 2},
        {"angles_degrees": [0.0, 180.0]},
    ),
    "task_sequence": ({"kind": "minatar", "task": GAMES[0], "num_envs": 2, "channels": 10}, {"tasks": GAMES}),
}


# -- sequences of tasks -----------------------------------------------------------------------------------------------


def test_a_sequence_plays_one_game_after_the_other_and_scores_each_by_its_own_references():
    config = minatar.Config(task=GAMES[0], channels=10)
    scenario = task_sequence.Config(tasks=GAMES).build(config.spec, SEEDS, 90, 2)
    assert scenario.change_steps == (30, 60)
    played = [scenario.env(config, phase) for phase in range(3)]
    assert [env.task for env in played] == list(GAMES)
    assert {env.spec for env in played} == {config.spec}
    assert [round(env.score(10.0), 4) for env in played] == [round(9.5 / 27.5, 4), round(9.5 / 14.5, 4), 1.0]


def test_padded_games_are_the_games_with_empty_channels_behind():
    for task in GAMES:
        plain, padded = (minatar.Config(task=task, channels=n).build([5], 1) for n in (None, 10))
        own = plain.spec.obs_shape[0]
        seen = [(plain.reset(), padded.reset())]
        for action in np.random.default_rng(0).integers(6, size=(50, 1)):
            one, other = plain.step(action), padded.step(action)
            seen.append((one.obs, other.obs))
            assert one.reward == other.reward
        for one, other in seen:
            assert other.shape == (1, 10, 10, 10)
            np.testing.assert_array_equal(other[:, :own], one)
            assert not other[:, own:].any()


def test_repeated_tasks_come_in_rounds():
    config = minatar.Config(task=GAMES[0], channels=10)
    scenario = repeat.Config(tasks=GAMES[:2], rounds=3).build(config.spec, SEEDS, 60, 2)
    assert scenario.change_steps == (10, 20, 30, 40, 50)
    assert [scenario.env(config, phase).task for phase in range(6)] == [*GAMES[:2]] * 3


def test_the_plan_says_where_each_tasks_scores_come_from():
    environment = {"kind": "minatar", "task": GAMES[0], "num_envs": 1, "channels": 10}
    scenario = {"kind": "task_sequence", "tasks": list(GAMES)}
    plan = make_plan(from_dict(small(environments=[environment | {"scenario": scenario}], resets={"at": "boundaries"})))
    source = plan.trials[0].score_source
    assert [part.partition(":")[0] for part in source.split("; ") if "MinAtar" in part] == list(GAMES)
    assert "0: 0.5" in source


# -- rewards ----------------------------------------------------------------------------------------------------------


def test_flipped_rewards_are_punishments_in_every_second_phase():
    config = classic.Config(task="CartPole-v1", num_envs=2)
    world = World(config, reward_flip.Config(at=(0.3, 0.6)).build(config.spec, SEEDS, 1_000, 2), SEEDS, 1)
    for phase, sign in ((0, 1.0), (1, -1.0), (2, 1.0)):
        world.change(phase, 2)
        step = world.step(np.zeros((2, 2), int))
        np.testing.assert_array_equal(step.reward, np.full((2, 2), sign))
        np.testing.assert_array_equal(step.raw_reward, np.full((2, 2), sign))


def test_the_pendulums_target_moves_by_hand_and_upright_is_the_published_reward():
    config = classic.Config(task="Pendulum-v1", num_envs=2)
    scenario = target_switch.Config(angles_degrees=(0.0, 180.0, -20.0)).build(config.spec, SEEDS, 600, 2)
    world, rng = World(config, scenario, SEEDS, 1), np.random.default_rng(1)
    plain = World(config, target_switch.Unchanged(), SEEDS, 1)
    for _ in range(205):  # over the end of an episode, whose next step is worth nothing
        action = rng.uniform(-2, 2, (2, 2, 1)).astype(np.float32)
        step, own = world.step(action), plain.step(action)
        np.testing.assert_allclose(step.reward, own.reward, atol=1e-4)
    world.change(1, 410)
    cosine, _, speed = world.obs[0, 0]
    torque = np.full((2, 2, 1), 0.5, np.float32)
    above_hanging = math.acos(max(-1.0, min(1.0, -cosine)))
    expected = -(above_hanging**2 + 0.1 * speed**2 + 0.001 * 0.25)
    assert world.step(torque).reward[0, 0] == pytest.approx(expected, abs=2e-3)


# -- dynamics ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", mujoco.tasks())
def test_changed_models_have_other_friction_gravity_and_motors_and_nothing_else(task):
    lib = pytest.importorskip("mujoco")
    text = (MODELS / mujoco._TASKS[task].model).read_text()
    before = lib.MjModel.from_xml_string(text)
    after = lib.MjModel.from_xml_string(_dynamics.changed(text, Dynamics(0.25, 2.0, 0.5)))
    np.testing.assert_allclose(after.geom_friction[:, 0], 0.25 * before.geom_friction[:, 0])
    np.testing.assert_array_equal(after.geom_friction[:, 1:], before.geom_friction[:, 1:])
    np.testing.assert_allclose(after.opt.gravity, 2.0 * before.opt.gravity)
    np.testing.assert_allclose(after.actuator_gear, 0.5 * before.actuator_gear)
    for name in ("body_mass", "jnt_range", "dof_damping", "geom_size", "actuator_ctrlrange"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


@pytest.mark.parametrize("task", mujoco.tasks())
def test_a_model_that_is_only_rewritten_moves_as_the_published_one(task, monkeypatch):
    config = mujoco.Config(task=task)
    plain = config.build([7], 1)
    with _dynamics.model_file(task, mujoco._TASKS[task].model, Dynamics()) as file:
        same = mujoco.EnvPoolEnv(config.spec, task, [7], 1, xml_file=file)
    other = mujoco.Config(task=task, gravity=0.5).build([7], 1)
    first = [env.reset() for env in (plain, same, other)]
    np.testing.assert_array_equal(first[0], first[1])
    rng, differs = np.random.default_rng(0), False
    for _ in range(30):
        action = rng.uniform(-1, 1, (1, len(config.spec.actions.low))).astype(np.float32)
        one, two, three = (env.step(action) for env in (plain, same, other))
        np.testing.assert_array_equal(one.obs, two.obs)
        differs |= bool((one.obs != three.obs).any())
    assert differs


def test_factors_of_a_phase_are_on_top_of_the_environments_own():
    config = mujoco.Config(task="Hopper-v4", friction=0.5)
    drift = dynamics_drift.Config(friction=(1.0, 0.2, 2.0), gravity=(1.0, 1.0, 1.5))
    scenario = drift.build(config.spec, SEEDS, 300, 2)
    assert scenario.change_steps == (100, 200)
    found = [scenario.env(config, phase) for phase in range(3)]
    assert [(env.friction, env.gravity, env.action_scale) for env in found] == [
        (0.5, 1.0, 1.0),
        (0.1, 1.0, 1.0),
        (1.0, 1.5, 1.0),
    ]


@dataclass(frozen=True)
class Levels:
    """What ``level_sets`` reads of a Procgen game, which needs libraries that a machine may lack."""

    num_levels: int = 20
    start_level: int = 5
    task: str = "CoinrunEasy-v0"


def test_level_sets_follow_each_other():
    config = Levels()
    level_sets.Config(phases=3).check(config)
    with pytest.raises(ValueError, match="needs the environment's num_levels, how many each phase has; 0 is all of"):
        level_sets.Config().check(Levels(num_levels=0))
    scenario = level_sets.Config(phases=3).build(minatar.Config(task=GAMES[0]).spec, SEEDS, 300, 2)
    assert [scenario.env(config, phase).start_level for phase in range(3)] == [5, 25, 45]
    assert {scenario.env(config, phase).num_levels for phase in range(3)} == {20}


# -- what does not fit ------------------------------------------------------------------------------------------------

MINATAR = {"kind": "minatar", "task": GAMES[0], "num_envs": 1}


@pytest.mark.parametrize(
    ("environment", "scenario", "message"),
    [
        (MINATAR, {"kind": "task_sequence", "tasks": GAMES}, r"all must show and take the same.*'channels: 10'"),
        (MINATAR, {"kind": "task_sequence", "tasks": GAMES[1:]}, "the first must be the environment's own task"),
        (MINATAR, {"kind": "task_sequence", "tasks": (GAMES[0], GAMES[0])}, "twice in a row"),
        (MINATAR, {"kind": "task_sequence", "tasks": (GAMES[0], "Pong")}, "'Pong' is no task of this family"),
        (MINATAR, {"kind": "repeat", "tasks": (*GAMES[:2], GAMES[0])}, "each must be listed once"),
        (CARTPOLE, {"kind": "task_sequence", "tasks": ("CartPole-v1", "Acrobot-v1")}, "must show and take the same"),
        (MINATAR | {"channels": 3}, {"kind": "stationary"}, "channels: must be at least the 4 that Breakout-MinA"),
        (CARTPOLE, {"kind": "dynamics_drift", "friction": (1.0, 0.5)}, "dynamics_drift changes friction, gravity and"),
        (CARTPOLE, {"kind": "level_sets"}, "level_sets changes levels, and CartPole-v1 has none"),
        ({"kind": "envpool", "task": "WalkerRun-v1"}, {"kind": "level_sets"}, "changes levels, and WalkerRun-v1 has"),
        (CARTPOLE, {"kind": "target_switch", "angles_degrees": (0.0, 180.0)}, "moves the target of Pendulum-v1, got"),
        (CARTPOLE, {"kind": "random_labels"}, "random_labels gives new labels to the pictures of 'kind: label_bandit'"),
    ],
)  # fmt: skip
def test_tasks_that_a_scenario_cannot_change_are_refused_with_the_reason(environment, scenario, message):
    with pytest.raises(BenchmarkError, match=message):
        from_dict(small(environments=[environment | {"scenario": scenario}], methods={"none": {"kind": "none"}}))


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("dynamics_drift", {}, "friction, gravity, action_scale: one of them must list a factor"),
        ("dynamics_drift", {"friction": (1.0, 2.0), "gravity": (1.0, 2.0, 3.0)}, "as many, got .*'gravity': 3"),
        ("dynamics_drift", {"friction": (1.0, 2.0, 2.0)}, "phase 3 does not"),
        ("dynamics_drift", {"friction": (1.0, 0.0)}, "friction: each value must be above 0, got 0.0"),
        ("target_switch", {"angles_degrees": (0.0, 90.0)}, "the motor cannot hold it at 90"),
        ("target_switch", {"angles_degrees": (0.0, 0.0)}, "got 0 twice in a row"),
        ("target_switch", {"angles_degrees": (0.0,)}, "at least 2 angle"),
        ("repeat", {"tasks": GAMES, "rounds": 1}, "rounds: must be at least 2, got 1"),
        ("level_sets", {"phases": 1}, "phases: must be at least 2, got 1"),
        ("reward_flip", {"at": (0.5, 0.2)}, "at:.*ascending"),
    ],
)
def test_settings_that_say_nothing_or_too_much_are_refused(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        plugins.config_from("scenarios", kind, settings)


# -- all scenarios ----------------------------------------------------------------------------------------------------


def _has_procgen() -> bool:
    try:
        plugins.config_from("envs", "envpool", {"task": "CoinrunEasy-v0"})
    except ValueError:
        return False
    return True


SCENARIOS = [
    pytest.param(kind, marks=[pytest.mark.skipif(not _has_procgen(), reason="Procgen needs Qt 5")])
    if kind == "level_sets"
    else kind
    for kind in plugins.names("scenarios")
]


def _config(kind):
    environment, settings = IN_WORLDS[kind]
    family = {name: value for name, value in environment.items() if name != "kind"}
    listed = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    return plugins.config_from("envs", environment["kind"], family), plugins.config_from("scenarios", kind, listed)


def _world(kind, seeds):
    config, scenario = _config(kind)
    return World(config, scenario.build(config.spec, seeds, 80, 2), seeds, num_threads=1)


def _actions(spec, steps):
    rng = np.random.default_rng(0)
    if hasattr(spec.actions, "count"):
        return rng.integers(spec.actions.count, size=(steps, 2, 2))
    return rng.uniform(-1, 1, (steps, 2, 2, len(spec.actions.low))).astype(np.float32)


@pytest.mark.parametrize("kind", SCENARIOS)
def test_a_member_meets_the_same_world_alone_and_among_others_and_after_a_restore(kind):
    together, alone = _world(kind, SEEDS), _world(kind, SEEDS[1:])
    actions = _actions(_config(kind)[0].spec, 25)
    last = len(together._scenario.change_steps)
    seen = []
    for number, action in enumerate(actions):
        if number == 10:
            for world in (together, alone):
                world.change(last, 40)
        seen.append(together.step(action))
        for theirs, ours in zip(seen[-1], alone.step(action[1:]), strict=True):
            np.testing.assert_array_equal(theirs[1:], ours)
        if number == 17:
            saved = together.state_dict()
    restored = _world(kind, SEEDS)
    restored.load_state_dict(saved, [0, 1], phase=last, replay=True)
    for step, action in zip(seen[18:], actions[18:], strict=True):
        for theirs, ours in zip(step, restored.step(action), strict=True):
            np.testing.assert_array_equal(theirs, ours)
    for world in (together, alone, restored):
        world.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", SCENARIOS)
def test_runs_under_every_scenario_fork_at_the_first_change_and_go_on_after_a_stop_with_the_same_records(
    kind, tmp_path
):
    environment, settings = IN_WORLDS[kind]
    listed = {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
    mlp = {"kind": "mlp", "hidden": [8]}
    box = {"kind": "sac", "actor_network": mlp, "critic_network": mlp, "batch_rows": 8}
    is_box = environment.get("task") in ("Hopper-v4", "Pendulum-v1")
    agent = box if is_box else {"kind": "dqn", "network": mlp}
    resets = {"at": [0.5]} if kind == "stationary" else {"at": "boundaries"}
    data = small(
        environments=[environment | {"scenario": {"kind": kind, **listed}}],
        agent=agent | {"learning_starts_steps": 20, "capacity_transitions": 200},
        resets=resets,
        budget_steps=160,
        seeds=1,
        evaluation={"every_steps": 40, "steps": 20, "num_envs": 2},
    )
    undisturbed = run_all(tmp_path / "undisturbed", data)
    assert len(undisturbed.segments) == 2
    plan = prepare(tmp_path / "run", data)
    for segment in plan.segments:
        for _ in itertools.count():
            countdown = itertools.count(1)
            run = SegmentRun(tmp_path / "run", segment.id)
            if run.run(should_stop=lambda countdown=countdown: next(countdown) >= 23):
                break
    assert facts(tmp_path / "run", plan) == facts(tmp_path / "undisturbed", undisturbed)


# -- hidden boundaries ------------------------------------------------------------------------------------------------


def _hidden(scenario=None, **changes):
    scenario = scenario or {"kind": "observation_permutation", "at": [0.5], "replay": "keep"}
    return small(environments=[CARTPOLE | {"scenario": scenario, "boundaries": "hidden"}], **changes)


def test_hidden_boundaries_change_no_trial_and_are_read_back():
    known = _hidden(resets={"every": 150})
    known["environments"][0].pop("boundaries")
    made = from_dict(_hidden(resets={"every": 150}))
    assert made.environments[0].boundaries == "hidden"
    assert from_dict(made.resolved()).environments[0].boundaries == "hidden"
    ids = [[trial.id for trial in make_plan(benchmark).trials] for benchmark in (made, from_dict(known))]
    assert ids[0] == ids[1]


def test_references_may_know_what_is_hidden_from_methods():
    methods = {"none": {"kind": "none"}, "fire": {"kind": "fire"}, "frozen": {"kind": "frozen", "at": "boundaries"}}
    assert len(from_dict(_hidden(methods=methods, resets={"every": 150})).methods) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resets": {"at": "boundaries"}}, "methods.fire.at: acts at the changes of 'CartPole-v1', which hides them"),
        ({"resets": {"at": [0.25, 0.5]}}, "methods.fire.at: acts at the changes of 'CartPole-v1', which hides them"),
        ({"scenario": {"kind": "observation_permutation", "at": [0.5]}}, "scenario.replay: must be 'keep' with 'bound"),
        ({"scenario": {"kind": "stationary"}, "resets": {"every": 150}}, "never changes, so nothing is hidden. Remove"),
    ],
)
def test_what_would_tell_methods_of_a_hidden_change_is_refused(changes, message):
    with pytest.raises(BenchmarkError, match=message):
        from_dict(_hidden(**changes))


def test_boundaries_are_known_or_hidden_and_nothing_else():
    data = small()
    data["environments"][0]["boundaries"] = "secret"
    with pytest.raises(BenchmarkError, match=r"environments.0.boundaries: must be 'known' or 'hidden', got 'secret'"):
        from_dict(data)
