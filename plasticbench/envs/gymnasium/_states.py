"""States of environments that can give them: methods ``state_dict()`` and ``load_state_dict(state)`` of plain data.

Gymnasium has no such interface, so this one is the environment's own; its generator and its time limit are seen to
here. Wrappers must be known to keep nothing between two steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium

Env = gymnasium.Env[Any, Any]

_KEEP_NOTHING = {
    "BoundAction",
    "ClipAction",
    "ClipReward",
    "DtypeObservation",
    "FilterObservation",
    "FlattenObservation",
    "GrayscaleObservation",
    "OrderEnforcing",
    "RescaleAction",
    "RescaleObservation",
    "ReshapeObservation",
    "ResizeObservation",
}


def gives_state(env: Env) -> bool:
    """Whether everything that the next step depends on can be saved."""
    own = all(callable(getattr(env.unwrapped, name, None)) for name in ("state_dict", "load_state_dict"))
    return own and all(_is_limit(one) or type(one).__name__ in _KEEP_NOTHING for one in _wrappers(env))


def state_of(env: Env) -> dict[str, Any]:
    """Plain data."""
    inner: Any = env.unwrapped
    limits = [one._elapsed_steps for one in _wrappers(env) if _is_limit(one)]
    return {"own": inner.state_dict(), "generator": inner.np_random.bit_generator.state, "elapsed": limits}


def set_state(env: Env, state: dict[str, Any]) -> None:
    """Of an environment that was reset."""
    inner: Any = env.unwrapped
    inner.np_random.bit_generator.state = state["generator"]
    for one, elapsed in zip(filter(_is_limit, _wrappers(env)), state["elapsed"], strict=True):
        one._elapsed_steps = elapsed
    inner.load_state_dict(state["own"])


def _is_limit(wrapper: Any) -> bool:
    return isinstance(wrapper, gymnasium.wrappers.TimeLimit)


def _wrappers(env: Env) -> Iterator[Any]:
    while isinstance(env, gymnasium.Wrapper):
        yield env
        env = env.env
