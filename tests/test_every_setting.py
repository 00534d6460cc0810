"""Whatever can be set does something: another value of any field changes what a run shows and keeps, or is refused."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from setting_places import (
    BASES,
    BEFORE,
    BY_GROUP,
    ELSEWHERE,
    IN_OTHER_FILES,
    OTHERS,
    PLACES,
)
from small_runs import facts, run_all

from plasticbench import plugins
from plasticbench.platform.definition.reading import BenchmarkError
from plasticbench.plugins import PluginField


def fields_of(config: type) -> list[tuple[str, Any, dataclasses.Field[Any]]]:
    hints = get_type_hints(config, include_extras=True)
    return [(field.name, hints[field.name], field) for field in dataclasses.fields(config)]


def alternatives(owner: str, name: str, hint: Any, now: Any) -> Iterator[Any]:
    """Other values of a field, the likeliest to matter first."""
    yield from OTHERS.get((owner, name), [])
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        group = next((mark.group for mark in arguments[1:] if isinstance(mark, PluginField)), None)
        kinds = (
            []
            if group is None
            else [kind for kind in plugins.names(group) if not isinstance(now, dict) or kind != now["kind"]]
        )
        yield from ({"kind": kind} for kind in kinds)
        if group is None:
            yield from alternatives("", name, arguments[0], now)
    elif origin is Literal:
        yield from (value for value in arguments if value != now)
    elif origin in (Union, UnionType):
        for kind in arguments:
            yield from alternatives("", name, kind, now) if kind is not NoneType else ()
    elif hint is bool:
        yield not now
    elif hint is int:
        yield from ([now * 2, max(1, now // 2), now + 1] if isinstance(now, int) else [3, 1, 50])
    elif hint is float:
        yield from ([now / 2, now * 2, now + 0.1] if now else [0.01, 0.5])
    elif hint is str and name == "layers":
        yield from ("head", "all", "encoder")


def at_key(data: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """The data with another value at a dotted key."""
    changed: Any = copy.deepcopy(data)
    *parents, last = key.split(".")
    inside = changed
    for parent in parents:
        inside = inside[int(parent)] if isinstance(inside, list) else inside.setdefault(parent, {})
    inside[int(last) if isinstance(inside, list) else last] = value
    return changed  # type: ignore[no-any-return]


def seen(data: dict[str, Any]) -> str:
    """Everything that a run of these settings shows, or why it is refused; no id and no bare setting."""
    with TemporaryDirectory() as folder:
        try:
            plan = run_all(Path(folder), data)
        except BenchmarkError as error:
            return f"refused: {error}"
        left = [str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.parent.name == "weights"]
        commits = len(list(Path(folder).glob("checkpoints/*/*.json")))
        segments = [(s.from_step, s.to_step, len(s.members), s.num_cpus, s.num_gpus) for s in plan.segments]
        kept = [plan.tracked_probes, segments, len(left), commits]
        return repr((facts(Path(folder), plan), kept))


@cache
def seen_of(key: str) -> str:
    return seen(_DATA[key])


_DATA: dict[str, dict[str, Any]] = {}


def cases() -> Iterator[Any]:
    for config, base, key, own in PLACES:
        for name, hint, field in fields_of(config):
            if (config.__name__, name) not in ELSEWHERE:
                yield pytest.param(config.__name__, base, key, own, name, hint, field, id=f"{config.__name__}.{name}")
    groups = (
        "agents",
        "learners",
        "networks",
        "replays",
        "scenarios",
        "streams",
        "treatments",
        "structures",
        "optimizers",
        "probes",
    )
    for group in groups:
        for kind in plugins.names(group):
            if kind in IN_OTHER_FILES:
                continue
            base, key, own = BASES.get((group, kind)) or BY_GROUP[group]
            inside = base["agent"].get("network", {}) if group == "networks" and key == "agent.network" else {}
            settings = {"kind": kind, **(base[key] if group in ("agents", "learners") else {}), **own}
            if kind == "mlp":
                settings |= inside
            for name, hint, field in fields_of(plugins.load(group, kind).Config):
                marks = () if (group, kind) == ("agents", "dqn") else pytest.mark.slow
                yield pytest.param(kind, base, key, settings, name, hint, field, id=f"{kind}.{name}", marks=marks)


@pytest.mark.parametrize(("owner", "base", "key", "own", "name", "hint", "field"), list(cases()))
def test_another_value_of_any_setting_changes_a_run_or_is_refused(owner, base, key, own, name, hint, field) -> None:
    if key.startswith("methods.m"):
        behind = [{"kind": BEFORE.get(owner, "layer_norm")}, {}]
        base = base | {"methods": {"m": behind if key == "methods.m.1" else {"kind": "fire"}}}
    if key == "probes.kinds.0":
        base = at_key(base, "probes.kinds", ["weight_norm"])
    as_it_is = at_key(base, key, own)
    _DATA.setdefault(text := repr(as_it_is), as_it_is)
    before = seen_of(text)
    assert not before.startswith("refused"), before
    default = field.default if field.default is not dataclasses.MISSING else None
    now = own.get(name, list(default) if isinstance(default, tuple) else default)
    tried = list(itertools.islice(alternatives(owner, name, hint, now), 6))
    assert tried, f"say in OTHERS what else {owner}.{name} may be"
    unlike = [value for value in tried if value != now]
    changed = (seen(at_key(base, key, changed_settings(own, name, value))) != before for value in unlike)
    assert any(changed), f"{owner}.{name}: {unlike} in place of {now} changed nothing"


def changed_settings(own: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """The settings with another value, and without the one that it takes the place of."""
    partners = {"episodes": "steps", "below": "above"}
    return {key: kept for key, kept in own.items() if key != partners.get(name)} | {name: value}


def course(kind: str, settings: dict[str, Any]) -> str:
    """What environments of a family show over 60 steps of the same actions, and what they are said to be worth."""
    try:
        config = plugins.config_from("envs", kind, settings)
        env = config.build(list(range(config.num_envs)), 1)
    except ValueError as error:
        return f"refused: {error}"
    rng = np.random.Generator(np.random.PCG64(0))
    actions = config.spec.actions
    shown = [env.reset().tobytes()]
    for _ in range(60):
        if hasattr(actions, "count"):
            step = env.step(rng.integers(actions.count, size=config.num_envs))
        else:
            step = env.step(rng.uniform(-1, 1, (config.num_envs, len(actions.low))).astype(np.float32))
        shown += [np.asarray(part).tobytes() for part in step]
    env.close()
    return repr((shown, config.score(10.0), config.score_source))


ENVIRONMENTS: dict[str, dict[str, Any]] = {
    "atari": {"task": "Asterix", "num_envs": 2, "rewards": "raw", "max_episode_steps": 40, "noop_max_frames": 5},
    "classic": {"task": "CartPole-v1"},
    "gymnasium": {"task": "CartPole-v1", "low_return": 0.0, "high_return": 500.0},
    "humanoid": {"task": "h1-walk-v0", "max_episode_steps": 40},
    "label_bandit": {},
    "minatar": {"task": "Breakout-MinAtar", "max_episode_steps": 20, "sticky_probability": 0.5},
    "mujoco": {"task": "Hopper-v4"},
}
OTHER_WORLDS: dict[tuple[str, str], list[Any]] = {
    ("atari", "task"): ["Breakout"],
    ("atari", "rewards"): ["sign"],
    ("atari", "max_episode_steps"): [10],
    ("atari", "noop_max_frames"): [30],
    ("classic", "task"): ["Acrobot-v1"],
    ("gymnasium", "task"): ["Acrobot-v1"],
    ("gymnasium", "low_return"): [1.0],
    ("gymnasium", "high_return"): [100.0],
    ("gymnasium", "returns_source"): ["measured"],
    ("gymnasium", "kwargs"): [{"sutton_barto_reward": True}],
    ("gymnasium", "wrappers"): [[{"kind": "ClipReward", "min_reward": 0.0, "max_reward": 0.5}]],
    ("humanoid", "task"): ["h1-run-v0"],
    ("humanoid", "ankle_meshes"): ["/nowhere"],
    ("humanoid", "max_episode_steps"): [6],
    ("label_bandit", "task"): ["Letters"],
    ("minatar", "task"): ["Asterix-MinAtar"],
    ("minatar", "max_episode_steps"): [3],
    ("minatar", "channels"): [10],
    ("mujoco", "task"): ["Walker2d-v4"],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in ENVIRONMENTS for name, *_ in fields_of(plugins.load("envs", kind).Config)],
)
def test_another_value_of_any_setting_makes_other_environments_or_is_refused(kind: str, name: str) -> None:
    own = ENVIRONMENTS[kind]
    hint, field = next(
        (hint, field) for known, hint, field in fields_of(plugins.load("envs", kind).Config) if known == name
    )
    now = own.get(name, field.default)
    tried = OTHER_WORLDS.get((kind, name)) or list(itertools.islice(alternatives(kind, name, hint, now), 4))
    assert tried, f"say in OTHER_WORLDS what else {kind}.{name} may be"
    before = course(kind, own)
    assert not before.startswith("refused"), before
    assert any(course(kind, own | {name: value}) != before for value in tried), (
        f"{kind}.{name}: {tried} changed nothing"
    )
