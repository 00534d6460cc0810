"""Resets and probes of any ``torch.nn.Module``, in place, for use inside any training script.

Example::

    plasticbench.reset(q_network, "shrink_perturb", target=target_network, optimizer=optimizer, seed=step)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from plasticbench import plugins
from plasticbench.contracts.treatment import OptimizerRule, Report, TargetRule
from plasticbench.learning.module_event import ModuleSubject, reset_module, uses_original
from plasticbench.learning.module_state import require_optimizer_of, require_twin


def fire_(module: nn.Module, **options: Any) -> Report:
    """``reset(module, "fire", ...)``: hidden layers become their nearest isometries; takes all that ``reset`` takes."""
    return reset(module, "fire", **options)


def reset(
    module: nn.Module,
    kind: str,
    *,
    initial: nn.Module | Mapping[str, Tensor] | None = None,
    target: nn.Module | None = None,
    optimizer: Optimizer | None = None,
    optimizer_rule: OptimizerRule | None = None,
    target_rule: TargetRule | None = None,
    preset: str | None = None,
    outputs: Collection[str] = (),
    fresh: Callable[[], nn.Module] | None = None,
    ignore: Collection[str] = (),
    include: Collection[str] = (),
    seed: int = 0,
    **settings: Any,
) -> Report:
    """Applies a treatment to the parameters of a module, writing into their tensors.

    Known are all layers of ``torch.nn``: gates of recurrent layers, projections of attention layers and groups of
    convolutions are matrices of their own; embeddings are never projected; running statistics follow their
    normalisation, as ``norms`` of a treatment; what several layers share is treated once. Frozen parameters
    (``requires_grad=False``) are left alone. Raises ``ValueError`` for bad input and for parameters that are unknown,
    by name, before anything is written, and ``RuntimeError`` if the weights are not finite afterwards.

    Args:
        module: the online network.
        kind: a treatment that acts at events: ``plasticbench list treatments``.
        initial: an untouched copy of the module, or its state dict, for ``init_source="original"``.
        target: the target network, changed by the treatment's target rule.
        optimizer: of the module's parameters, its state changed by the treatment's optimizer rule.
        optimizer_rule: another rule than the treatment's: keep, reset, reset_touched, reset_touched_steps.
        target_rule: another rule than the treatment's: sync, sync_touched, keep, same_operation.
        preset: a named set of settings, such as ``fire_paper_dqn``, that ``settings`` override.
        outputs: names of the output layers, where there are others than the last: ``["mean", "log_std"]``.
        fresh: builds the module anew, where its layers do not start from their own ``reset_parameters``, or where it
            has parameters of its own.
        ignore: patterns on names of parameters, or of modules that contain them, to leave alone: ``["encoder.*"]``.
        include: the same of frozen parameters to treat all the same.
        seed: decides the fresh weights; give each reset another one, such as the step, for another draw.
        settings: fields of the treatment's ``Config``.
    """
    config = _config(kind, preset, settings, (optimizer, optimizer_rule), (target, target_rule))
    if initial is not None and not uses_original(config):
        raise ValueError(f"initial: {kind!r} makes no use of it with these settings; init_source='original' would")
    if target is not None:
        require_twin(module, target)
    originals = initial.state_dict() if isinstance(initial, nn.Module) else initial
    subject = ModuleSubject(
        module=module,
        seed=seed,
        initial=originals,
        optimizer=optimizer,
        target_module=target,
        outputs=outputs,
        fresh=fresh,
        ignore=ignore,
        include=include,
    )
    if optimizer is not None:
        require_optimizer_of(module, optimizer, subject.left_alone)
    return reset_module(kind, config, subject)


def _config(
    kind: str,
    preset: str | None,
    settings: Mapping[str, Any],
    optimizer: tuple[Optimizer | None, OptimizerRule | None],
    target: tuple[nn.Module | None, TargetRule | None],
) -> Any:
    if "temperature" in settings:
        raise ValueError(f"temperature: a module has none to reset, got {settings['temperature']!r}")
    rules: dict[str, str] = {}
    for name, (handled, rule) in {"optimizer": optimizer, "target": target}.items():
        if rule is not None and handled is None:
            raise ValueError(f"{name}_rule: this setting has no effect without {name}=, got {rule!r}")
        if rule is not None:
            rules[name] = rule
    return plugins.config_from("treatments", kind, {**settings, **rules}, preset)


def probe(
    module: nn.Module,
    batch: Any,
    kinds: Sequence[str] | None = None,
    *,
    initial: nn.Module | Mapping[str, Tensor] | None = None,
    ignore: Collection[str] = (),
) -> dict[str, float]:
    """Plasticity of a module on a batch of its inputs: see ``plasticbench.analysis.capture.probe_module``."""
    from plasticbench.analysis.capture import probe_module

    return probe_module(module, batch, kinds, initial=initial, ignore=ignore)
