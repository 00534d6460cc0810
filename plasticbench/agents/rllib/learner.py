"""What resets, probes and checkpoints do inside the process of an RLlib learner: functions of the learner alone.

Each network is an encoder and a head as RLlib builds them; together they are one plain module, a population of one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.dqn.torch.default_dqn_torch_rl_module import DefaultDQNTorchRLModule
from ray.rllib.algorithms.sac.torch.default_sac_torch_rl_module import DefaultSACTorchRLModule
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.models.base import ENCODER_OUT
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger
from torch import Tensor, nn
from torch.optim import Optimizer

from plasticbench.contracts.network import LayerView, NetworkView
from plasticbench.contracts.treatment import Part, Report
from plasticbench.learning.module_event import ModuleSubject, reset_module
from plasticbench.learning.module_state import module_state
from plasticbench.learning.module_views import view_of
from plasticbench.seeding import derive_seed

Weights = Mapping[str, Mapping[str, Tensor]]
"""State dicts by name of network."""


class Network(nn.Module):
    """An encoder and a head as one module, input first; it shares their parameters."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, obs: Tensor, actions: Tensor | None = None) -> Tensor:
        """Outputs for a batch; a critic takes actions as well."""
        batch = {Columns.OBS: obs} if actions is None else {Columns.OBS: obs, Columns.ACTIONS: actions}
        outputs: Tensor = self.head(self.encoder(batch)[ENCODER_OUT])
        return outputs


@dataclass(frozen=True, slots=True)
class Trained:
    """A network with all that belongs to it; ``views`` are its names as probes see it and its target."""

    name: str
    views: tuple[str, ...]
    online: Network
    target: Network | None
    optimizer: Optimizer
    loss: str | None  # under which name the learner keeps it; None: the loss as a whole


def ask(algorithm: Any, function: Callable[..., Any], **arguments: Any) -> Any:
    """What a function of the learner returns, in whatever process learners live; all of them do the same."""
    first, *_ = algorithm.learner_group.foreach_learner(function, **arguments)
    return first.get()


def sync_runners(algorithm: Any) -> None:
    """Environment runners have the learner's weights before their next sample."""
    algorithm.env_runner_group.sync_weights(from_worker_or_learner_group=algorithm.learner_group, inference_only=True)


def trained(learner: Any) -> tuple[Trained, ...]:
    """The networks of a DQN or SAC learner, under the names that native agents use.

    Raises ``ValueError`` for modules whose parts are not known here.
    """
    module = _module(learner)
    _require_plain(learner, module)
    if hasattr(module, "af"):
        online, target = Network(module.encoder, module.af), Network(module._target_encoder, module._target_af)
        return (Trained("q", ("online", "target"), online, target, _optimizer(learner), None),)
    actor = Trained(
        "actor", ("actor",), Network(module.pi_encoder, module.pi), None, _optimizer(learner, "policy"), "policy_loss"
    )
    critics = [("critic1", "qf"), ("critic2", "qf_twin")] if module.twin_q else [("critic1", "qf")]
    return (actor, *(_critic(learner, module, name, own) for name, own in critics))


def _require_plain(learner: Any, module: nn.Module) -> None:
    if learner.config.torch_compile_learner or learner.config.torch_compile_worker:
        raise ValueError("torch_compile: a compiled module may go on with the weights of before a reset. Turn it off")
    if not isinstance(module, DefaultDQNTorchRLModule | DefaultSACTorchRLModule):
        raise ValueError(f"module: must be RLlib's default module of DQN or SAC, got {type(module).__name__}")
    if getattr(module, "uses_dueling", False) or getattr(module, "num_atoms", 1) > 1:
        raise ValueError("dueling, num_atoms: resets need one output layer of values. Set dueling=False, num_atoms=1")


def _critic(learner: Any, module: nn.Module, name: str, own: str) -> Trained:
    online = Network(getattr(module, f"{own}_encoder"), getattr(module, own))
    target = Network(getattr(module, f"target_{own}_encoder"), getattr(module, f"target_{own}"))
    return Trained(name, (name, f"{name}_target"), online, target, _optimizer(learner, own), f"{own}_loss")


