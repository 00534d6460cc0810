"""Which members of a population something concerns, so that their tensors are views: regular slices."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from plasticbench.settings import per_member_names


def regular_slices(members: Sequence[int]) -> list[slice]:
    """Ascending members as few slices ``first::step``, so that each one's tensors are views and nothing is copied.

    A population orders its members such that those of one method are one slice; a trigger may choose any.
    """
    slices: list[slice] = []
    rest = list(members)
    while rest:
        step = rest[1] - rest[0] if len(rest) > 1 else 1
        count = next((i for i in range(1, len(rest)) if rest[i] - rest[i - 1] != step), len(rest))
        slices.append(slice(rest[0], rest[count - 1] + 1, step))
        rest = rest[count:]
    return slices


def members_of(members: slice) -> range:
    """The members of a slice with a start, a stop and a step."""
    return range(members.start, members.stop, members.step)


def shared_settings(config: Any) -> tuple[Any, ...]:
    """What must be equal for two configs to act together, hashable: all but the numbers marked ``PerMember``.

    A number and its absence have no tensor in common, so they do not act together.
    """
    free = [name for name in per_member_names(config) if getattr(config, name) is not None]
    return (type(config), *free, *(getattr(config, f.name) for f in fields(config) if f.name not in free))


def stacked(configs: Sequence[Any], device: torch.device) -> Any:
    """One config for several members: the settings marked ``PerMember`` become tensors ``[m]``, in the given order.

    The copy is not checked again; every config was, when it was made.
    """
    together = copy.copy(configs[0])
    for name in per_member_names(together):
        values = [getattr(config, name) for config in configs]
        assert values.count(None) in (0, len(values)), "a number and none at all do not act together"
        if None not in values:
            object.__setattr__(together, name, torch.tensor(values, dtype=torch.float32, device=device))
    return together


def not_finite_members(views: Mapping[str, Tensor], name: str) -> dict[int, str]:
    """Members of whom one of the tensors ``[M, ...]`` holds what is not finite, and the name of the first."""
    found: dict[int, str] = {}
    for own, values in views.items():
        for member in (~values.flatten(1).isfinite().all(1)).nonzero().flatten().tolist():
            found.setdefault(member, f"{name}.{own}")
    return found


def column(setting: Any, like: Tensor) -> Any:
    """A setting ``[m]`` such that it multiplies ``like`` ``[m, ...]`` member by member; a plain number stays one."""
    return setting.view(-1, *(1,) * (like.ndim - 1)) if isinstance(setting, Tensor) else setting
