import gzip
import json
import re
import warnings
from pathlib import Path
from typing import Any

import envpool as library
import numpy as np
import pytest
from small_runs import facts, run_all, small
from typer.testing import CliRunner

from benchmarks.dm_control_recordings import EPISODE_STEPS, EPISODES, ROWS, SEED, STEPS, actions
from benchmarks.envpool_ids import walk, walk_all
from plasticbench import plugins
from plasticbench.contracts.task import BoxActions, EnvStep
from plasticbench.envs._envpool import FirstSuccess
from plasticbench.envs._scores import RAW_RETURN
from plasticbench.envs.envpool import Config, groups, tasks
from plasticbench.platform.cli import app

RECORDINGS = json.loads(gzip.decompress((Path(__file__).parent / "data" / "dm_control.json.gz").read_bytes()))
SUITE = RECORDINGS["tasks"]
COURSES = [task for task, found in SUITE.items() if "course" in found]
SLOW = ("Dog", "HumanoidCMU", "Quadruped")
CHANCES = [
    pytest.param(task, marks=[pytest.mark.slow] if task.startswith(SLOW) else [])
    for task, found in SUITE.items()
    if "chance" in found
]


def _has_qt() -> bool:
    try:
        library.make_spec("CoinrunEasy-v0")
    except ImportError:
        return False
    return True


procgen = pytest.mark.skipif(not _has_qt(), reason="Procgen needs the Qt 5 of the system")


def _play(task: str, episodes_actions: np.ndarray, seed: int, **settings: Any) -> tuple[np.ndarray, list[EnvStep]]:
    env = Config(task=task, **settings).build([seed], num_threads=1)
    first = env.reset()
    course = [env.step(action[None]) for action in episodes_actions]
    env.close()
    return first, course


# -- ids --------------------------------------------------------------------------------------------------------------


def test_every_registered_id_is_in_one_group() -> None:
    assert sorted(tasks()) == sorted(library.list_all_envs())
    assert len(groups()["dmc"]) == 51
    assert {"atari", "dmc", "metaworld", "minigrid", "playground", "procgen", "robotics"} <= groups().keys()


@pytest.mark.parametrize(
    "task", ["BipedalWalker-v3", "FetchReach-v4", "Highway-v0", "Play2048-v1", "Snake-v1", "Taxi-v3", "Walker2d-v4"]
)
def test_a_task_runs_alone_as_in_company(task: str) -> None:
    assert walk(task, steps=50)["outcome"] == "runs"


