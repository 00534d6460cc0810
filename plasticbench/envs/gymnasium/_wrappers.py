"""Gymnasium's wrappers by name, with their settings checked, and one of ours that bounds actions."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import wrappers

from plasticbench.plugins import did_you_mean

_WINDOW = "it shows or records, and changes nothing of what is trained on"
_STATISTICS = "its running statistics begin anew in every evaluation, which would then see other numbers than training"
_TORCH = "observations must stay NumPy arrays"
_REFUSED = {
    "Autoreset": "episodes begin anew by themselves",
    "HumanRendering": _WINDOW,
    "RecordEpisodeStatistics": _WINDOW,
    "RecordVideo": _WINDOW,
    "RenderCollection": _WINDOW,
    "OrderEnforcing": "every environment has it already",
    "PassiveEnvChecker": "observations are checked as they come",
    "NormalizeObservation": f"{_STATISTICS}. SAC has `observation_norm: running`",
    "NormalizeReward": _STATISTICS,
    "ArrayConversion": _TORCH,
    "JaxToNumpy": _TORCH,
    "JaxToTorch": _TORCH,
    "NumpyToTorch": _TORCH,
}
_OTHER_RETURNS = {
    "AtariPreprocessing",
    "ClipReward",
    "DelayObservation",
    "MaxAndSkipObservation",
    "StickyAction",
    "TimeLimit",
}


class BoundAction(gymnasium.ActionWrapper[Any, Any, Any]):
    """Gives an unbounded action box the bounds ``low`` and ``high``; actions pass unchanged."""

    def __init__(self, env: gymnasium.Env[Any, Any], low: float | np.ndarray, high: float | np.ndarray) -> None:
        super().__init__(env)
        box = env.action_space
        if not isinstance(box, gymnasium.spaces.Box):
            raise ValueError(f"actions must be a Box, got {box}")
        bounds = np.maximum(box.low, low), np.minimum(box.high, high)
        if not (bounds[0] < bounds[1]).all():
            raise ValueError(f"low must be below high, and both within {box}, got {low} and {high}")
        self.action_space = gymnasium.spaces.Box(*bounds, box.shape, box.dtype)  # type: ignore[arg-type]

    def action(self, action: Any) -> Any:
        """The same."""
        return action


_OWN: dict[str, Any] = {"BoundAction": BoundAction}


def names() -> list[str]:
    """Wrappers that a benchmark file may name."""
    theirs = [name for name in wrappers.__all__ if name != "vector" and name not in _REFUSED and not _functions(name)]
    return sorted([*theirs, *_OWN])


def check(index: int, given: Any) -> tuple[str, dict[str, Any]]:
    """Name and settings of ``Name`` or ``{kind: Name, setting: value}``.

    Raises ``ValueError`` that begins with ``wrappers.INDEX`` for what is unknown, missing or cannot be.
    """
    key = f"wrappers.{index}"
    settings = {"kind": given} if isinstance(given, str) else dict(given) if isinstance(given, Mapping) else {}
    name = settings.pop("kind", None)
    if not isinstance(name, str):
        raise ValueError(f"{key}: must be a wrapper's name, or a mapping with its name as 'kind', got {given!r}")
    if name in _REFUSED:
        raise ValueError(f"{key}: {name} has no place here: {_REFUSED[name]}")
    if name in wrappers.__all__ and name not in names():
        raise ValueError(
            f"{key}: {name} needs a function, which a file cannot give: wrap the environment in its module"
        )
    if name not in names():
        raise ValueError(f"{key}: Gymnasium has no wrapper {name!r}. {did_you_mean(name, names())}")
    parameters = _parameters(name)
    for setting in settings:
        if setting not in parameters:
            raise ValueError(f"{key}.{setting}: {name} has no such setting. {did_you_mean(setting, parameters)}")
    missing = [p.name for p in parameters.values() if p.default is p.empty and p.name not in settings]
    if missing:
        raise ValueError(f"{key}: {name} needs {', '.join(missing)}: {{kind: {name}, {missing[0]}: ...}}")
    return name, settings


def wrap(env: gymnasium.Env[Any, Any], index: int, given: Any) -> gymnasium.Env[Any, Any]:
    """The environment in a wrapper. Raises ``ValueError`` as ``check`` does, and for whatever the wrapper refuses."""
    name, settings = check(index, given)
    parameters = _parameters(name)
    values = {key: _value(value, str(parameters[key].annotation)) for key, value in settings.items()}
    try:
        made: gymnasium.Env[Any, Any] = _class(name)(env, **values)
    except Exception as error:  # wrappers assert, or call what does not fit
        what = f"{type(error).__name__}: {error}" if str(error) else f"{type(error).__name__}, without a reason"
        spaces = f"observations {env.observation_space} and actions {env.action_space}"
        raise ValueError(f"wrappers.{index}: {name} cannot wrap {spaces}: {what}") from error
    return made


def keeps_returns(given: Any) -> bool:
    """Whether returns under a wrapper can be compared with those of the task itself."""
    return (given if isinstance(given, str) else dict(given).get("kind")) not in _OTHER_RETURNS


def _class(name: str) -> Any:
    return _OWN.get(name) or getattr(wrappers, name)


def _parameters(name: str) -> dict[str, inspect.Parameter]:
    _, _, *others = inspect.signature(_class(name).__init__).parameters.values()  # after self and env
    return {parameter.name: parameter for parameter in others}


def _functions(name: str) -> bool:
    return any("Callable" in str(p.annotation) and p.default is p.empty for p in _parameters(name).values())


def _value(value: Any, annotation: str) -> Any:
    """What a file says as what the wrapper takes: lists are arrays or tuples, numbers of bounds are floats."""
    if isinstance(value, list):
        return np.array(value, np.float32) if "ndarray" in annotation else tuple(value)
    if "np.floating" in annotation and isinstance(value, int | float):
        return np.float32(value)
    return value
