from pathlib import Path

import ale_py
import envpool
import numpy as np
import pytest
from ale_py import roms
from envpool.registration import registry
from small_runs import small

from plasticbench import plugins
from plasticbench.analysis.leaderboard import leaderboard
from plasticbench.contracts.task import EnvStep, VectorEnv
from plasticbench.envs import _ale, atari
from plasticbench.envs._ale import average_columns, resize, rom_name
from plasticbench.envs._scores import RAW_RETURN
from plasticbench.platform.definition.benchmark import Benchmark
from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.rundir import RunDirectory


def _play(env: VectorEnv, steps: int) -> tuple[np.ndarray, list[EnvStep]]:
    actions = np.random.default_rng(0).integers(env.spec.actions.count, size=(steps, env.num_envs))  # type: ignore[union-attr]
    first = env.reset()
    return first, [env.step(action) for action in actions]


def test_scores_are_human_normalised() -> None:
    for task, low, high in (("Asterix", 210.0, 8503.3), ("BeamRider", 363.9, 16926.5), ("DemonAttack", 152.1, 1971.0)):
        config = atari.Config(task=task)
        assert (config.score(low), config.score(high)) == (0.0, 1.0)
    assert atari.Config(task="Pong").score(-3.05) == pytest.approx(0.5)


def test_games_that_no_human_played_are_ranked_by_raw_return() -> None:
    unscored = [task for task in atari.tasks() if not atari.Config(task=task).has_references]
    assert (len(atari.tasks()), len(unscored)) == (104, 47)
    config = atari.Config(task="DonkeyKong")
    assert (config.score(1234.0), config.score_source) == (1234.0, RAW_RETURN)


def test_tasks_are_the_games_that_both_emulators_have() -> None:
    registered = {task for task, (module, *_) in registry.specs.items() if module == "envpool.atari"}
    assert {f"{task}-v5" for task in atari.tasks()} == registered
    for_two_players = {"combat", "joust", "maze_craze", "warlords"}
    assert {rom_name(task) for task in atari.tasks()} == set(roms.get_all_rom_ids()) - for_two_players


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("ALE/Pong-v5", "Pong"),
        ("PongNoFrameskip-v4", "Pong"),
        ("Pong-ramNoFrameskip-v4", "Pong"),
        ("MontezumaRevengeDeterministic-v4", "MontezumaRevenge"),
        ("space_invaders", "SpaceInvaders"),
        ("Asterx", "Asterix"),
    ],
)
def test_names_of_other_libraries_are_told_ours(name: str, task: str) -> None:
    with pytest.raises(ValueError, match=rf"task: .*got '{name}'\. Did you mean '{task}'\?"):
        atari.Config(task=name)


@pytest.mark.parametrize("task", ["Asterix", "LostLuggage", "Skiing"])
def test_all_actions_of_a_game_are_those_that_both_emulators_know(task: str) -> None:
    count = atari.Config(task=task, action_set="full").spec.actions.count  # type: ignore[union-attr]
    assert count == len(_emulator(task).getLegalActionSet())
    assert count == envpool.make_spec(f"{task}-v5", full_action_space=True).action_space.n


def _emulator(task: str) -> ale_py.ALEInterface:
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.loadROM(roms.get_rom_path(rom_name(task)))
    return ale


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(task, marks=[] if task in ("Asterix", "BeamRider", "TicTacToe3d", "UpNDown") else pytest.mark.slow)
        for task in atari.tasks()
    ],
)
def test_the_table_of_action_counts_agrees_with_both_emulators(task: str) -> None:
    assert len(_emulator(task).getMinimalActionSet()) == atari.Config(task=task).spec.actions.count  # type: ignore[union-attr]
    assert envpool.make_spec(f"{task}-v5").action_space.n == atari.Config(task=task).spec.actions.count  # type: ignore[union-attr]


def test_columns_are_averaged_by_covered_shares_in_a_hand_worked_case() -> None:
    values = np.array([[30, 60, 90], [0, 3, 0]], np.uint8)
    np.testing.assert_allclose(average_columns(values, 2), [[40.0, 80.0], [1.0, 1.0]])
    np.testing.assert_allclose(average_columns(np.full((1, 210), 255, np.uint8), 84), 255.0)


def test_resize_averages_blocks() -> None:
    screen = np.arange(16, dtype=np.uint8).reshape(4, 4) * 10
    assert resize(screen, 2, 2).tolist() == [[25, 45], [105, 125]]


