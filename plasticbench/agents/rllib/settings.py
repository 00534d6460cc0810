"""Which of RLlib's settings may stand in a benchmark file, and why the others may not. Plain data; no ray here.

A setting is let in once resets, probes, the clock and checkpoints were made to work with it; everything else is refused
by name, because RLlib would take it and the comparison would be silently wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from plasticbench import settings
from plasticbench.contracts.task import Demands
from plasticbench.plugins import did_you_mean

_BOTH: dict[str, Any] = {
    "gamma": "share",
    "grad_clip": "rate",
    "grad_clip_by": ("value", "norm", "global_norm"),
    "n_step": "count",
    "num_steps_sampled_before_learning_starts": "count",
    "replay_buffer_config": "buffer",
    "rollout_fragment_length": "count",
    "target_network_update_freq": "steps",
    "tau": "share",
    "train_batch_size_per_learner": "count",
    "training_intensity": "rate",
}
_OWN: dict[str, dict[str, Any]] = {
    "DQN": {"lr": "rate", "double_q": "flag", "epsilon": "epsilon", "td_error_loss_fn": ("huber", "mse")},
    "SAC": {
        "actor_lr": "rate",
        "critic_lr": "rate",
        "alpha_lr": "rate",
        "initial_alpha": "rate",
        "target_entropy": "number",
        "twin_q": "flag",
    },
}
_MODEL: dict[str, Any] = {
    "fcnet_hiddens": "widths",
    "fcnet_activation": ("relu", "tanh", "silu", "swish", "linear"),
    "head_fcnet_hiddens": "widths",
    "head_fcnet_activation": ("relu", "tanh", "silu", "swish", "linear"),
    "conv_filters": "filters",
    "conv_activation": ("relu", "tanh", "silu", "swish", "linear"),
    "fusionnet_hiddens": "widths",
    "fusionnet_activation": ("relu", "tanh", "silu", "swish", "linear"),
}
DEFAULTS = {
    "DQN": {"num_steps_sampled_before_learning_starts": 1_000, "train_batch_size_per_learner": 32, "capacity": 50_000},
    "SAC": {
        "num_steps_sampled_before_learning_starts": 1_500,
        "train_batch_size_per_learner": 256,
        "capacity": 1_000_000,
    },
}
"""RLlib 2.60's own, where something here depends on them."""

MODEL_DEFAULTS = {
    "fcnet_hiddens": [64, 64],
    "fcnet_activation": "relu",
    "head_fcnet_hiddens": [],
    "fusionnet_activation": "relu",
}
"""Ours: the rest is RLlib's."""

_FUSION = ("hiddens", "activation")

_CONNECTORS = (
    "it changes what networks see without the probes' knowing. Change the observations in an environment instead"
)
_SAMPLES = "every step is taken in the trial's own process, so that resets, probes and forks fall on exact steps"
_COMPILED = "compiled modules may go on with the weights of before a reset"
_OWN_LOOP = "the benchmark file's own 'evaluation', 'records' and 'checkpoint' take its place"
_RNG = "chance comes from 'seeds'"
_REASONS = {
    **dict.fromkeys(("env_to_module_connector", "module_to_env_connector", "learner_connector"), _CONNECTORS),
    **dict.fromkeys(("num_env_runners", "num_envs_per_env_runner", "batch_mode"), _SAMPLES),
    **dict.fromkeys(("torch_compile_learner", "torch_compile_worker"), _COMPILED),
    **dict.fromkeys(("evaluation_interval", "evaluation_duration", "evaluation_config", "callbacks"), _OWN_LOOP),
    "seed": _RNG,
    "explore": "an agent that does not explore does not learn",
    "env": "it is one of 'environments'",
    "num_learners": "it stands beside 'config', as agent.num_learners",
    "num_gpus_per_learner": "these agents train on the CPU",
    "num_cpus_per_learner": "the population reserves the learner's CPU",
    "dueling": "two streams have no single output layer, which reset policies ask for. It is false here",
    "noisy": "what a reset does to learned noise is undefined. It is false here",
    "num_atoms": "probes of a return distribution's loss are undefined. It is 1 here",
    "lr_schedule": "a rate must be one number",
    "model_config": "networks stand beside 'config', as agent.model",
    "model": "networks stand beside 'config', as agent.model",
    "framework": "it is torch",
}  # fmt: skip
_MODEL_REASONS = {
    "use_lstm": "probes look at single rows of the replay, which a network with a memory cannot read",
    "vf_share_layers": "neither algorithm has a value function",
    "fcnet_use_layernorm": "it was never compared with the structure layer_norm of native agents",
}


