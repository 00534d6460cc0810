"""Constraints of settings: what each marker lets in, what is said of the rest, and that no number lacks one."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from plasticbench import plugins
from plasticbench.platform.definition.parsing import Problems, read_section
from plasticbench.settings import (
    Bound,
    Fraction,
    Ge,
    Gt,
    HalfOpenFraction,
    Le,
    Lt,
    MinLen,
    NonNegativeFloat,
    OneOf,
    OpenFraction,
    PerMember,
    PositiveFloat,
    PositiveInt,
    Settings,
)

GAMES = ("Alien", "Amidar", "Asterix", "Boxing", "Breakout", "Pong", "Qbert", "Seaquest", "Tennis")


@dataclass(frozen=True, kw_only=True, slots=True)
class Everything(Settings):
    rows: PositiveInt = 1
    rate: PositiveFloat = 1.0
    decay: NonNegativeFloat = 0.0
    share: Fraction = 0.5
    sticky: HalfOpenFraction = 0.0
    delta: OpenFraction = 0.5
    tau: Annotated[Fraction, Gt(0)] = 1.0
    most: Annotated[int, Le(7)] = 7
    below: Annotated[int, Lt(7)] = 6
    pixels: Annotated[int, Ge(16), Le(1920, "pixels")] = 16
    period: Annotated[int, Ge(1, "agent step")] = 1
    widths: Annotated[tuple[PositiveInt, ...], MinLen(1, "width")] = (1,)
    pair: Annotated[tuple[int, ...], MinLen(2)] = (1, 2)
    limit: PositiveInt | None = None
    strength: Annotated[float | None, Gt(0), PerMember] = None
    scale: Literal["none", "muon"] = "none"
    learners: Literal[0, 1] = 0
    mode: Literal["keep", "reset"] | None = None
    game: Annotated[str, OneOf(GAMES)] = "Pong"
    free: float = 0.0


def problem(**settings: Any) -> str:
    with pytest.raises(ValueError) as error:
        Everything(**settings)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "allowed", "refused", "rule"),
    [
        ("rows", 1, 0, "must be at least 1"),
        ("rate", 1e-300, 0.0, "must be above 0"),
        ("decay", 0.0, -1e-300, "must be at least 0"),
        ("share", 0.0, -0.1, "must lie in [0, 1]"),
        ("share", 1, 2, "must lie in [0, 1]"),
        ("sticky", 0.0, -0.1, "must lie in [0, 1)"),
        ("sticky", 0.999, 1.0, "must lie in [0, 1)"),
        ("delta", 1e-9, 0.0, "must lie strictly between 0 and 1"),
        ("delta", 0.999, 1.0, "must lie strictly between 0 and 1"),
        ("tau", 1e-9, 0.0, "must lie in (0, 1]"),
        ("tau", 1.0, 1.1, "must lie in (0, 1]"),
        ("most", 7, 8, "must be at most 7"),
        ("below", 6, 7, "must be below 7"),
        ("pixels", 16, 15, "must be 16 to 1920 pixels"),
        ("pixels", 1920, 1921, "must be 16 to 1920 pixels"),
        ("period", 1, 0, "must be at least 1 agent step"),
        ("widths", (1, 9), (), "needs at least 1 width"),
        ("pair", (0, 0), (1,), "needs at least 2 value"),
        ("limit", 1, 0, "must be at least 1"),
        ("limit", None, -3, "must be at least 1"),
        ("strength", 0.1, 0.0, "must be above 0"),
        ("strength", None, -1.0, "must be above 0"),
        ("learners", 1, 2, "must be one of 0, 1"),
        ("mode", None, "drop", "must be one of keep, reset"),
    ],
)
def test_a_value_at_its_bound_passes_and_one_beyond_is_refused(
    name: str, allowed: Any, refused: Any, rule: str
) -> None:
    assert getattr(Everything(**{name: allowed}), name) == allowed
    shown = list(refused) if isinstance(refused, tuple) else refused
    assert problem(**{name: refused}) == f"{name}: {rule}, got {shown!r}"


@pytest.mark.parametrize("name", ["rate", "decay", "share", "sticky", "delta", "strength"])
def test_nan_is_refused_where_a_bound_stands(name: str) -> None:
    assert problem(**{name: math.nan}).endswith("got nan")
    assert math.isnan(Everything(free=math.nan).free)


def test_of_a_tuple_the_first_value_beyond_its_bound_is_shown() -> None:
    assert problem(widths=(3, 0, -1)) == "widths: each width must be at least 1, got 0"


def test_a_choice_names_the_nearest_one_and_lists_many_only_where_none_is_near() -> None:
    assert problem(scale="moun") == "scale: must be one of none, muon, got 'moun'. Did you mean 'muon'?"
    assert problem(scale="big") == "scale: must be one of none, muon, got 'big'"
    assert problem(game="Asterx") == "game: must be one of 9 known names, got 'Asterx'. Did you mean 'Asterix'?"
    assert problem(game="zzz") == f"game: must be one of {', '.join(GAMES)}, got 'zzz'"


@dataclass(frozen=True, kw_only=True, slots=True)
class Child(Everything):
    low: PositiveInt = 1
    high: PositiveInt = 2

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        if self.low > self.high:
            raise ValueError(f"low: must be at most high ({self.high}), got {self.low}")


def test_a_subclass_adds_fields_and_a_rule_over_several() -> None:
    assert Child(low=2).high == 2
    with pytest.raises(ValueError, match=r"^rows: must be at least 1, got 0\nlow: must be at least 1, got 0$"):
        Child(rows=0, low=0)
    with pytest.raises(ValueError, match=r"^low: must be at most high \(2\), got 3$"):
        Child(low=3)
    assert not hasattr(Child(), "__dict__")


def test_a_file_hears_of_every_setting_beyond_its_bound_by_its_dotted_key() -> None:
    problems = Problems("bench.yaml")
    assert read_section(Child, {"rows": 0, "limit": -1, "widths": [2], "strength": 1}, "agent", problems) is None
    with pytest.raises(ValueError) as error:
        problems.raise_any()
    assert str(error.value).splitlines() == [
        "bench.yaml: agent.rows: must be at least 1, got 0",
        "bench.yaml: agent.limit: must be at least 1, got -1",
    ]


def test_a_constraint_where_nothing_would_check_it_is_our_mistake() -> None:
    @dataclass(frozen=True, kw_only=True, slots=True)
    class Nested(Settings):
        by_name: dict[str, PositiveInt]

    with pytest.raises(AssertionError, match="no constraint can stand inside"):
        Nested(by_name={"a": 0})


REQUIRED: dict[tuple[str, str], dict[str, Any]] = {
    ("envs", "gymnasium"): {"task": "CartPole-v1", "low_return": 0.0, "high_return": 1.0},
    ("scenarios", "observation_offset"): {"at": (0.5,)},
    ("scenarios", "observation_permutation"): {"at": (0.5,)},
    ("scenarios", "dynamics_drift"): {"friction": (1.0, 0.5)},
    ("scenarios", "reward_flip"): {"at": (0.5,)},
    ("scenarios", "target_switch"): {"angles_degrees": (0.0, 180.0)},
    **{("scenarios", kind): {"tasks": ("Breakout-MinAtar", "Asterix-MinAtar")} for kind in ("repeat", "task_sequence")},
    ("networks", "module"): {"target": "package:Net"},
    ("envs", "tokens"): {"corpora": ("text.txt",)},
    **{("datasets", kind): {"folder": "data"} for kind in ("cifar", "mnist", "hugging_face")},
    ("datasets", "image_folder"): {"folder": "data", "size": 8},
    ("datasets", "npz"): {"path": "data.npz"},
}

UNBOUNDED = {
    ("envs", "gymnasium", "low_return"): "returns have any sign and size; it lies below high_return",
    ("envs", "gymnasium", "high_return"): "returns have any sign and size",
    ("agents", "sac", "target_entropy_coefficient"): "both signs are in use, and an entropy has no bound",
    ("agents", "sac", "log_std_min"): "a logarithm has any sign; it lies below log_std_max",
    ("agents", "sac", "log_std_max"): "a logarithm has any sign",
}
"""Numbers without a constraint, and why."""

CONFIGS = [(group, kind) for group in plugins.PACKAGES for kind in plugins.names(group)]


def unbounded(hint: Any, markers: tuple[Any, ...] = ()) -> bool:
    """Whether a number in this type has no bound on either side."""
    if get_origin(hint) is Annotated:
        return unbounded(get_args(hint)[0], get_args(hint)[1:])
    if get_origin(hint) in (tuple, Union, types.UnionType):
        return any(unbounded(part, markers) for part in get_args(hint))
    return hint in (int, float) and not any(isinstance(marker, Bound) for marker in markers)


def settings_of(group: str, kind: str) -> Iterator[tuple[str, Any]]:
    config_class = plugins.load(group, kind).Config
    hints = get_type_hints(config_class, include_extras=True)
    return ((field.name, hints[field.name]) for field in dataclasses.fields(config_class))


def test_every_number_of_every_plug_in_is_bounded_or_excepted_with_a_reason() -> None:
    found = {
        (group, kind, name) for group, kind in CONFIGS for name, hint in settings_of(group, kind) if unbounded(hint)
    }
    assert found == UNBOUNDED.keys()


@pytest.mark.parametrize(("group", "kind"), CONFIGS)
def test_every_plug_in_refuses_what_its_types_refuse(group: str, kind: str) -> None:
    module = plugins.load(group, kind)
    assert issubclass(module.Config, Settings)
    required = REQUIRED.get((group, kind), {})
    config = module.Config(**({"task": module.tasks()[0]} if not required and hasattr(module, "tasks") else required))
    for name, hint in settings_of(group, kind):
        for marker in getattr(hint, "__metadata__", ()):
            if isinstance(marker, Bound):
                beyond = marker.value + {"[": -1, "(": 0, "]": 1, ")": 0}[marker.bracket]
                with pytest.raises(ValueError, match=rf"(^|\n){name}: must .*, got {beyond}"):
                    dataclasses.replace(config, **{name: beyond})
        if get_origin(hint) is Literal:
            with pytest.raises(ValueError, match=rf"(^|\n){name}: must be one of .*, got 'neither'"):
                dataclasses.replace(config, **{name: "neither"})
