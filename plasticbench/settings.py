"""Constraints that a setting declares beside its type, and the one checker of them all.

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config(Settings):
        batch_rows: PositiveInt = 32

``Ge``, ``Gt``, ``Le``, ``Lt`` and ``MinLen`` mean what they mean in the package ``annotated-types``, which cannot be
used itself: ``plasticbench.learning`` and ``.agents`` declare settings and import with torch and numpy alone.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache, partial, reduce
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

Check = Callable[[Any], str | None]
"""From a value to the rule that it breaks and what was received, or ``None``."""


@dataclass(frozen=True, slots=True)
class Bound:
    """One end of a range; ``unit`` is what the number counts, for messages: ``Ge(1, "agent step")``."""

    words: str
    bracket: str
    holds: Callable[[Any, Any], bool]
    value: float
    unit: str = ""


Ge = partial(Bound, "at least", "[", operator.ge)
Gt = partial(Bound, "above", "(", operator.gt)
Le = partial(Bound, "at most", "]", operator.le)
Lt = partial(Bound, "below", ")", operator.lt)


@dataclass(frozen=True, slots=True)
class MinLen:
    """A tuple of at least ``length`` values; ``noun`` is what each of them is, for messages."""

    length: int
    noun: str = "value"


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of ``names``; those that never change are better a ``Literal``."""

    names: tuple[Any, ...]

    def problem(self, value: Any) -> str | None:
        """What is wrong with ``value``; many names are listed only where none of them is near."""
        if value in self.names:
            return None
        names = [str(name) for name in self.names]
        near = difflib.get_close_matches(str(value), names, n=1)
        listed = f"{len(names)} known names" if near and len(names) > 8 else ", ".join(names)
        return f"must be one of {listed}, got {value!r}" + (f". Did you mean {near[0]!r}?" if near else "")


UNHASHED_DEFAULT = {"unhashed_default": True}
"""Metadata of a field that is younger than results: ``field(default=..., metadata=UNHASHED_DEFAULT)``. While it holds
its default, which must do what was done before there was the field, it stands in no file and no trial id."""


def stated(config: Any) -> dict[str, Any]:
    """The fields of a dataclass that stand in files and trial ids."""
    given = ((field, getattr(config, field.name)) for field in fields(config))
    return {f.name: value for f, value in given if not (f.metadata.get("unhashed_default") and value == f.default)}


class PerMember:
    """Methods that differ only in a number with this mark share a population. It constrains nothing."""


PositiveInt = Annotated[int, Ge(1)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Le(1)]
HalfOpenFraction = Annotated[float, Ge(0), Lt(1)]
OpenFraction = Annotated[float, Gt(0), Lt(1)]


class Settings:
    """Base of frozen dataclasses whose fields declare constraints.

    A subclass with a rule over several fields defines ``__post_init__`` and begins it with
    ``Settings.__post_init__(self)``: in a dataclass with slots, ``super()`` without arguments does not work.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        """Raises ``ValueError`` with one line per setting that breaks its constraint: name, rule, value received."""
        cls: Any = type(self)
        found = [(name, check(getattr(self, name))) for name, check in _checks(cls)]
        if problems := [f"{name}: {problem}" for name, problem in found if problem is not None]:
            raise ValueError("\n".join(problems))


@cache
def _checks(cls: Any) -> list[tuple[str, Check]]:
    hints = get_type_hints(cls, include_extras=True)
    return [(field.name, check) for field in fields(cls) if (check := _check_of(hints[field.name])) is not None]


def _check_of(hint: Any, markers: tuple[Any, ...] = ()) -> Check | None:
    """The check of one type; ``None`` if it constrains nothing."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _check_of(arguments[0], (*arguments[1:], *markers))
    if origin is Literal:
        return OneOf(arguments).problem
    if origin in (Union, UnionType) and NoneType in arguments:
        present = _check_of(reduce(operator.or_, (kind for kind in arguments if kind is not NoneType)), markers)
        return present and (lambda value: None if value is None else present(value))
    if origin is tuple and arguments[-1:] == (Ellipsis,):
        inner = _check_of(arguments[0])
        least = next((marker for marker in markers if isinstance(marker, MinLen)), MinLen(0))
        return partial(_each, inner, least) if inner is not None or least.length else None
    assert not any(map(_check_of, arguments)), f"no constraint can stand inside {hint}"
    bounds = [marker for marker in markers if isinstance(marker, Bound)]
    names = next((marker.problem for marker in markers if isinstance(marker, OneOf)), None)
    return partial(_within, bounds) if bounds else names


def _each(inner: Check | None, least: MinLen, values: Any) -> str | None:
    if len(values) < least.length:
        return f"needs at least {least.length} {least.noun}, got {list(values)}"
    problems = map(inner, values) if inner is not None else ()
    return next((f"each {least.noun} {problem}" for problem in problems if problem is not None), None)


def _within(bounds: list[Bound], value: Any) -> str | None:
    for bound in bounds:
        if not bound.holds(value, bound.value):  # nothing holds of NaN
            return f"must {_rule(bounds)}, got {value!r}"
    return None


def _rule(bounds: list[Bound]) -> str:
    unit = next((f" {bound.unit}" for bound in bounds if bound.unit), "")
    ends = {bound.bracket in "[(": bound for bound in bounds}  # the outermost marker on either side
    if len(ends) == 1:
        return f"be {bounds[-1].words} {bounds[-1].value}{unit}"
    low, high = ends[True], ends[False]
    if low.bracket + high.bracket == "()":
        return f"lie strictly between {low.value} and {high.value}{unit}"
    if low.bracket + high.bracket == "[]" and unit:
        return f"be {low.value} to {high.value}{unit}"
    return f"lie in {low.bracket}{low.value}, {high.value}{high.bracket}{unit}"


def per_member_names(config: object) -> tuple[str, ...]:
    """Settings in which members of one population may differ."""
    config_class: Any = type(config)
    return _marked(config_class)


@cache
def _marked(config_class: Any) -> tuple[str, ...]:
    hints = get_type_hints(config_class, include_extras=True)
    return tuple(
        field.name
        for field in fields(config_class)
        if any(mark is PerMember for mark in getattr(hints[field.name], "__metadata__", ()))
    )