@pytest.mark.parametrize(
    ("task", "sticky_probability"), [("Asterix", 0.0), ("BeamRider", 0.0), ("Breakout", 0.0), ("Breakout", 0.25)]
)
def test_both_backends_give_the_same_course(task: str, sticky_probability: float) -> None:
    configs = [
        atari.Config(task=task, backend=backend, sticky_probability=sticky_probability)
        for backend in ("envpool", "ale")
    ]
    (first, ours), (other_first, theirs) = (_play(config.build([5, 6], num_threads=1), 280) for config in configs)
    np.testing.assert_array_equal(first, other_first)
    for step, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(step.obs, other.obs)
        np.testing.assert_array_equal(step.raw_reward, other.raw_reward)
        np.testing.assert_array_equal(step.reward, other.reward)
        np.testing.assert_array_equal(step.terminated, other.terminated)
        np.testing.assert_array_equal(step.truncated, other.truncated)
    assert sum(step.raw_reward.sum() for step in ours) > 0
    assert task == "BeamRider" or any(step.terminated.any() for step in ours)


def _benchmark(seeds: int | list[int] = 1, **settings: object) -> Benchmark:
    game = {"kind": "atari", "num_envs": 2, **settings}
    agent = {"kind": "dqn", "network": {"kind": "nature_cnn"}, "learning_starts_steps": 50}
    return from_dict(small(environments=[game], agent=agent, seeds=seeds))


def _id(**settings: object) -> str:
    return make_plan(_benchmark(**settings)).trials[0].id


def test_backends_that_agree_give_one_trial() -> None:
    assert _id(task="Asterix", backend="ale") == _id(task="Asterix")
    assert make_plan(from_dict(small())).trials[0].id != _id(task="Asterix")


@pytest.mark.parametrize(
    "settings",
    [
        {"task": "Asterix", "noop_max_frames": 30},
        {"task": "Asterix", "sticky_unit": "frame"},
        {"task": "Adventure"},
    ],
)
def test_backends_that_differ_give_trials_of_their_own(settings: dict[str, object]) -> None:
    assert _id(**settings, backend="ale") != _id(**settings)


def test_runs_of_backends_that_agree_are_compared_and_grow_by_each_other(tmp_path: Path) -> None:
    for name, seed in (("envpool", 0), ("ale", 1)):
        own = _benchmark([seed], task="Asterix", backend=name)
        RunDirectory(tmp_path / name).create(own, make_plan(own))
    methods = {row.method for row in leaderboard([tmp_path / "envpool", tmp_path / "ale"]).rows}
    same = _benchmark([1], task="Asterix", backend="envpool")
    taken = RunDirectory(tmp_path / "ale").create(same, make_plan(same))
    assert taken == "environments.0.backend: envpool in place of ale"
    whole = _benchmark([0, 1], task="Asterix", backend="ale")
    RunDirectory(tmp_path / "envpool").create(whole, make_plan(whole))
    assert {row.method for row in leaderboard([tmp_path / "envpool"]).rows} == methods
    for name, seed in (("envpool", 0), ("ale", 1)):
        own = _benchmark([seed], task="Asterix", backend=name, noop_max_frames=30)
        RunDirectory(tmp_path / f"other {name}").create(own, make_plan(own))
    with pytest.raises(ValueError, match="trials of one task need the same environment"):
        leaderboard([tmp_path / "other envpool", tmp_path / "other ale"])


def test_envpool_shows_the_first_210_rows_of_a_higher_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    envpools, ales = (atari.Config(task="Adventure", backend=backend) for backend in ("envpool", "ale"))
    first, _ = _play(envpools.build([5], num_threads=1), 1)
    whole, _ = _play(ales.build([5], num_threads=1), 1)
    assert (first != whole).any()
    monkeypatch.setattr(_ale, "resize", lambda screen, height, width: resize(screen[:210], height, width))
    cut, _ = _play(ales.build([5], num_threads=1), 1)
    np.testing.assert_array_equal(first, cut)


def test_both_backends_cut_episodes_at_the_time_limit() -> None:
    for backend in ("envpool", "ale"):
        config = atari.Config(task="Pong", backend=backend, max_episode_steps=7)  # type: ignore[arg-type]
        first, course = _play(config.build([1], num_threads=1), 16)
        assert [bool(step.truncated[0]) for step in course] == [i % 8 == 7 - 1 for i in range(16)], backend
        assert not any(step.terminated[0] for step in course)
        np.testing.assert_array_equal(course[6].obs[:, :-1], course[5].obs[:, 1:])  # the cut episode's own last
        np.testing.assert_array_equal(course[7].obs, first)


