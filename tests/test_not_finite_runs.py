"""A trial that is not finite, from its environment's rewards to the leaderboard, and all that goes on beside it."""

import json
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import register
from small_runs import die_behind_the_last_commit, facts, prepare, run_all, small

from plasticbench.analysis import leaderboard
from plasticbench.analysis.report import write_report
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.segment import SegmentRun
from plasticbench.seeding import derive_seed

TASK, BAD = "plasticbench-tests/Explosive-v0", 1
REFERENCES = {"low_return": -10.0, "high_return": 10.0}
TRAINING = {derive_seed(BAD, "environment", 0, i) for i in range(2)}
EVALUATION_AT_200 = {derive_seed(BAD, "evaluation", 200, i) for i in range(2)}


class Explosive(gymnasium.Env):  # type: ignore[misc]
    """Episodes of ten steps; rewards of chosen seeds are ``poison`` behind the first ``after`` steps.

    A reset is a step of the clock too, so the sixty-first reward is that of step 67 of an environment: 134 for two.
    """

    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    chosen: ClassVar[set[int]] = set()
    poison: ClassVar[Callable[[float], float]] = staticmethod(lambda reward: reward)
    after = 60

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.is_chosen, self.age = seed in self.chosen, 0
        self.left = 10
        return self._obs(), {}

    def _obs(self) -> np.ndarray:
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.age, self.left = self.age + 1, self.left - 1
        reward = float(self.np_random.normal() + action)
        if self.is_chosen and self.age > self.after:
            reward = type(self).poison(reward)
        return self._obs(), reward, self.left == 0, False, {}


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    register(TASK, entry_point=Explosive)
    yield
    del gymnasium.registry[TASK]


def explosive(**changes: Any) -> dict[str, Any]:
    environment = {"kind": "gymnasium", "task": TASK, "num_envs": 2, **REFERENCES}
    return small(environments=[environment], seeds=3) | changes


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    register(TASK, entry_point=Explosive)
    path = tmp_path_factory.mktemp("healthy")
    found = facts(path, run_all(path, explosive()))
    del gymnasium.registry[TASK]
    return found


def explode(monkeypatch: pytest.MonkeyPatch, chosen: set[int], to: float, after: int = 60) -> None:
    monkeypatch.setattr(Explosive, "chosen", chosen)
    monkeypatch.setattr(Explosive, "poison", staticmethod(lambda reward: to))
    monkeypatch.setattr(Explosive, "after", after)


def values(own: list[tuple[int, str, str]], name: str) -> dict[int, float]:
    return {step: float(value) for step, other, value in own if other == name}


@pytest.mark.parametrize("to", [float("inf"), float("nan"), 1e308])
def test_siblings_go_on_bit_equal_and_each_later_evaluation_is_the_reference_low(tmp_path, monkeypatch, healthy, to):
    explode(monkeypatch, TRAINING, to)
    found = facts(tmp_path, run_all(tmp_path, explosive()))
    for method in ("none", "fire"):
        for seed in (0, 2):
            assert found[method, seed] == healthy[method, seed]
        bad = found[method, BAD]
        marks = [(step, name) for step, name, _ in bad if name.startswith("trial/")]
        assert marks == [(134, "trial/not_finite/reward of environment 0")]
        assert [fact for fact in bad if fact[0] < 134] == [fact for fact in healthy[method, BAD] if fact[0] < 134]
        later = {name for step, name, _ in bad if step > 134}
        assert later - {n for n in later if n.startswith(("speed/", "system/"))} == {"eval/return", "eval/score"}
        assert values(bad, "eval/score").keys() == values(healthy[method, BAD], "eval/score").keys()
        assert {step: score for step, score in values(bad, "eval/score").items() if step > 134} == dict.fromkeys(
            (200, 300, 400), 0.0
        )
        assert values(bad, "eval/return")[400] == -10.0


