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
from small_runs import facts, run_all

from plasticbench import plugins
from plasticbench.platform.definition import benchmark as sections
from plasticbench.platform.definition.reading import BenchmarkError
from plasticbench.plugins import PluginField
from plasticbench.schedules import At, Every, Trigger

COMMON: dict[str, Any] = {
    "name": "every",
    "seeds": 1,
    "budget_steps": 120,
    "evaluation": {"every_steps": 60, "steps": 40, "num_envs": 2},
    "records": {"every_steps": 20},
    "probes": {"every_steps": 40, "batch_rows": 16, "kinds": ["weight_norm", "dormant_ratio"]},
    "checkpoint": {"every_s": 1000.0},
    "tracking": {"weights": "none"},
}
DQN: dict[str, Any] = COMMON | {
    "environments": [{"kind": "classic", "task": "CartPole-v1", "num_envs": 2}],
    "agent": {
        "kind": "dqn",
        "network": {"kind": "mlp", "hidden": [8]},
        "learning_rate": 0.01,
        "batch_rows": 8,
        "capacity_transitions": 60,
        "learning_starts_steps": 20,
        "target_period_steps": 20,
        "huber_threshold": 0.1,
        "replay_ratio": 0.5,
        "epsilon_decay_fraction": 0.5,
    },
    "methods": {"none": {"kind": "none"}},
}
SAC: dict[str, Any] = COMMON | {
    "environments": [{"kind": "classic", "task": "Pendulum-v1", "num_envs": 2}],
    "agent": {
        "kind": "sac",
        "actor_network": {"kind": "mlp", "hidden": [8, 8], "initializer": "torch_default"},
        "critic_network": {"kind": "simba", "num_blocks": 1, "width": 4},
        "learning_rate": 0.01,
        "batch_rows": 8,
        "capacity_transitions": 60,
        "learning_starts_steps": 20,
        "replay_ratio": 0.5,
    },
    "methods": {"none": {"kind": "none"}},
}
PPO: dict[str, Any] = DQN | {
    "agent": {
        "kind": "ppo",
        "network": {"kind": "mlp", "hidden": [8], "initializer": "orthogonal"},
        "critic_network": {"kind": "mlp", "hidden": [8], "initializer": "orthogonal"},
        "learning_rate": 0.05,
        "rollout_steps": 24,
        "epochs": 3,
        "minibatches": 2,
        "ratio_clip": 0.05,
        "value_clip": 0.05,
    },
}
MINATAR = DQN | {"environments": [{"kind": "minatar", "task": "Breakout-MinAtar"}]}
IMAGES: dict[str, Any] = {
    "name": "every",
    "environments": [{"kind": "images", "stream": {"kind": "permuted_inputs", "phases": 2, "samples": 60}}],
    "learner": {"kind": "classifier", "network": {"kind": "mlp", "hidden": [8]}, "batch_rows": 8},
    "methods": {"none": {"kind": "none"}},
    "seeds": 1,
    "budget_updates": 24,
    "evaluation": {"every_updates": 6},
    "records": {"every_updates": 6},
    "probes": {"every_updates": 6, "batch_rows": 16, "kinds": ["weight_norm"]},
    "checkpoint": {"every_s": 1000.0},
    "tracking": {"weights": "none"},
}
PADDED = DQN | {"environments": [{"kind": "minatar", "task": "Breakout-MinAtar", "channels": 10}]}
HOPPER = SAC | {"environments": [{"kind": "mujoco", "task": "Hopper-v4", "num_envs": 2}]}
BANDIT = DQN | {"environments": [{"kind": "label_bandit", "num_envs": 2}]}
ATARI = DQN | {"environments": [{"kind": "atari", "task": "Pong", "num_envs": 2}], "budget_steps": 80}

SLOW_TARGET = DQN | {
    "agent": DQN["agent"] | {"target_period_steps": 100},
    "probes": DQN["probes"] | {"kinds": ["weight_distance", "srank"], "batch_rows": 4},  # too few rows for a rank
}

