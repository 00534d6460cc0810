"""Small benchmarks in which each setting can be seen to do something, and what else some settings may be."""

from __future__ import annotations

from typing import Any

from plasticbench import plugins
from plasticbench.platform.definition import benchmark as sections
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
    ("scenarios", "label_permutation"): (BANDIT, "environments.0.scenario", {"phases": 4}),
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
    ("Execution", "convolutions"): "equal results but for rounding: test_convolutions.py",
    ("Execution", "opener_threads"): "equal results, by its purpose: test_ahead.py",
    ("Execution", "replay_store"): "equal results, by its purpose: test_compressed_replay.py",
    ("Checkpoint", "max_replay_s"): "how long a resume may take: test_going_on.py",
    ("Checkpoint", "ends"): "what the driver removes: test_queue.py, test_disk.py",
    ("Probes", "probes"): "read from 'kinds'",
}