def test_killed_and_resumed_it_has_the_same_records(tmp_path, monkeypatch):
    explode(monkeypatch, TRAINING, float("inf"), after=10)
    undisturbed = facts(tmp_path / "a", run_all(tmp_path / "a", explosive()))
    plan = prepare(tmp_path / "b", explosive())
    for segment in plan.segments:
        die_behind_the_last_commit(tmp_path / "b", segment.id)
        count = iter(range(10_000))
        while not SegmentRun(tmp_path / "b", segment.id).run(should_stop=lambda count=count: next(count) % 37 == 36):
            pass
    assert facts(tmp_path / "b", plan) == undisturbed
    assert [step for step, name, _ in undisturbed["fire", BAD] if name.startswith("trial/")] == [24]


def test_weights_that_a_treatment_breaks_are_named_at_the_event(tmp_path, monkeypatch, healthy):
    from plasticbench.learning.treatments.fire import Fire

    on_event = Fire.on_event

    def broken(self: Fire, net: Any, state: Any, look: Any) -> Any:
        report = on_event(self, net, state, look)
        if net.layers[0].weight.value.shape[0] == 3:
            net.layers[1].weight.value[BAD, 0, 0] = float("nan")
        return report

    monkeypatch.setattr(Fire, "on_event", broken)
    found = facts(tmp_path, run_all(tmp_path, explosive()))
    assert all(found[key] == healthy[key] for key in found if key != ("fire", BAD))
    marks = [(step, name) for step, name, _ in found["fire", BAD] if name.startswith("trial/")]
    assert marks == [(200, "trial/not_finite/parameter q.fc2.weight")]


def test_one_evaluation_that_is_not_finite_is_the_low_and_the_trial_goes_on(tmp_path, monkeypatch, healthy):
    explode(monkeypatch, EVALUATION_AT_200, float("nan"), after=0)
    plan = run_all(tmp_path, explosive())
    found = facts(tmp_path, plan)
    for method in ("none", "fire"):
        assert (200, "eval/not_finite", "1.0") in found[method, BAD]
        assert values(found[method, BAD], "eval/score")[200] == 0.0
        rest = [fact for fact in found[method, BAD] if not (fact[0] == 200 and fact[1].startswith("eval/"))]
        theirs = [fact for fact in healthy[method, BAD] if not (fact[0] == 200 and fact[1].startswith("eval/"))]
        assert rest == theirs
    page = write_report(tmp_path).read_text()
    assert "Single evaluations that were not finite count as the reference low" in page
    assert f"{TASK}, fire, seed 1: step 200" in page


def test_a_population_of_which_nobody_is_left_ends_without_training(tmp_path, monkeypatch):
    explode(monkeypatch, {derive_seed(seed, "environment", 0, 0) for seed in range(3)}, float("inf"), after=10)
    plan = run_all(tmp_path, explosive())
    for own in facts(tmp_path, plan).values():
        assert set(values(own, "eval/score").values()) == {0.0}
        assert [name for _, name, _ in own if name.startswith("trial/")] == ["trial/not_finite/reward of environment 0"]
    assert all(row.n_incomplete == 0 for row in leaderboard.leaderboard([tmp_path]).rows)


def test_table_page_and_sentence_tell_of_it(tmp_path, monkeypatch):
    explode(monkeypatch, TRAINING, float("inf"))
    run_all(tmp_path, explosive())
    page = write_report(tmp_path).read_text()
    board = json.loads((tmp_path / "report" / "leaderboard.json").read_text(), parse_constant=pytest.fail)
    assert {row["not_finite_trials"] for row in board["rows"]} == {1}
    assert {row["n_incomplete"] for row in board["rows"]} == {0}
    assert "Not finite: 1 of 3 trials of none and 1 of 3 trials of fire, ranked with the reference low." in page
    assert f"{TASK}, fire, seed 1: reward of environment 0 at step 134" in page
    assert (tmp_path / "report" / "leaderboard.md").read_text().count("| 1 of 3 |\n") == 2