TREATED: dict[str, dict[str, Any]] = {
    "adam_rel": {"at": [0.5]},
    "dash": {"at": [0.5]},
    "drm": {"at": [0.5], "rate": 1.0, "tau": 0.9},
    "optimizer_reset": {"at": [0.5]},
    "partial_reset": {"at": [0.5], "share": 0.5},
    "regrama": {"at": [0.5], "tau": 0.9},
    "selective_weight_reinit": {"at": [0.5], "share": 0.5},
    "self_normalized_resets": {"longest_gap_updates": 3, "recompute_updates": 2},
    "continual_backprop": {"replacement_rate": 0.2, "maturity_updates": 5, "accumulate": True},
    "fire": {"at": [0.5], "solver": "newton_schulz", "layers": "encoder", "rest": "reset"},
    "full_reset": {"at": [0.5]},
    "hare_tortoise": {"at": [0.5]},
    "last_layers": {"at": [0.5]},
    "none": {},
    "redo": {"at": [0.5], "tau": 0.9},
    "shrink_perturb": {"at": [0.5]},
    "weight_clipping": {"kappa": 0.1},
}
"""Settings with which all others of a treatment matter; those that are not named need none."""

BASES: dict[tuple[str, str], tuple[dict[str, Any], str, dict[str, Any]]] = {
    ("probes", "saturation"): (
        DQN | {"agent": DQN["agent"] | {"network": {"kind": "mlp", "hidden": [8], "activation": "tanh"}}},
        "probes.kinds.0",
        {},
    ),
    ("treatments", "nap"): (DQN, "methods.m.1", {}),  # behind a structure that it needs
    ("treatments", "plasticity_injection"): (DQN, "methods.m.1", {"at": [0.5]}),
    ("optimizers", "kron"): (DQN, "methods.m", {"fit_flat_updates": 1}),
    ("agents", "dqn"): (DQN, "agent", {}),
    ("agents", "sac"): (SAC, "agent", {}),
    ("agents", "ppo"): (PPO, "agent", {}),
    **{("replays", kind): (DQN, "agent.replay", {}) for kind in plugins.names("replays")},
    ("networks", "mlp"): (DQN, "agent.network", {}),
    ("networks", "simba"): (DQN, "agent.network", {}),
    ("networks", "simbav2"): (DQN, "agent.network", {"width": 4}),
    ("networks", "minatar_cnn"): (MINATAR, "agent.network", {}),
    ("networks", "impala_cnn"): (MINATAR, "agent.network", {"channels": [4], "hidden_units": 8}),
    ("networks", "nature_cnn"): (ATARI, "agent.network", {"hidden_units": 8}),
    ("scenarios", "observation_offset"): (DQN, "environments.0.scenario", {"at": [0.5], "replay": "clear"}),
    ("networks", "cnn_small"): (IMAGES, "learner.network", {"width": 2}),
    ("networks", "resnet18"): (IMAGES, "learner.network", {"width": 2}),
    ("networks", "vit_tiny"): (IMAGES, "learner.network", {"width": 12, "num_blocks": 1}),
    ("learners", "classifier"): (IMAGES, "learner", {"warm_up_fraction": 0.5, "max_gradient_norm": 0.1}),
    ("streams", "class_incremental"): (IMAGES, "environments.0.stream", {"phases": 2}),
    ("streams", "growing"): (IMAGES, "environments.0.stream", {"phases": 3}),
    ("scenarios", "observation_permutation"): (DQN, "environments.0.scenario", {"at": [0.5], "replay": "clear"}),
    ("scenarios", "dynamics_drift"): (HOPPER, "environments.0.scenario", {"friction": [1.0, 0.5], "replay": "clear"}),
    ("scenarios", "repeat"): (PADDED, "environments.0.scenario", {"tasks": ["Breakout-MinAtar", "Asterix-MinAtar"]}),
    ("scenarios", "reward_flip"): (DQN, "environments.0.scenario", {"at": [0.5]}),
    ("scenarios", "target_switch"): (SAC, "environments.0.scenario", {"angles_degrees": [0.0, 180.0]}),
    ("scenarios", "task_sequence"): (
        PADDED,
        "environments.0.scenario",
        {"tasks": ["Breakout-MinAtar", "Asterix-MinAtar"]},
    ),
    ("scenarios", "random_labels"): (BANDIT, "environments.0.scenario", {"phases": 4}),
    ("scenarios", "stationary"): (DQN, "environments.0.scenario", {}),
    **{("treatments", kind): (SAC, "methods.m", own) for kind, own in TREATED.items()},
}
BY_GROUP = {
    "treatments": (SAC, "methods.m", {}),
    "structures": (MINATAR | {"agent": DQN["agent"] | {"network": {"kind": "minatar_cnn"}}}, "methods.m", {}),
    "optimizers": (DQN, "methods.m", {}),
    "probes": (DQN, "probes.kinds.0", {}),
    "streams": (IMAGES, "environments.0.stream", {}),
}
PLACES: list[tuple[type, dict[str, Any], str, dict[str, Any]]] = [
    (sections.Evaluation, DQN, "evaluation", DQN["evaluation"]),
    (sections.Probes, DQN, "probes", DQN["probes"]),
    (sections.Records, DQN, "records", DQN["records"]),
    (sections.Tracking, DQN, "tracking", {"weights": "final"}),
    (sections.Checkpoint, DQN, "checkpoint", DQN["checkpoint"]),
    (sections.Execution, DQN | {"seeds": 2}, "execution", {}),
    (At, DQN, "methods.m", {"kind": "fire", "at": [0.5]}),
    (Every, DQN, "methods.m", {"kind": "fire", "every": 30}),
    (Trigger, SLOW_TARGET, "methods.m.when", {"probe": "weight_distance", "above": 1e-9, "at_most_every": 50}),
]
OTHERS: dict[tuple[str, str], list[Any]] = {
    ("Checkpoint", "every_s"): [1e-9],
    ("Evaluation", "episodes"): [2],
    ("Execution", "members_per_population"): [1],
    ("Trigger", "probe"): ["srank"],
    ("Trigger", "network"): ["target"],
    ("Trigger", "above"): [1e6],
    ("Trigger", "below"): [1.0],
    ("drm", "least_kept"): [0.89],  # above what dormancy leaves
    ("impala_cnn", "channels"): [[3]],
    ("kron", "fit_flat_updates"): [500],
    ("kron", "least_fit_share"): [1.0],
    ("kron", "triangular_size"): [2],
    ("mlp", "hidden"): [[9]],
    ("observation_offset", "at"): [[0.25]],
    ("dynamics_drift", "friction"): [[1.0, 0.1]],
    ("dynamics_drift", "gravity"): [[1.0, 0.5]],
    ("dynamics_drift", "action_scale"): [[1.0, 0.5]],
    ("repeat", "tasks"): [["Breakout-MinAtar", "Freeway-MinAtar"]],
    ("reward_flip", "at"): [[0.25]],
    ("target_switch", "angles_degrees"): [[0.0, -170.0]],
    ("task_sequence", "tasks"): [["Breakout-MinAtar", "Freeway-MinAtar"]],
    ("recency", "scale_transitions"): [10.0],
    ("classifier", "warm_up_max_updates"): [2],
    ("classifier", "final_rate_fraction"): [0.1],
    ("classifier", "accumulate"): [9, 2],
    ("observation_permutation", "at"): [[0.25]],
    ("At", "at"): [[0.75]],
    ("dqn", "capacity_transitions"): [40],
    ("dqn", "evaluation_epsilon"): [0.9],
    ("dqn", "priming"): [{"at_step": 70, "updates": 5}],
    ("sac", "priming"): [{"at_step": 70, "updates": 5}],
    ("sac", "capacity_transitions"): [40],
    ("ppo", "target_kl"): [1e-6],
}
"""Other values of fields whose type does not say enough."""
BEFORE = {"plasticity_injection": "injection_heads"}
"""Structures before a treatment in its method, where it is not ``layer_norm``."""
IN_OTHER_FILES = {
    "rllib": "RLlib's own settings: test_rllib_settings.py",
    "vgg16": "images of 32 x 32: test_module_network.py",
    "gpt": "texts: test_tokens.py",
    "level_sets": "Procgen needs Qt 5: test_task_changes.py",
    "module": "somebody's code: test_module_network.py",
}
ELSEWHERE = {
    ("Execution", "max_concurrent"): "a limit of the driver: test_runner.py",
    ("Execution", "replay_store"): "equal results, by its purpose: test_compressed_replay.py",
    ("Checkpoint", "max_replay_s"): "how long a resume may take: test_going_on.py",
    ("Checkpoint", "ends"): "what the driver removes: test_queue.py, test_disk.py",
    ("Probes", "probes"): "read from 'kinds'",
}


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
    "atari": {"task": "Asterix", "num_envs": 2, "rewards": "raw", "max_episode_steps": 40, "noop_max_frames": 1},
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
