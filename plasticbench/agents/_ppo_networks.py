"""The layers of PPO's actor and critic, apart or on one trunk.

Source of the gains of orthogonal initialisers: OpenAI baselines, as listed by Huang et al. 2022, "The 37
implementation details of proximal policy optimization": sqrt(2) for hidden layers, 0.01 for the policy's output and 1
for the value's. Networks with other initialisers keep them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from plasticbench.contracts.task import BoxActions, EnvSpec
from plasticbench.learning.layers import LayerSpec

_HEADS = ("policy", "mean", "log_std", "value")
_HIDDEN_GAIN, _POLICY_GAIN, _VALUE_GAIN = math.sqrt(2), 0.01, 1.0


def actor_layers(network: Any, spec: EnvSpec) -> list[LayerSpec]:
    """The network with ``policy``, the logits of a choice, or ``mean`` and ``log_std`` of a vector's numbers.

    Logarithms of deviations are numbers of their own, which depend on no observation, and begin at 0.
    """
    box = spec.actions
    num_outputs = len(box.low) if isinstance(box, BoxActions) else box.count
    *hidden, last = network.layers(spec.obs_shape, num_outputs)
    last = _with_gain(last, _POLICY_GAIN)
    if not isinstance(box, BoxActions):
        return [*_hidden(hidden), last._replace(name="policy")]
    log_std = LayerSpec("log_std", last.role, (num_outputs,), wiring="sibling", norm="constant")
    return [*_hidden(hidden), last._replace(name="mean"), log_std]


def critic_layers(network: Any, spec: EnvSpec) -> list[LayerSpec]:
    """The network with one output, ``value``."""
    *hidden, last = network.layers(spec.obs_shape, 1)
    return [*_hidden(hidden), _with_gain(last, _VALUE_GAIN)._replace(name="value")]


def shared_layers(network: Any, spec: EnvSpec) -> list[LayerSpec]:
    """The actor's layers, and beside its outputs ``value``, which reads what they read."""
    *_, value = critic_layers(network, spec)
    return [*actor_layers(network, spec), value._replace(wiring="sibling")]


def head_layers(network: Any, spec: EnvSpec) -> dict[str, list[LayerSpec]]:
    """The layers of a shared network that are the actor's or the critic's alone."""
    *actor, value = (layer for layer in shared_layers(network, spec) if layer.name in _HEADS)
    return {"actor": actor, "critic": [value]}


def _hidden(layers: Sequence[LayerSpec]) -> list[LayerSpec]:
    return [_with_gain(layer, _HIDDEN_GAIN) for layer in layers]


def _with_gain(layer: LayerSpec, gain: float) -> LayerSpec:
    return layer._replace(gain=gain) if layer.initializer == "orthogonal" else layer