def check_settings(algorithm: str, config: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Raises ``ValueError`` that names the first setting that is unknown, refused or of the wrong kind."""
    known = {**_BOTH, **_OWN[algorithm]}
    for name, value in config.items():
        if name not in known:
            raise ValueError(f"config.{name}: {_why_not(name, _REASONS, known)}")
        _check_value(f"config.{name}", known[name], value)
    for name, value in model.items():
        if name not in _MODEL:
            reason = "fresh weights are drawn as PyTorch draws them" if "initializer" in name else None
            raise ValueError(f"model.{name}: {_why_not(name, _MODEL_REASONS, _MODEL, reason)}")
        _check_value(f"model.{name}", _MODEL[name], value)


def _why_not(name: str, reasons: Mapping[str, str], known: Mapping[str, Any], reason: str | None = None) -> str:
    reason = reason or reasons.get(name)
    if reason is not None:
        return f"cannot be set: {reason}"
    return f"no setting that resets, probes and checkpoints are known to work with. {did_you_mean(name, known)}"


def _check_value(key: str, kind: Any, value: Any) -> None:
    rule = _rule(kind, value)
    if rule is not None:
        raise ValueError(f"{key}: must be {rule}, got {value!r}")


def _rule(kind: Any, value: Any) -> str | None:
    """What the value must be, or ``None`` if it is that."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(kind, tuple):
        return None if value in kind else f"one of {', '.join(kind)}"
    rules: dict[str, tuple[bool, str]] = {
        "rate": (number and value > 0, "one number above 0 (a schedule's place is not saved)"),
        "share": (number and 0 < value <= 1, "one number above 0 and at most 1"),
        "number": (number, "a number"),
        "count": (whole and value >= 1, "a whole number of at least 1"),
        "steps": (whole and value >= 0, "a whole number of agent steps, 0 or more"),
        "flag": (isinstance(value, bool), "true or false"),
        "widths": (isinstance(value, list) and all(isinstance(x, int) and x > 0 for x in value), "a list of widths"),
        "filters": (
            isinstance(value, list) and all(isinstance(x, list) and len(x) in (3, 4) for x in value),
            "a list of [channels, kernel, stride], with a padding as fourth where it is not the usual one",
        ),
        "epsilon": (_is_epsilon(value), "a number from 0 to 1, or [[0, first], [step, last], ...] in order of steps"),
        "buffer": (
            isinstance(value, Mapping) and set(value) == {"capacity"} and _rule("count", value["capacity"]) is None,
            "{capacity: transitions} alone, because rows are drawn uniformly, as native agents draw them by default",
        ),
    }  # fmt: skip
    passed, rule = rules[kind]
    return None if passed else rule


def _is_epsilon(value: Any) -> bool:
    points = value if isinstance(value, list) else [[0, value], [1, value]]
    if len(points) < 2 or not all(isinstance(point, list) and len(point) == 2 for point in points):
        return False
    if not all(isinstance(x, int | float) and not isinstance(x, bool) for point in points for x in point):
        return False
    steps = [step for step, _ in points]  # 1.0e4 as well, and the same one twice, which is a jump, as RLlib has it
    is_ordered = steps[0] == 0 and all(now <= later for now, later in pairwise(steps)) and math.isfinite(steps[-1])
    return is_ordered and all(0 <= share <= 1 for _, share in points)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings(settings.Settings):
    """``config`` and ``model`` hold RLlib's own settings, of AlgorithmConfig and DefaultModelConfig: docs/rllib.md.

    With ``num_learners: 1`` updates are made in a process of their own. One trial is one process: members are not
    trained in lockstep.
    """

    algorithm: Literal["DQN", "SAC"] = "DQN"
    config: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    num_learners: Literal[0, 1] = 0

    def __post_init__(self) -> None:
        settings.Settings.__post_init__(self)
        check_settings(self.algorithm, self.config, self.model)
        if self.updates_per_round < 1:
            raise ValueError(
                f"config.training_intensity: must make at least one update per rollout fragment, got "
                f"{self.config['training_intensity']}. Give rollout_fragment_length a larger value instead"
            )
        if self.config.get("n_step", 1) > self.fragment_steps:
            raise ValueError(
                f"config.n_step: must be at most rollout_fragment_length ({self.fragment_steps}), got "
                f"{self.config['n_step']}"
            )

    def setting(self, name: str) -> Any:
        """A setting of ``config``, or RLlib's default."""
        return self.config.get(name, DEFAULTS[self.algorithm].get(name))

    def fits(self, num_envs: int, budget_steps: int) -> None:
        """Raises ``ValueError`` for a budget in which nothing would be learnt."""
        if self.learning_starts_steps >= budget_steps:
            raise ValueError(
                f"config.num_steps_sampled_before_learning_starts: must be less than the budget of {budget_steps} "
                f"steps, got {self.learning_starts_steps}"
            )

    def inert_within(self, num_envs: int, budget_steps: int) -> dict[str, str]:
        """Settings without effect in so many agent steps, and why."""
        inert = {}
        if "grad_clip" not in self.config:
            inert["config.grad_clip_by"] = "there is no grad_clip"
        if self.config.get("target_network_update_freq", 0) > budget_steps:
            inert["config.target_network_update_freq"] = f"it lies beyond the budget of {budget_steps} steps"
        if not self.model.get("head_fcnet_hiddens"):
            inert["model.head_fcnet_activation"] = "the head has no hidden layers"
        if self.algorithm == "DQN":
            inert |= {f"model.fusionnet_{name}": "DQN's network reads observations alone" for name in _FUSION}
        written = {f"{part}.{name}" for part in ("config", "model") for name in getattr(self, part)}
        return {name: reason for name, reason in inert.items() if name in written}

    @property
    def fragment_steps(self) -> int:
        """Agent steps between two looks at the agent."""
        return int(self.config.get("rollout_fragment_length", self.config.get("n_step", 1)))

    @property
    def updates_per_round(self) -> int:
        """RLlib's own rule: trained transitions per sampled one, in whole batches."""
        if "training_intensity" not in self.config:
            return 1
        native = self.setting("train_batch_size_per_learner") / self.fragment_steps
        ratio: float = self.config["training_intensity"] / native
        return round(ratio) if ratio >= 1 else 0

    @property
    def capacity_transitions(self) -> int:
        """Transitions that the replay holds."""
        return int(self.config.get("replay_buffer_config", {}).get("capacity", DEFAULTS[self.algorithm]["capacity"]))

    @property
    def learning_starts_steps(self) -> int:
        """Agent steps before the first update."""
        return int(self.setting("num_steps_sampled_before_learning_starts"))

    @property
    def has_temperature(self) -> bool:
        """Whether entropy is weighed by a temperature, which a reset may concern."""
        return self.algorithm == "SAC"

    @property
    def demands(self) -> Demands:
        """One member with one environment, on the CPU; a learner of its own needs one more."""
        return Demands(
            round_steps=self.fragment_steps,
            max_members=1,
            max_envs=1,
            helper_cpus=self.num_learners,
            devices=("cpu",),
            inside_ray=True,
        )

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the networks as probes see them: those of the native agents."""
        if self.algorithm == "DQN":
            return ("online", "target")
        critics = ("critic1", "critic2") if self.config.get("twin_q", True) else ("critic1",)
        return ("actor", *critics, *(f"{name}_target" for name in critics))