def _optimizer(learner: Any, *name: str) -> Optimizer:
    optimizer: Optimizer = learner.get_optimizer(DEFAULT_MODULE_ID, *name)
    return optimizer


# -- resets ----------------------------------------------------------------------------------------------------------


def treat(learner: Any, *, part: Part, seed: int, initial: Weights | None, obs: Tensor | None) -> dict[str, Report]:
    """Carries out a part's event on the networks that it concerns, and its rule on the temperature.

    Runners must be told. RLlib ignores weights whose number it has seen, so the learner counts this as an update.
    """
    reports = {
        one.name: reset_module(
            part.kind,
            part.config,
            ModuleSubject(
                module=one.online,
                seed=derive_seed(seed, one.name),
                initial=None if initial is None else initial[one.name],
                optimizer=one.optimizer,
                target_module=one.target,
            ),
            inputs=obs[None] if obs is not None else None,
        )
        for one in trained(learner)
        if part.concerns(one.name)
    }
    if hasattr(learner, "curr_log_alpha") and getattr(part.config, "temperature", "keep") == "reset":
        _reset_temperature(learner)
    learner._weights_seq_no += 1
    return reports


def _reset_temperature(learner: Any) -> None:
    log_alpha = learner.curr_log_alpha[DEFAULT_MODULE_ID]
    log_alpha.data.fill_(float(np.log(learner.config.initial_alpha)))
    for moment in _optimizer(learner, "alpha").state.get(log_alpha, {}).values():
        moment.zero_()


def require_known(learner: Any, *, rows_alone: bool = False) -> None:
    """Raises ``ValueError`` for networks with parameters that no treatment knows.

    With ``rows_alone`` also for those with a memory, which cannot be looked at row by row.
    """
    for one in trained(learner):
        module_state(one.online, 0)
    if rows_alone and _module(learner).is_stateful():
        raise ValueError("use_lstm: probes look at single rows of a replay, which a network with a memory cannot read")


def weights(learner: Any) -> Weights:
    """Copies of the online networks' parameters on the CPU."""
    return {
        one.name: {k: v.detach().cpu().clone() for k, v in one.online.state_dict().items()} for one in trained(learner)
    }


# -- probes ----------------------------------------------------------------------------------------------------------


def views(
    learner: Any, *, batch: Mapping[str, np.ndarray], initial: Weights, previous: Weights | None
) -> tuple[NetworkView, ...]:
    """All networks on a replay sample, with the gradients of RLlib's own loss; leaves no trace in the learner."""
    tensors = {name: torch.from_numpy(np.asarray(values)) for name, values in batch.items()}
    rows = len(tensors[Columns.REWARDS])
    tensors |= {"weights": torch.ones(rows)}
    found = trained(learner)
    losses = _losses(learner, found, tensors)
    online, targets = [], []
    for one, loss in zip(found, losses, strict=True):
        takes_actions = len(found) > 1 and one.target is not None
        inputs = (tensors[Columns.OBS], tensors[Columns.ACTIONS]) if takes_actions else (tensors[Columns.OBS],)
        view = view_of(one.online, inputs, initial=initial[one.name], name=one.views[0])
        online.append(replace(view, layers=_measured(one, loss, view.layers, (previous or {}).get(one.name))))
        if one.target is not None:
            target = view_of(one.target, inputs, initial=initial[one.name], name=one.views[1])
            targets.append(replace(target, layers=tuple(_without_gradient(layer) for layer in target.layers)))
    return (*online, *targets)


