"""The layers of SAC's actor and critics, and the actions that they are for."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from plasticbench.contracts.task import BoxActions, EnvSpec
from plasticbench.learning.blueprint import Blueprint
from plasticbench.learning.layers import LayerSpec


def box_actions(spec: EnvSpec) -> BoxActions:
    """The bounds of a task's actions. Raises ``ValueError`` unless they are vectors with finite bounds."""
    if not isinstance(spec.actions, BoxActions):
        raise ValueError(
            f"sac needs continuous actions, but this task's actions are a choice among {spec.actions.count}. "
            "Choose dqn or ppo"
        )
    if not all(
        -math.inf < low < high < math.inf for low, high in zip(spec.actions.low, spec.actions.high, strict=True)
    ):
        raise ValueError(f"sac needs finite bounds with low below high for every action, got {spec.actions}")
    return spec.actions


def actor_layers(network: Any, spec: EnvSpec) -> list[LayerSpec]:
    """The network with two heads, so that treatments see the means' weight and the deviations' apart."""
    layers = network.layers(spec.obs_shape, len(box_actions(spec).low))
    if isinstance(layers, Blueprint):
        raise ValueError("actor_network: needs two heads, which a module that comes built has not. Choose another kind")
    *hidden, last = layers
    return [*hidden, last._replace(name="mean"), last._replace(name="log_std", wiring="sibling")]


def critic_layers(network: Any, spec: EnvSpec) -> list[LayerSpec]:
    """The network that reads observation and action side by side."""
    inputs = math.prod(spec.obs_shape) + len(box_actions(spec).low)
    layers: list[LayerSpec] = network.layers((inputs,), 1)
    return layers


def joined(obs: Tensor, action: Tensor) -> Tensor:
    """What a critic reads: ``[M, B, observation + action]``."""
    return torch.cat((obs.flatten(2), action), dim=-1)
