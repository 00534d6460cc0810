"""A reset event on plain modules, with their optimizer and target, written into their own tensors."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from plasticbench.contracts.treatment import ProbeBatch, ResetReport
from plasticbench.learning.event import PolicyConfig
from plasticbench.learning.invariants import check_reset
from plasticbench.learning.module_state import Fresh, copy_to_target, module_state, reset_optimizer
from plasticbench.seeding import Streams, derive_seed


@torch.no_grad()
def reset_module(
    module: nn.Module,
    config: PolicyConfig,
    *,
    seed: int,
    initial: Mapping[str, Tensor] | None = None,
    optimizer: Optimizer | None = None,
    target: nn.Module | None = None,
    data: ProbeBatch | None = None,
    outputs: Collection[str] = (),
    fresh: Fresh | None = None,
) -> ResetReport:
    """Applies a policy and its rules; ``seed`` decides the fresh weights, ``initial`` are the first ones.

    See ``module_state`` for ``outputs`` and ``fresh``.
    Raises ``RuntimeError`` if the weights are not finite afterwards.
    """
    policy, streams = config.build(), [Streams(seed)]
    state = module_state(module, derive_seed(seed, "reset", "online"), initial, optimizer, outputs=outputs, fresh=fresh)
    storage = {name: parameter.data_ptr() for name, parameter in _parameters(module, target).items()}
    report = policy.apply(state, streams, data)
    if optimizer is not None:
        reset_optimizer(optimizer, config.optimizer, module, report.touched)
    if target is not None and config.target == "same_operation":
        own_seed = derive_seed(seed, "reset", "target")
        policy.apply(module_state(target, own_seed, initial, outputs=outputs, fresh=fresh), streams, data)
    elif target is not None:
        copy_to_target(target, config.target, module, report.touched)
    check_reset(storage, _parameters(module, target))
    return report


def _parameters(module: nn.Module, target: nn.Module | None) -> dict[str, nn.Parameter]:
    parameters = dict(module.named_parameters())
    if target is not None:
        parameters |= {f"target.{name}": parameter for name, parameter in target.named_parameters()}
    return parameters