def test_a_game_that_ends_exactly_at_the_time_limit_is_terminated() -> None:
    _, course = _play(atari.Config(task="Breakout").build([1], num_threads=1), 600)
    length = next(i for i, step in enumerate(course, start=1) if step.terminated[0])
    for backend in ("envpool", "ale"):
        config = atari.Config(task="Breakout", backend=backend, max_episode_steps=length)  # type: ignore[arg-type]
        _, limited = _play(config.build([1], num_threads=1), length)
        assert (limited[-1].terminated[0], limited[-1].truncated[0]) == (True, False), backend


def test_a_stack_shifts_by_one_frame_per_step_and_starts_with_copies_of_the_first() -> None:
    first, course = _play(atari.Config(task="Asterix").build([1], num_threads=1), 20)
    assert (first == first[:, :1]).all()
    previous = first
    for step in course:
        np.testing.assert_array_equal(step.obs[:, :-1], previous[:, 1:])
        previous = step.obs
    assert (previous[:, 0] != previous[:, -1]).any()


def test_learning_rewards_are_signs_of_the_reported_ones() -> None:
    _, course = _play(atari.Config(task="Asterix").build([1, 2], num_threads=1), 100)
    raw = np.stack([step.raw_reward for step in course])
    assert set(np.unique(raw)) == {0.0, 50.0}
    np.testing.assert_array_equal(np.stack([step.reward for step in course]), raw / 50.0)
    _, unclipped = _play(atari.Config(task="Asterix", rewards="raw").build([1, 2], num_threads=1), 100)
    np.testing.assert_array_equal(np.stack([step.reward for step in unclipped]), raw)


def test_a_sticky_action_is_the_last_one_sent_and_an_episode_starts_from_no_action() -> None:
    sticky = atari.StickyActions(0.25, [1, 2])
    never, second = np.zeros(2, bool), np.array([False, True])
    sent = np.stack([sticky.apply(np.full(2, 1 + t % 9), never) for t in range(4000)])
    wanted = 1 + np.arange(4000) % 9
    stuck = sent != wanted[:, None]
    assert stuck.mean() == pytest.approx(0.25, abs=0.02)
    assert (stuck[:, 0] != stuck[:, 1]).any()
    np.testing.assert_array_equal(sent[1:][stuck[1:]], sent[:-1][stuck[1:]])
    assert sticky.apply(np.full(2, 5), second)[1] == 0


def test_sticky_actions_depend_on_the_environments_own_seed() -> None:
    alone, among = atari.StickyActions(0.25, [2]), atari.StickyActions(0.25, [1, 2, 3])
    for t in range(1500):
        action = t % 5
        assert (
            alone.apply(np.array([action]), np.zeros(1, bool))[0]
            == among.apply(np.full(3, action), np.zeros(3, bool))[1]
        )


def test_frame_sticky_actions_come_from_the_emulators_own_seeded_chance() -> None:
    config = atari.Config(task="Asterix", sticky_unit="frame")
    _, together = _play(config.build([1, 2], num_threads=1), 100)
    env = config.build([1], num_threads=1)
    env.reset()
    actions = np.random.default_rng(0).integers(9, size=(100, 2))
    alone = [env.step(action[:1]) for action in actions]
    for step, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(step.obs[:1], other.obs)


def test_the_fire_preset_is_the_default_protocol_and_can_be_overridden() -> None:
    config = plugins.config_from("envs", "atari", {"task": "BeamRider"}, preset="fire_paper_dqn")
    assert config == atari.Config(task="BeamRider")
    assert plugins.config_from("envs", "atari", {"num_envs": 2}, preset="fire_paper_dqn").num_envs == 2


def test_a_sticky_unit_without_stickiness_is_refused() -> None:
    settings = {"task": "Pong", "sticky_probability": 0.0, "sticky_unit": "frame"}
    with pytest.raises(ValueError, match="sticky_unit: this setting has no effect: sticky_probability is 0"):
        plugins.config_from("envs", "atari", settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backend": "enpool"}, "backend: .*'enpool'. Did you mean 'envpool'"),
        ({"noop_max_frames": 0}, "noop_max_frames: must be at least 1, got 0"),
        ({"sticky_probability": -0.1}, "sticky_probability: .*got -0.1"),
        ({"rewards": "clip"}, "rewards: .*'clip'"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        atari.Config(task="Pong", **settings)  # type: ignore[arg-type]
