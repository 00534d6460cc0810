"""The ids that the installed EnvPool registers, and which of them an agent can be trained on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from plasticbench.envs._task_names import nearest

if TYPE_CHECKING:
    from gymnasium import Space

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "metaworld": {"partially_observable": False},  # the goal is seen, as in Meta-World's single tasks
    "vizdoom": {"use_combined_action": True},  # one choice among combinations of buttons
}
"""What a group's tasks are always made with."""


@cache
def groups() -> dict[str, tuple[str, ...]]:
    """Ids by group, both in alphabetical order; a group is the part of EnvPool that registers it."""
    from envpool.registration import registry

    found: dict[str, list[str]] = {}
    for task, (module, *_) in sorted(registry.specs.items()):
        found.setdefault(_group(module), []).append(task)
    return {name: tuple(tasks) for name, tasks in sorted(found.items())}


def _group(module: str) -> str:
    return module.rpartition(".")[2]


def group_of(task: str) -> str:
    """The group of a registered id. Raises ``ValueError`` with the nearest id if there is none."""
    import envpool  # fills the registry
    from envpool.registration import registry

    if task in registry.specs:
        return _group(registry.specs[task][0])
    near = nearest(task, envpool.list_all_envs())
    advice = "`plasticbench list envs --json` names them all" if near is None else f"Did you mean {near!r}?"
    raise ValueError(f"task: must be one of {len(registry.specs)} ids of EnvPool, got {task!r}. {advice}")


_CRASHES = "EnvPool 1.2.5 crashes with it, a game of several players over a network"
_REFUSED = {
    "Cig-v1": _CRASHES,
    "MultiDuel-v1": _CRASHES,
    "VizdoomCustom-v1": "it is an empty frame for scenario files of one's own",
}


def spaces_of(task: str, options: Mapping[str, Any]) -> tuple[Space[Any], Space[Any]]:
    """Of observations and of actions. Raises ``ValueError`` where this machine cannot make the task."""
    import envpool

    if task in _REFUSED:
        raise ValueError(f"task: {task} cannot be trained on: {_REFUSED[task]}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Gymnasium warns of its own rounding of infinite bounds
            spec = envpool.make_spec(task, **options)
            spaces = spec.observation_space, spec.action_space
    except ImportError as error:
        remedy = "`apt-get install libqt5gui5`" if group_of(task) == "procgen" else str(error)
        raise ValueError(f"task: {task} needs libraries of the system: {remedy}") from error
    if (players := spec.config.max_num_players) > 1:
        raise ValueError(f"task: {task} is played by {players} players at once, and an agent is one")
    return spaces