@pytest.mark.slow
@pytest.mark.parametrize("group", sorted(groups()))
def test_some_ids_of_each_group_run_or_are_refused(group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them take an hour: ``python -m benchmarks.envpool_ids``."""
    monkeypatch.chdir(tmp_path)  # VizDoom leaves files where it runs
    if group == "procgen" and not _has_qt():
        pytest.skip("Procgen needs the Qt 5 of the system")
    ids = list(groups()[group])
    some = ids[:: max(1, len(ids) // 5)]
    wrong = [found for found in walk_all(some, steps=50) if found["outcome"] not in ("runs", "refused")]
    assert not wrong


def test_list_counts_the_ids_of_each_group_and_names_them_all_as_json() -> None:
    text = CliRunner().invoke(app, ["list", "envs"]).output
    assert f"procgen: {len(groups()['procgen'])}, such as BigfishEasy-v0" in text
    assert "BossfightEasy-v0" not in text
    rows = {row["name"]: row for row in json.loads(CliRunner().invoke(app, ["list", "envs", "--json"]).output)}
    assert rows["envpool"]["tasks"] == list(tasks())
    assert rows["envpool"]["groups"]["dmc"] == list(groups()["dmc"])


@pytest.mark.slow
@procgen
def test_the_page_says_how_many_ids_of_each_group_run() -> None:
    page = (Path(__file__).parents[1] / "docs" / "envpool.md").read_text()
    table = dict(re.findall(r"^\| `(\w+)`.*?\| (\d+ \| \d+) \|", page, flags=re.MULTILINE))
    found = {group: f"{len(ids)} | {sum(map(_can_be_trained_on, ids))}" for group, ids in groups().items()}
    assert table == found
    total = sum(int(counts.split("|")[1]) for counts in found.values())
    assert f"runs {total:,} ids" in (Path(__file__).parents[1] / "README.md").read_text()


def _can_be_trained_on(task: str) -> bool:
    try:
        Config(task=task)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("cheetah-run", "CheetahRun-v1"),
        ("dm_control/humanoid_CMU-run-v0", "HumanoidCMURun-v1"),
        ("reach-v3", "MetaWorld/Reach-v3"),
        ("coinrun", "CoinrunEasy-v0"),
        ("MiniGrid-Empty-5x5", "MiniGrid-Empty-5x5-v0"),
        ("CheetahRn-v1", "CheetahRun-v1"),
    ],
)
def test_names_of_other_libraries_are_told_envpools(name: str, task: str) -> None:
    with pytest.raises(
        ValueError, match=rf"task: must be one of \d+ ids of EnvPool, got '{name}'. Did you mean '{task}'"
    ):
        Config(task=name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "qqqq"}, "got 'qqqq'. `plasticbench list envs --json` names them all"),
        ({"task": "LqrLqr21-v1"}, "task: LqrLqr21-v1 cannot be trained on: actions must be bounded"),
        ({"task": "Chess-v1"}, "task: Chess-v1 is played by 2 players at once"),
        ({"task": "BinPack-v2"}, "task: BinPack-v2 cannot be trained on: actions are 2 choices at once"),
        ({"task": "VizdoomCustom-v1"}, "task: VizdoomCustom-v1 cannot be trained on: it is an empty frame"),
        ({"task": "Cig-v1"}, "task: Cig-v1 cannot be trained on: EnvPool 1.2.5 crashes with it"),
        ({"task": "CheetahRun-v1", "observations": ("positio",)}, "no part 'positio'. Did you mean 'position'"),
        ({"task": "CartPole-v1", "observations": ("position",)}, "no part 'position'. It has only one"),
        ({"task": "CheetahRun-v1", "num_levels": 200}, "num_levels: this setting has no effect: .*no levels"),
        ({"task": "CheetahRun-v1", "num_levels": -1}, "num_levels: must be at least 0, got -1"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_by_a_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plugins.config_from("envs", "envpool", settings)


# -- observations -----------------------------------------------------------------------------------------------------


def test_a_grid_can_be_seen_alone_as_a_network_of_convolutions_reads_it() -> None:
    everything = Config(task="MiniGrid-Empty-5x5-v0")
    image = Config(task="MiniGrid-Empty-5x5-v0", observations=("image",))
    assert (everything.spec.obs_shape, image.spec.obs_shape) == ((4 + 147 + 96,), (3, 7, 7))
    flat, grid = (config.build([1], num_threads=1).reset() for config in (everything, image))
    np.testing.assert_array_equal(flat[0, 4 : 4 + 147].reshape(7, 7, 3), np.moveaxis(grid[0], 0, -1))


def test_what_playground_shows_critics_alone_is_not_seen() -> None:
    assert Config(task="Go1JoystickFlatTerrain-v1").spec.obs_shape == (48,)
    assert Config(task="Go1JoystickFlatTerrain-v1", observations=("privileged_state",)).spec.obs_shape == (123,)


def test_buttons_of_vizdoom_are_one_choice_among_combinations() -> None:
    spec = Config(task="D1Basic-v1").spec
    assert spec.obs_shape == (4, 84, 84)
    assert spec.actions.count == 6  # type: ignore[union-attr]


# -- the control suite ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", SUITE)
def test_parts_and_bounds_of_the_control_suite_are_dm_controls(task: str) -> None:
    found, config = SUITE[task], Config(task=task)
    assert config.spec.obs_shape == (sum(found["parts"].values()),)
    assert config.spec == Config(task=task, observations=tuple(found["parts"])).spec
    assert isinstance(config.spec.actions, BoxActions)
    np.testing.assert_allclose(config.spec.actions.low, found["low"])
    np.testing.assert_allclose(config.spec.actions.high, found["high"])


def test_all_bounded_tasks_of_the_control_suite_are_recorded_and_half_of_them_step_by_step() -> None:
    assert set(groups()["dmc"]) - SUITE.keys() == {"LqrLqr21-v1", "LqrLqr62-v1"}
    assert (len(COURSES), len(CHANCES)) == (26, 23)


@pytest.mark.parametrize("task", COURSES)
def test_an_episode_of_the_control_suite_is_dm_controls(task: str) -> None:
    """To its end; of walkers, whose angles are told but for rounding, until contacts have amplified that."""
    found = SUITE[task]
    first, course = _play(task, actions(found["low"], found["high"], SEED, STEPS), SEED)
    observations = np.stack([first, *(step.obs for step in course)])[:, 0]
    rewards = np.cumsum([0.0, *(float(step.raw_reward[0]) for step in course)])
    rows = [row for row in ROWS if row <= 50 or not task.startswith("Walker")]
    for values, name in ((observations, "observations"), (rewards, "rewards")):
        expected = np.array(found["course"][name])[: len(rows)]
        np.testing.assert_allclose(values[rows], expected, rtol=1e-5, atol=1e-5, err_msg=name)
    assert not any(step.terminated[0] for step in course)
    assert [bool(step.truncated[0]) for step in course] == [False] * 999 + [True]


@pytest.mark.parametrize("task", CHANCES)
def test_random_actions_get_and_see_on_average_what_they_do_in_dm_control(task: str) -> None:
    """In standard errors of the difference: the return within 5, observations within 3 on a quadratic mean."""
    found = SUITE[task]
    returns, observations = [], []
    for episode in range(EPISODES):
        _, course = _play(task, actions(found["low"], found["high"], episode, EPISODE_STEPS), 100 + episode)
        returns.append([sum(float(step.raw_reward[0]) for step in course)])
        observations.append(np.mean([step.obs[0] for step in course], axis=0))
    assert _standard_errors(np.array(returns), found["chance"]["returns"]) <= 5
    assert _standard_errors(np.array(observations), found["chance"]["observations"]) <= 3


def _standard_errors(ours: np.ndarray, theirs: dict[str, list[float]]) -> float:
    error = np.sqrt((ours.var(axis=0, ddof=1) + np.square(theirs["sd"])) / EPISODES)
    apart = np.abs(ours.mean(axis=0) - theirs["mean"])
    return float(np.sqrt(np.mean(np.square(apart / np.maximum(error, 1e-6)))))


# -- scores -----------------------------------------------------------------------------------------------------------


def test_returns_of_the_control_suite_lie_between_0_and_1000() -> None:
    config = Config(task="WalkerRun-v1")
    assert (config.score(0.0), config.score(250.0), config.score(1000.0)) == (0.0, 0.25, 1.0)


@procgen
def test_levels_of_procgen_are_scored_by_the_published_returns_of_their_difficulty() -> None:
    assert Config(task="StarpilotEasy-v0").score(2.5) == Config(task="StarpilotHard-v0").score(1.5) == 0.0
    assert Config(task="StarpilotEasy-v0").score(64.0) == Config(task="StarpilotHard-v0").score(35.0) == 1.0
    assert not Config(task="StarpilotExtreme-v0").has_references


def test_tasks_without_published_returns_are_ranked_by_raw_return() -> None:
    config = Config(task="FetchReach-v4")
    assert (config.score(-12.5), config.has_references, config.score_source) == (-12.5, False, RAW_RETURN)


def test_the_first_success_of_an_episode_counts_1_and_nothing_else_counts() -> None:
    success, tally = [0, 1, 1, 0, 0, 1], FirstSuccess(1)
    elapsed = [1, 2, 3, 0, 1, 2]  # the fourth step begins an episode
    found = [
        tally.update({"success": np.array([float(s)]), "elapsed_step": np.array([n])}).item()
        for s, n in zip(success, elapsed, strict=True)
    ]
    assert found == [0, 1, 0, 0, 0, 1]


def test_meta_world_reports_success_and_teaches_by_its_own_rewards() -> None:
    task, seed = "MetaWorld/DrawerClose-v3", 4
    down = np.tile(np.array([0.0, -1.0, -0.4, 0.0], np.float32), (500, 1))
    _, course = _play(task, down, seed)
    pool = library.make(task, env_type="gymnasium", num_envs=1, seed=[seed], partially_observable=False)
    pool.reset()
    told = [pool.step(action[None]) for action in down]
    np.testing.assert_array_equal([step.reward[0] for step in course], [reward[0] for _, reward, *_ in told])
    assert sum(step.raw_reward[0] for step in course) == max(info["success"][0] for *_, info in told)
    assert {step.raw_reward[0] for step in course} <= {0.0, 1.0}
    assert Config(task=task).score(0.75) == 0.75


def test_the_goal_of_meta_world_is_seen() -> None:
    assert (Config(task="MetaWorld/Reach-v3").build([1], num_threads=1).reset()[0, -3:] != 0).all()


# -- levels of Procgen ------------------------------------------------------------------------------------------------


@procgen
def test_one_level_is_the_same_for_every_seed_and_another_one_differs() -> None:
    def first(**levels: int) -> np.ndarray:
        return Config(task="CoinrunEasy-v0", **levels).build([1, 2], num_threads=1).reset()

    one, other, unlimited = first(num_levels=1, start_level=5), first(num_levels=1, start_level=6), first()
    np.testing.assert_array_equal(one[0], one[1])
    assert (one[0] != other[0]).any()
    assert (unlimited[0] != unlimited[1]).any()


@procgen
def test_a_first_level_among_all_levels_has_no_effect() -> None:
    with pytest.raises(ValueError, match="start_level: this setting has no effect: num_levels is 0"):
        plugins.config_from("envs", "envpool", {"task": "CoinrunEasy-v0", "start_level": 5})


# -- a whole run ------------------------------------------------------------------------------------------------------


def test_a_run_over_two_groups_trains_and_evaluates(tmp_path: Path) -> None:
    data = small(
        environments=[
            {"kind": "envpool", "task": "MiniGrid-Empty-5x5-v0", "num_envs": 2},
            {"kind": "envpool", "task": "Snake-v1", "num_envs": 2},
        ],
        seeds=1,
    )
    plan = run_all(tmp_path, data)
    assert {trial.score_source for trial in plan.trials} == {RAW_RETURN}
    assert all(any(name == "eval/score" for _, name, _ in found) for found in facts(tmp_path, plan).values())


def test_no_warning_of_gymnasium_reaches_the_user() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Config(task="CartPole-v0").build([1], num_threads=1).reset()
