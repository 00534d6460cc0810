"""What agents see and do in an environment of any space, and which wrapper helps where they cannot."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from own_environments import forgotten, write_file, write_module

from plasticbench.contracts.task import BoxActions, DiscreteActions
from plasticbench.envs.gymnasium import Config
from plasticbench.envs.gymnasium._spaces import actions_of, observations_of
from plasticbench.platform.definition.reading import BenchmarkError, load
from plasticbench.platform.planning.plan import make_plan


@pytest.fixture(autouse=True)
def _forgets() -> Iterator[None]:
    with forgotten():
        yield


def _pixels(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, np.uint8)


@pytest.mark.parametrize(
    ("space", "layout", "obs_shape", "dtype"),
    [
        (_pixels(6, 5, 3), "channels last", (3, 6, 5), "uint8"),
        (_pixels(4, 6, 5), "channels first", (4, 6, 5), "uint8"),
        (_pixels(3, 3, 3), "channels last", (3, 3, 3), "uint8"),
        (_pixels(6, 5), "plane", (1, 6, 5), "uint8"),
        (_pixels(128), "vector", (128,), "float32"),
        (spaces.Box(-1, 1, (2, 3), np.float64), "vector", (2, 3), "float32"),
    ],
)
def test_pictures_are_seen_with_channels_first_wherever_they_stand(
    space: spaces.Box, layout: str, obs_shape: tuple[int, ...], dtype: str
) -> None:
    seen = observations_of(space)
    assert (seen.layout, seen.obs_shape, seen.dtype) == (layout, obs_shape, dtype)
    space.seed(0)
    raw = [space.sample(), space.sample()]
    batch = seen.batch(raw)
    assert (batch.shape, batch.dtype) == ((2, *obs_shape), dtype)
    np.testing.assert_array_equal(batch[1, 0], raw[1][..., 0] if layout == "channels last" else
                                  raw[1] if layout == "plane" else raw[1][0].astype(dtype))  # fmt: skip


def test_pictures_that_were_seen_otherwise_before_have_ids_of_their_own(tmp_path: Path) -> None:
    for shape, found in (((4, 6, 5), {"picture_layout": 1}), ((6, 5), {"picture_layout": 1}), ((6, 5, 3), {})):
        with forgotten():
            write_module(tmp_path, observations=f"gymnasium.spaces.Box(0, 255, {shape}, np.uint8)",
                         deliver=f"return np.zeros({shape}, np.uint8)")  # fmt: skip
            settings = make_plan(load(write_file(tmp_path))).trials[0].settings
        assert settings.get("corrections", {}) == found


@pytest.mark.parametrize(
    ("space", "help_"),
    [
        (spaces.Discrete(16), "makes one 0 or 1 for each of its values: wrappers: [FlattenObservation]"),
        (spaces.Tuple([spaces.Discrete(3), spaces.Box(0, 1)]), "vector of them: wrappers: [FlattenObservation]"),
        (spaces.MultiBinary(4), "vector of them: wrappers: [FlattenObservation]"),
        (spaces.MultiDiscrete([2, 3]), "vector of them: wrappers: [FlattenObservation]"),
        (spaces.Dict(place=spaces.Box(0, 1), goal=spaces.Discrete(2)), "filter_keys: [...]} chooses among place, goal"),
        (
            spaces.Sequence(spaces.Discrete(2)),
            "No wrapper of Gymnasium makes numbers of it: the environment's own module must",
        ),
    ],
)
def test_other_observations_say_which_wrapper_helps(space: spaces.Space[Any], help_: str) -> None:
    with pytest.raises(ValueError, match=r"^observations must be a Box of numbers, got ") as error:
        observations_of(space)
    assert help_ in str(error.value)


def test_numbers_without_an_axis_or_without_a_number_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must have at least one axis, got .*wrappers: \[FlattenObservation\]"):
        observations_of(spaces.Box(0, 1, ()))
    for shape in [(0,), (3, 0)]:
        with pytest.raises(ValueError, match=r"observations must hold at least one number, got Box"):
            observations_of(spaces.Box(0, 1, shape))
    with pytest.raises(ValueError, match=r"actions must be at least one number, got Box"):
        actions_of(spaces.Box(0, 1, (0,)))


def test_a_choice_that_starts_elsewhere_is_an_offset() -> None:
    actions = actions_of(spaces.Discrete(3, start=5))
    assert actions.spec == DiscreteActions(count=3)
    assert [actions.to_env(np.int64(action)) for action in range(3)] == [5, 6, 7]


@pytest.mark.parametrize(
    ("space", "count", "third"),
    [
        (spaces.MultiDiscrete([2, 3]), 6, [1, 0]),
        (spaces.MultiDiscrete([2, 3], start=[10, 20]), 6, [11, 20]),
        (spaces.MultiDiscrete([[2, 2], [2, 2]]), 16, [[0, 0], [1, 1]]),
        (spaces.MultiBinary(3), 8, [0, 1, 1]),
        (spaces.MultiDiscrete([10, 10, 10]), 1000, [0, 0, 3]),
        (spaces.Box(np.int8([5, -1]), np.int8([6, 1]), dtype=np.int8), 6, [6, -1]),
        (spaces.Box(2**63, 2**63 + 3, (1,), np.uint64), 4, [2**63 + 3]),
    ],
)
def test_combinations_are_one_choice_in_the_order_of_a_counter(space: Any, count: int, third: list[Any]) -> None:
    actions = actions_of(space)
    assert actions.spec == DiscreteActions(count=count)
    np.testing.assert_array_equal(actions.to_env(3), third)
    made = [actions.to_env(np.int64(index)) for index in range(count)]
    assert all(space.contains(action) for action in made)
    assert len({action.tobytes() for action in made}) == count


def test_numbers_take_the_shape_of_their_box() -> None:
    box = spaces.Box(np.array([[0, 1], [2, 3]], np.float32), np.array([[4, 5], [6, 7]], np.float32))
    actions = actions_of(box)
    assert actions.spec == BoxActions(low=(0.0, 1.0, 2.0, 3.0), high=(4.0, 5.0, 6.0, 7.0))
    np.testing.assert_array_equal(actions.to_env(np.arange(4.0)), [[0, 1], [2, 3]])


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.MultiDiscrete([11, 10, 10]), r"at most 1,000 combinations, .* got 1,100 of MultiDiscrete"),
        (
            spaces.Box(-np.inf, np.inf, (2,)),
            r"must be bounded, got .*wrappers: \[\{kind: BoundAction, low: -1, high: 1",
        ),
        (spaces.Box(np.float32([0]), np.float32([np.inf])), r"must be bounded, got "),
        (spaces.Box(0, 255, (3,), np.uint8), r"at most 1,000 combinations, .* got 16,777,216 of Box"),
        (spaces.Box(-np.inf, np.inf, (2,), np.int64), r"at most 1,000 combinations, .* got 340,282,366,920,938,463"),
        (spaces.Dict(a=spaces.Discrete(2)), r"must be a choice \(Discrete, MultiDiscrete\) or a bounded Box, got Dict"),
    ],
)
def test_other_actions_are_refused_with_what_helps(space: spaces.Space[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        actions_of(space)


def test_an_offset_and_a_combination_reach_the_environment(tmp_path: Path) -> None:
    for space, choice, taken in (("Discrete(3, start=7)", 2, 9), ("MultiDiscrete([3, 4])", 5, [1, 1])):
        with forgotten():
            write_module(tmp_path, actions=f"gymnasium.spaces.{space}")
            env: Any = load(write_file(tmp_path)).environments[0].config.build([1], 1)
            env.reset()
            env.step(np.array([choice]))
            np.testing.assert_array_equal(env._envs[0].unwrapped.action, taken)


# Wrappers


def test_wrappers_stand_around_the_environment_in_their_order() -> None:
    plain = Config(task="Pendulum-v1")
    scaled = Config(task="Pendulum-v1", wrappers=({"kind": "RescaleAction", "min_action": -1, "max_action": 1},))
    assert plain.spec.actions == BoxActions(low=(-2.0,), high=(2.0,))
    assert scaled.spec.actions == BoxActions(low=(-1.0,), high=(1.0,))
    stacked = Config(
        task="Pendulum-v1", wrappers=({"kind": "FrameStackObservation", "stack_size": 4}, "FlattenObservation")
    )
    assert stacked.spec.obs_shape == (12,)
    assert Config(task="Taxi-v3", wrappers=("FlattenObservation",)).spec.obs_shape == (500,)
    ours, theirs = scaled.build([3], 1), gymnasium.make("Pendulum-v1")
    ours.reset(), theirs.reset(seed=3)
    np.testing.assert_allclose(ours.step(np.array([[0.5]], np.float32)).obs[0], theirs.step(np.array([1.0]))[0])


def test_lists_are_bounds_of_each_action_or_shapes() -> None:
    bounds = {"kind": "RescaleAction", "min_action": [-1, 0], "max_action": [1, 1]}
    config = Config(task="LunarLanderContinuous-v3", wrappers=(bounds,))
    assert config.spec.actions == BoxActions(low=(-1.0, 0.0), high=(1.0, 1.0))
    reshaped = Config(task="Pendulum-v1", wrappers=({"kind": "ReshapeObservation", "shape": [3, 1]},))
    assert reshaped.spec.obs_shape == (3, 1)


def test_unbounded_actions_get_bounds(tmp_path: Path) -> None:
    write_module(tmp_path, actions="gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)")
    with pytest.raises(BenchmarkError, match="BoundAction gives bounds"):
        load(write_file(tmp_path))
    sac = {"kind": "sac", "capacity_transitions": 100, "learning_starts_steps": 50}
    bound = {"wrappers": [{"kind": "BoundAction", "low": -2, "high": [1, 3]}]}
    config = load(write_file(tmp_path, bound, agent=sac)).environments[0].config
    assert config.spec.actions == BoxActions(low=(-2.0, -2.0), high=(1.0, 3.0))


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [
        ("FlatenObservation", r"^wrappers\.0: Gymnasium has no wrapper 'FlatenObservation'\. Did you mean 'Flatten"),
        ({"kind": "RescaleAction"}, r"^wrappers\.0: RescaleAction needs min_action, max_action"),
        (
            {"kind": "ClipReward", "low": 1},
            r"^wrappers\.0\.low: ClipReward has no such setting\. Known: max_reward, min",
        ),
        ({"kind": "TransformReward"}, r"^wrappers\.0: TransformReward needs a function, which a file cannot give"),
        (
            "NormalizeObservation",
            r"^wrappers\.0: NormalizeObservation has no place here: its running statistics .* SAC",
        ),
        ("RecordVideo", r"^wrappers\.0: RecordVideo has no place here: it shows or records"),
        ("NumpyToTorch", r"^wrappers\.0: NumpyToTorch has no place here"),
        ({"min_action": 1}, r"^wrappers\.0: must be a wrapper's name, or a mapping with its name as 'kind'"),
        (3, r"^wrappers\.0: must be a wrapper's name"),
        ("GrayscaleObservation", r"^wrappers\.0: GrayscaleObservation cannot wrap observations Box.*AssertionError"),
        (
            {"kind": "BoundAction", "low": 3, "high": 4},
            r"^wrappers\.0: BoundAction cannot wrap .*low must be below high",
        ),
        ({"kind": "StickyAction", "repeat_action_probability": 2}, r"^wrappers\.0: StickyAction cannot wrap"),
    ],
)
def test_wrappers_are_checked_with_their_settings(wrapper: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(task="Pendulum-v1", wrappers=(wrapper,))


def test_a_file_names_wrappers_and_hears_of_them_by_their_place(tmp_path: Path) -> None:
    write_module(tmp_path)
    names = ["FlattenObservation", {"kind": "TimeAwareObservation", "normalise": True}]
    with pytest.raises(
        BenchmarkError, match=r"own\.yaml: environments\.0\.wrappers\.1\.normalise: TimeAwareObservation"
    ):
        load(write_file(tmp_path, {"wrappers": names}))
    names[1] = "TimeAwareObservation"
    benchmark = load(write_file(tmp_path, {"wrappers": names, "max_episode_steps": 50}))
    assert benchmark.environments[0].config.spec.obs_shape == (4,)
    assert make_plan(benchmark).trials[0].settings["environment"]["wrappers"] == names


def test_known_returns_are_those_of_the_task_itself() -> None:
    assert Config(task="CartPole-v1").has_references
    assert Config(task="CartPole-v1", wrappers=("FlattenObservation",)).has_references
    assert not Config(task="CartPole-v1", wrappers=({"kind": "ClipReward", "max_reward": 0.5},)).has_references
    assert not Config(task="CartPole-v1", max_episode_steps=50).has_references
    assert not Config(task="CartPole-v1", kwargs={"sutton_barto_reward": True}).has_references