def _losses(learner: Any, found: Sequence[Trained], batch: Mapping[str, Tensor]) -> list[Tensor]:
    """RLlib's own losses; what computing them logs and draws is thrown away."""
    own_metrics, learner.metrics = learner.metrics, MetricsLogger(root=False)
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # the same noise at every look
            loss = learner.compute_loss_for_module(
                module_id=DEFAULT_MODULE_ID,
                config=learner.config.get_config_for_module(DEFAULT_MODULE_ID),
                batch=batch,
                fwd_out=_module(learner).forward_train(batch),
            )
    finally:
        learner.metrics = own_metrics
    kept = getattr(learner, "_temp_losses", {})
    losses = [loss if one.loss is None else kept[DEFAULT_MODULE_ID, one.loss] for one in found]
    kept.clear()
    return losses


def _measured(
    one: Trained, loss: Tensor, layers: Sequence[LayerView], previous: Mapping[str, Tensor] | None
) -> tuple[LayerView, ...]:
    named = dict(one.online.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), retain_graph=True)
    gradients = dict(zip(named, found, strict=True))
    updates = _preview(one.optimizer, named, gradients)

    def of(values: Mapping[str, Tensor], layer: LayerView, kind: str) -> Tensor | None:
        value = values.get(f"{layer.name}.{kind}")
        return None if value is None else value.detach()[None]

    return tuple(
        replace(
            layer,
            weight_gradient=of(gradients, layer, "weight"),
            bias_gradient=of(gradients, layer, "bias"),
            weight_update=of(updates, layer, "weight"),
            bias_update=of(updates, layer, "bias"),
            previous_weight=None if previous is None else of(previous, layer, "weight"),
        )
        for layer in layers
    )


def _without_gradient(layer: LayerView) -> LayerView:
    return replace(layer, weight_gradient=None, bias_gradient=None)


def _preview(
    optimizer: Optimizer, named: Mapping[str, nn.Parameter], gradients: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The change that the optimizer would make for these gradients, made by a copy of it."""
    twin = copy.deepcopy(optimizer)
    own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    copies = [parameter for group in twin.param_groups for parameter in group["params"]]
    twin_of = dict(zip(own, copies, strict=True))
    for parameter in copies:
        parameter.grad = None
    for name, parameter in named.items():
        twin_of[parameter].grad = gradients[name].clone()
    twin.step()
    return {name: twin_of[parameter].detach() - parameter.detach() for name, parameter in named.items()}


# -- saving and going on ---------------------------------------------------------------------------------------------


def export(learner: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All that the learner needs to go on elsewhere, as tensors and plain data."""
    tensors = {f"module/{name}": value for name, value in _module(learner).state_dict().items()}
    for name, optimizer in learner.get_optimizers_for_module(DEFAULT_MODULE_ID):
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{name}/{index}/{key}": value for key, value in state.items()}
    if hasattr(learner, "curr_log_alpha"):
        tensors["log_alpha"] = learner.curr_log_alpha[DEFAULT_MODULE_ID]
    tensors["learner_rng"] = torch.get_rng_state()
    plain = {
        "weights_seq_no": learner._weights_seq_no,
        "last_target_update": float(learner.last_update_ts_by_mid[DEFAULT_MODULE_ID]),
    }
    return {name: value.detach().cpu().clone() for name, value in tensors.items()}, plain


def load(learner: Any, *, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
    """Inverse of ``export``."""
    _module(learner).load_state_dict(_below(tensors, "module/"))
    for name, optimizer in learner.get_optimizers_for_module(DEFAULT_MODULE_ID):
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in _below(tensors, f"optimizer/{name}/").items():
            index, _, part = key.partition("/")
            state.setdefault(int(index), {})[part] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    if hasattr(learner, "curr_log_alpha"):
        learner.curr_log_alpha[DEFAULT_MODULE_ID].data.copy_(tensors["log_alpha"])
    torch.set_rng_state(tensors["learner_rng"])
    learner.last_update_ts_by_mid[DEFAULT_MODULE_ID] = plain["last_target_update"]
    # Above what a runner may have seen already, or it would ignore these weights.
    learner._weights_seq_no = max(learner._weights_seq_no, plain["weights_seq_no"]) + 1


def _module(learner: Any) -> Any:
    module: Any = learner.module[DEFAULT_MODULE_ID].unwrapped()
    return module


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
