"""A reset event: slices the members it concerns, applies a policy, writes back, and checks the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from plasticbench.contracts.network import LayerState, NetworkState, ParameterState
from plasticbench.contracts.treatment import OptimizerRule, ProbeBatch, ResetPolicy, ResetReport, TargetRule
from plasticbench.learning.invariants import check_reset
from plasticbench.learning.network import LayerSpec, PopulationNetwork
from plasticbench.learning.trained import TrainedNetwork
from plasticbench.seeding import Streams


class PolicyConfig(Protocol):
    """What the machinery reads off every reset policy's ``Config``."""

    @property
    def optimizer(self) -> OptimizerRule:
        """What happens to the optimizer's state."""
        ...

    @property
    def target(self) -> TargetRule:
        """What happens to the target network."""
        ...

    def build(self) -> ResetPolicy:
        """The policy itself."""
        ...


def apply_reset(
    trained: TrainedNetwork,
    members: Sequence[int],
    config: PolicyConfig,
    streams: Sequence[Streams],
    data: ProbeBatch | None = None,
) -> ResetReport:
    """Resets one trained network of the given members in place; ``streams`` and ``data`` hold those members only.

    Raises ``RuntimeError`` if the policy left anything not finite or moved a parameter in memory.
    """
    policy = config.build()
    index = torch.tensor(list(members), device=trained.online.flat.device)
    networks = (trained.online,) if trained.target is None else (trained.online, trained.target)
    storage = [(network, _storage(network)) for network in networks]
    state = _state(trained, trained.online, index, streams, with_moments=True)
    report = policy.apply(state, streams, data)
    _write_back(trained, trained.online, state, index)
    _apply_optimizer_rule(trained, config.optimizer, report.touched, index)
    if trained.target is not None and config.target == "same_operation":
        own = _state(trained, trained.target, index, streams, with_moments=False)
        policy.apply(own, streams, data)
        _write_back(trained, trained.target, own, index)
    elif trained.target is not None:
        _copy_to_target(trained.online, trained.target, config.target, report.touched, index)
    for network, before in storage:
        check_reset(before, network.parameters)
    return report


def _storage(network: PopulationNetwork) -> dict[str, int]:
    return {name: parameter.data_ptr() for name, parameter in network.parameters.items()}


def _state(
    trained: TrainedNetwork, network: PopulationNetwork, index: Tensor, streams: Sequence[Streams], with_moments: bool
) -> NetworkState:
    fresh = trained.draw(streams)
    original = network.views(trained.original)
    moments = [network.views(trained.optimizer.exp_avg), network.views(trained.optimizer.exp_avg_sq)]
    steps = {slot.name: trained.optimizer.steps[row] for row, slot in enumerate(network.slots)}

    def parameter(name: str) -> ParameterState:
        value = network.parameters[name].detach().index_select(0, index)
        state = ParameterState(value=value, fresh=fresh[name], original=original[name].index_select(0, index))
        if with_moments:
            state.exp_avg, state.exp_avg_sq = (moment[name].index_select(0, index) for moment in moments)
            state.adam_steps = steps[name].index_select(0, index.cpu())
        return state

    def layer(spec: LayerSpec) -> LayerState:
        return LayerState(
            name=spec.name,
            role=spec.role,
            is_output=spec in network.outputs,
            weight=parameter(f"{spec.name}.weight"),
            bias=parameter(f"{spec.name}.bias"),
        )

    return NetworkState(
        layers=[layer(spec) for spec in network.specs if not spec.is_norm],
        norms=[layer(spec) for spec in network.specs if spec.is_norm],
    )


def _write_back(trained: TrainedNetwork, network: PopulationNetwork, state: NetworkState, index: Tensor) -> None:
    exp_avg, exp_avg_sq = network.views(trained.optimizer.exp_avg), network.views(trained.optimizer.exp_avg_sq)
    rows = {slot.name: row for row, slot in enumerate(network.slots)}
    with torch.no_grad():
        for layer in (*state.layers, *state.norms):
            for name, parameter in layer.parameters.items():
                network.parameters[name].index_copy_(0, index, parameter.value)
                if parameter.exp_avg is None or parameter.exp_avg_sq is None or parameter.adam_steps is None:
                    continue
                exp_avg[name].index_copy_(0, index, parameter.exp_avg)
                exp_avg_sq[name].index_copy_(0, index, parameter.exp_avg_sq)
                trained.optimizer.steps[rows[name]].index_copy_(0, index.cpu(), parameter.adam_steps)


def _apply_optimizer_rule(trained: TrainedNetwork, rule: OptimizerRule, touched: set[str], index: Tensor) -> None:
    network, optimizer = trained.online, trained.optimizer
    moments = (network.views(optimizer.exp_avg), network.views(optimizer.exp_avg_sq))
    for row, slot in enumerate(network.slots):
        if rule == "reset" or (rule == "reset_touched" and slot.name in touched):
            for moment in moments:
                moment[slot.name].index_fill_(0, index, 0.0)
            optimizer.steps[row].index_fill_(0, index.cpu(), 0)
    optimizer.rebuild()


def _copy_to_target(
    online: PopulationNetwork, target: PopulationNetwork, rule: TargetRule, touched: set[str], index: Tensor
) -> None:
    with torch.no_grad():
        for name, parameter in target.parameters.items():
            if rule == "sync" or (rule == "sync_touched" and name in touched):
                parameter.index_copy_(0, index, online.parameters[name].index_select(0, index))
