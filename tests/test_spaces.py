import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Text

from plasticbench.contracts.task import BoxActions, DiscreteActions
from plasticbench.envs._spaces import Observations, actions_of, chosen, parts_of


def test_parts_become_one_vector_in_their_order_and_a_choice_becomes_one_number_each() -> None:
    space = Dict({"b": Discrete(3), "a": Dict({"x": Box(-9, 9, (2,)), "mask": MultiBinary(2)})})
    parts = parts_of(space)
    seen = chosen(parts, tuple(parts))
    batch = {"a": {"x": np.array([[1.5, -2.0]]), "mask": np.array([[True, False]])}, "b": np.array([2], np.int32)}
    by_name = {"a.mask": [1, 0], "a.x": [1.5, -2], "b": [0, 0, 1]}
    assert seen.shape == (7,)
    np.testing.assert_array_equal(seen.read(batch), [[number for name in parts for number in by_name[name]]])
    np.testing.assert_array_equal(chosen(parts, ("b", "a.x")).read(batch), [[0, 0, 1, 1.5, -2]])


def test_a_choice_that_starts_elsewhere_is_counted_from_its_start() -> None:
    seen = Observations.of({"": Discrete(3, start=-1)})
    np.testing.assert_array_equal(seen.read(np.array([-1, 1])), [[1, 0, 0], [0, 0, 1]])


def test_characters_are_divided_by_255_and_kinds_of_cells_are_not() -> None:
    parts = {"image": Box(0, 255, (2, 2, 1), np.uint8), "mission": Box(0, 255, (2,), np.uint8)}
    batch = {"image": np.full((1, 2, 2, 1), 7, np.uint8), "mission": np.array([[51, 255]], np.uint8)}
    seen = Observations.of(parts)
    np.testing.assert_allclose(seen.read(batch), [[7, 7, 7, 7, 0.2, 1.0]])
    assert (seen.dtype, seen.scale) == ("float32", 1.0)


def test_pictures_stay_bytes_with_channels_first_and_small_grids_become_numbers() -> None:
    picture = Observations.of({"": Box(0, 255, (96, 64, 3), np.uint8)})
    values = np.random.default_rng(0).integers(256, size=(2, 96, 64, 3)).astype(np.uint8)
    assert (picture.shape, picture.dtype, picture.scale) == ((3, 96, 64), "uint8", 1 / 255)
    np.testing.assert_array_equal(picture.read(values)[1, 2], values[1, :, :, 2])
    assert Observations.of({"": Box(0, 255, (4, 84, 84), np.uint8)}).shape == (4, 84, 84)
    grid = Observations.of({"": Box(0, 255, (7, 7, 3), np.uint8)})
    assert (grid.shape, grid.dtype, grid.scale) == ((3, 7, 7), "float32", 1.0)
    np.testing.assert_array_equal(grid.read(values[:, :7, :7])[0, 1], values[0, :7, :7, 1])


def test_a_single_part_of_numbers_keeps_its_shape() -> None:
    assert Observations.of({"": Box(-1, 1, (5, 8))}).shape == (5, 8)
    alone = Observations.of({"height": Box(-1, 1, ())})
    assert alone.shape == (1,)
    np.testing.assert_array_equal(alone.read({"height": np.array([0.5, 0.25])}), [[0.5], [0.25]])


def test_actions_are_a_choice_or_a_bounded_vector() -> None:
    assert actions_of(Discrete(4)) == DiscreteActions(count=4)
    assert actions_of(Box(np.float32([-1.0, 0.0]), np.float32([1.0, 2.0]))) == BoxActions(
        low=(-1.0, 0.0), high=(1.0, 2.0)
    )


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Box(-1e10, 1e10, (1,)), "actions must be bounded"),
        (Box(-np.inf, np.inf, (1,)), "actions must be bounded"),
        (Box(0, 3, (3,), np.int32), "actions are 3 choices at once"),
        (Box(-1, 1, (2, 2)), "actions must be one vector"),
        (MultiDiscrete([2, 2]), "actions must be Discrete from 0 or a bounded vector"),
        (Discrete(3, start=1), "actions must be Discrete from 0 or a bounded vector"),
    ],
)
def test_other_actions_are_refused(space: Space, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        actions_of(space)


def test_what_is_no_number_and_what_is_no_part_is_refused() -> None:
    with pytest.raises(ValueError, match="observations must be numbers or choices"):
        Observations.of({"": Text(3)})
    with pytest.raises(ValueError, match=r"there is no part 'imag'\. Did you mean 'image'"):
        chosen({"image": Discrete(2), "mission": Discrete(2)}, ("imag",))