def test_mlflow_and_the_display_tell_of_it(tmp_path, monkeypatch):
    from plasticbench.platform.tracking.mirror import Mirror

    explode(monkeypatch, TRAINING, float("inf"))
    plan = prepare(tmp_path, explosive())
    run = SegmentRun(tmp_path, plan.segments[0].id)
    assert run.run()
    assert run._trainer.num_not_finite == 1
    for segment in plan.segments[1:]:
        SegmentRun(tmp_path, segment.id).run()
    mirror = Mirror(tmp_path, None)
    directory = RunDirectory(tmp_path)
    mirror.pump({trial.id: directory.record_file(trial.id).stat().st_size for trial in plan.trials})
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    [experiment] = [e for e in client.search_experiments() if e.name == "small"]
    runs = client.search_runs([experiment.experiment_id])
    tagged = {(r.data.tags["method"], r.data.tags["seed"]) for r in runs if "not_finite" in r.data.tags}
    assert tagged == {("none", "1"), ("fire", "1")}
    assert {r.data.tags["not_finite"] for r in runs if "not_finite" in r.data.tags} == {
        "reward of environment 0 at step 134"
    }


# -- environments that raise ------------------------------------------------------------------------------------------


def simulator_dies(reward: float) -> float:
    raise RuntimeError("simulator died")


@pytest.mark.parametrize("where", ["training", "evaluation"])
def test_an_environment_that_raises_fails_its_own_trials_and_the_others_go_on(tmp_path, monkeypatch, healthy, where):
    monkeypatch.setattr(Explosive, "chosen", TRAINING if where == "training" else EVALUATION_AT_200)
    monkeypatch.setattr(Explosive, "poison", staticmethod(simulator_dies))
    monkeypatch.setattr(Explosive, "after", 60 if where == "training" else 3)
    plan = prepare(tmp_path, explosive())
    failed: dict[str, str] = {}
    for segment in plan.segments:
        done = False
        while not done:
            run, strides = SegmentRun(tmp_path, segment.id), iter(range(999))
            done = run.run(should_stop=lambda strides=strides: next(strides) == 40)
        failed |= run.failed
        assert SegmentRun(tmp_path, segment.id).failed == run.failed
    found, last = facts(tmp_path, plan), 134 if where == "training" else 200
    assert sorted(failed) == sorted(trial.id for trial in plan.trials if trial.seed == BAD)
    assert all(text.rstrip().endswith("RuntimeError: simulator died") for text in failed.values())
    for method in ("none", "fire"):
        for seed in (0, 2):
            assert found[method, seed] == healthy[method, seed]
        assert max(step for step, *_ in found[method, BAD]) <= last
        before = [fact for fact in healthy[method, BAD] if fact[0] < last]
        assert [fact for fact in found[method, BAD] if fact[0] < last] == before
    assert {row.n_incomplete for row in leaderboard.leaderboard([tmp_path]).rows} == {1}


def test_what_all_environments_raise_is_the_failure_of_the_population(tmp_path, monkeypatch):
    monkeypatch.setattr(Explosive, "chosen", {derive_seed(seed, "environment", 0, 1) for seed in range(3)})
    monkeypatch.setattr(Explosive, "poison", staticmethod(simulator_dies))
    plan = prepare(tmp_path, explosive())
    with pytest.raises(RuntimeError, match="simulator died"):
        SegmentRun(tmp_path, plan.segments[0].id).run()


def test_what_no_environment_raises_again_is_raised(tmp_path, monkeypatch):
    monkeypatch.setattr(Explosive, "chosen", TRAINING)
    raised: list[float] = []

    def once(reward: float) -> float:
        raised.append(reward)
        if len(raised) == 1:
            raise RuntimeError("a passing fault")
        return reward

    monkeypatch.setattr(Explosive, "poison", staticmethod(once))
    plan = prepare(tmp_path, explosive())
    with pytest.raises(RuntimeError, match="a passing fault"):
        SegmentRun(tmp_path, plan.segments[0].id).run()
