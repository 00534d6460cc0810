"""Which members something concerns: slices whose tensors are views, and settings that differ from member to member."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pytest
import torch

from plasticbench.learning.members import (
    column,
    members_of,
    per_member_names,
    regular_slices,
    shared_settings,
    stacked,
)
from plasticbench.settings import Fraction, Ge, PerMember, Settings

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True, slots=True)
class Penalty(Settings):
    """What a treatment's settings look like."""

    strength: Annotated[float, Ge(0), PerMember] = 0.5
    rate: Annotated[Fraction, PerMember] = 0.25
    decay: Annotated[float | None, PerMember] = None
    power: Fraction = 1.0
    layers: Literal["all", "head"] = "all"


# -- slices -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "slices"),
    [
        ([], []),
        ([0], [slice(0, 1, 1)]),
        ([7], [slice(7, 8, 1)]),
        ([0, 1, 2, 3], [slice(0, 4, 1)]),
        ([4, 5], [slice(4, 6, 1)]),
        ([2, 9], [slice(2, 10, 7)]),
        ([0, 3, 6, 9], [slice(0, 10, 3)]),
        ([1, 4, 7], [slice(1, 8, 3)]),
        ([0, 1, 3], [slice(0, 2, 1), slice(3, 4, 1)]),
        ([0, 2, 3], [slice(0, 3, 2), slice(3, 4, 1)]),
        ([0, 1, 2, 5, 7, 9, 10], [slice(0, 3, 1), slice(5, 10, 2), slice(10, 11, 1)]),
        ([0, 4, 5, 6], [slice(0, 5, 4), slice(5, 7, 1)]),
    ],
)
def test_members_are_cut_into_slices_where_their_distance_changes(members, slices) -> None:
    assert regular_slices(members) == slices


def test_slices_name_all_members_once_in_order_whatever_was_chosen() -> None:
    rng = np.random.default_rng(0)
    for size in rng.integers(1, 12, 200):
        members = sorted(rng.choice(20, size, replace=False).tolist())
        slices = regular_slices(members)
        assert [member for part in slices for member in members_of(part)] == members
        assert len(slices) <= (len(members) + 1) // 2


@pytest.mark.parametrize("members", [[2], [0, 1, 2], [1, 3, 5], [0, 5], [0, 1, 3, 6]])
def test_a_slice_of_a_tensor_is_a_view_of_its_members_rows(members) -> None:
    tensor = torch.arange(14.0).view(7, 2)
    for part in regular_slices(members):
        view = tensor[part]
        assert view[:, 0].tolist() == [2.0 * member for member in members_of(part)]
        view.mul_(-1.0)
    assert [row for row in range(7) if tensor[row, 1] < 0] == members


# -- settings ---------------------------------------------------------------------------------------------------------


def test_marked_settings_are_found_by_name_also_where_they_may_be_absent() -> None:
    assert per_member_names(Penalty()) == ("strength", "rate", "decay")


def test_configs_act_together_if_they_differ_in_marked_settings_alone() -> None:
    assert shared_settings(Penalty(strength=1.0, rate=0.0)) == shared_settings(Penalty())
    assert shared_settings(Penalty(decay=0.5)) == shared_settings(Penalty(decay=0.25, strength=1.0))
    assert shared_settings(Penalty(decay=0.5)) != shared_settings(Penalty())
    assert shared_settings(Penalty(power=0.5)) != shared_settings(Penalty())
    assert shared_settings(Penalty(layers="head")) != shared_settings(Penalty())

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Twin(Settings):
        power: Fraction = 1.0
        layers: Literal["all", "head"] = "all"

    assert shared_settings(Twin()) != shared_settings(Penalty())


def test_stacking_makes_tensors_of_marked_settings_in_the_given_order_and_leaves_the_configs_alone() -> None:
    configs = [Penalty(strength=3.0), Penalty(strength=0.0, rate=1.0), Penalty(strength=2.0)]
    together = stacked(configs, CPU)
    assert together.strength.tolist() == [3.0, 0.0, 2.0]
    assert together.rate.tolist() == [0.25, 1.0, 0.25]
    assert together.strength.dtype == torch.float32
    assert (together.power, together.layers) == (1.0, "all")
    assert [config.strength for config in configs] == [3.0, 0.0, 2.0]
    assert isinstance(configs[0].strength, float)


def test_a_setting_that_nobody_gave_stays_absent() -> None:
    assert stacked([Penalty(), Penalty()], CPU).decay is None
    assert stacked([Penalty(decay=0.5), Penalty(decay=0.25)], CPU).decay.tolist() == [0.5, 0.25]


@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 4, 2), (3, 4, 2, 5, 5)])
def test_a_column_multiplies_member_by_member(shape) -> None:
    found = column(torch.tensor([0.0, 1.0, -2.0]), torch.ones(shape)) * torch.ones(shape)
    assert found.shape == shape
    for member, factor in enumerate([0.0, 1.0, -2.0]):
        assert (found[member] == factor).all()


def test_a_column_of_a_plain_number_is_the_number() -> None:
    assert column(0.5, torch.ones(3, 4)) == 0.5
