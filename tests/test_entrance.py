"""What an environment delivers is looked at where it enters, and an episode that never ends is named."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_environments import forgotten, write_file, write_module

from plasticbench.contracts.task import EnvironmentFault
from plasticbench.envs import _evaluation
from plasticbench.envs._entrance import Entrance
from plasticbench.platform.definition.reading import BenchmarkError, from_dict, load
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.segment import SegmentRun


@pytest.fixture(autouse=True)
def _forgets() -> Iterator[None]:
    with forgotten():
        yield


def _run(folder: Path, environment: Any = None, **changes: Any) -> None:
    benchmark = load(write_file(folder, environment, **changes))
    plan = make_plan(benchmark)
    RunDirectory(folder / "run").create(benchmark, plan)
    for segment in plan.segments:
        SegmentRun(folder / "run", segment, benchmark).run()


def _says(folder: Path, message: str, environment: Any = None, **changes: Any) -> None:
    with pytest.raises(EnvironmentFault) as error:
        _run(folder, environment, **changes)
    assert str(error.value) == message


ENDLESS = {"kwargs": {"length": 10**9}}
BY_STEPS = {"evaluation": {"every_steps": 50, "steps": 10}}


def test_an_observation_of_another_shape_says_what_was_promised_and_what_came(tmp_path: Path) -> None:
    write_module(tmp_path, deliver="return np.zeros(4 if self.age == 15 else 3, np.float32)")
    where = "mine:Mine-v0, seed 0, step 14: its observation_space promises shape (3,), and shape (4,) came"
    _says(tmp_path, where, ENDLESS, **BY_STEPS)


def test_an_episode_that_never_ends_is_named_with_what_to_set(tmp_path: Path) -> None:
    write_module(tmp_path)
    _says(
        tmp_path,
        "mine:Mine-v0, seed 0, evaluation at step 50: no episode of mine:Mine-v0 ended within 300 steps. Give the "
        "environment max_episode_steps, evaluate for a number of steps (evaluation.steps in place of "
        "evaluation.episodes), or raise evaluation.max_episode_steps",
        ENDLESS,
        evaluation={"every_steps": 50, "episodes": 1, "max_episode_steps": 300},
    )


def test_an_episode_that_never_ends_is_not_waited_for_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def played_again(*arguments: object) -> None:
        raise AssertionError("each member would be played by itself")

    monkeypatch.setattr(_evaluation, "ApartEnvs", played_again)
    write_module(tmp_path)
    limits = {"every_steps": 50, "episodes": 1, "max_episode_steps": 300}
    with pytest.raises(EnvironmentFault, match="no episode of mine:Mine-v0 ended within 300 steps"):
        _run(tmp_path, ENDLESS, seeds=2, evaluation=limits)


def test_environments_that_raised_are_not_taken_for_endless_ones() -> None:
    tally = _evaluation._Tally.zeros(2)
    tally.running_length[:] = [300, 12]
    raised = np.array([True, False])
    tally.require_ends(1.0, raised, 300, "Task")
    with pytest.raises(EnvironmentFault, match="no episode of Task ended within 300 steps"):
        tally.require_ends(1.0, ~raised, 300, "Task")


@pytest.mark.parametrize("cure", [{"max_episode_steps": 40}, {"kwargs": {"length": 300}}])
def test_an_episode_that_ends_within_the_limit_is_none(cure: dict[str, Any], tmp_path: Path) -> None:
    write_module(tmp_path)
    _run(tmp_path, cure, evaluation={"every_steps": 50, "episodes": 1, "max_episode_steps": 300})


def test_the_limit_is_far_above_any_shipped_task_and_changes_no_id(tmp_path: Path) -> None:
    write_module(tmp_path)
    benchmark = load(write_file(tmp_path))
    assert benchmark.evaluation.max_episode_steps == 200_000
    assert "max_episode_steps" not in make_plan(benchmark).trials[0].settings["evaluation"]
    own = load(write_file(tmp_path, evaluation={"every_steps": 50, "episodes": 1, "max_episode_steps": 10}))
    assert make_plan(own).trials[0].settings["evaluation"]["max_episode_steps"] == 10
    assert from_dict(own.resolved()) == own
    with pytest.raises(BenchmarkError, match=r"evaluation\.max_episode_steps: this setting has no effect: 'steps'"):
        load(write_file(tmp_path, evaluation={"every_steps": 50, "steps": 10, "max_episode_steps": 10}))


def test_the_entry_of_a_picture_has_all_its_places() -> None:
    with pytest.raises(EnvironmentFault, match=r"entry \[1, 2\] of the observation is -inf"):
        Entrance("Task", [1], 1).check(np.array([[[0, 0, 0], [0, 0, -np.inf]]], np.float32), np.zeros(1), 0)


def test_a_reward_is_named_with_its_environment() -> None:
    with pytest.raises(EnvironmentFault, match="Task, seed 2, step 5, environment 1 of 2: the reward is nan"):
        Entrance("Task", [1, 2], 2).check(np.zeros((4, 3), np.float32), np.array([0.0, 0.0, np.nan, 0.0]), 5)


def test_a_fault_can_be_sent_from_a_worker() -> None:
    fault = Entrance("Task", [4], 1).located(EnvironmentFault("the reward is nan", 0), 3)
    again = pickle.loads(pickle.dumps(fault))
    assert (str(again), again.index, again.is_located) == ("Task, seed 4, step 3: the reward is nan", 0, True)
