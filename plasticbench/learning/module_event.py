"""A reset event on plain modules, with their optimizer and target, written into their own tensors."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from plasticbench.contracts.treatment import Report, hooks_of
from plasticbench.learning.chance import Chance
from plasticbench.learning.event import apply_event
from plasticbench.learning.invariants import check_finite
from plasticbench.learning.module_parts import spared
from plasticbench.learning.module_state import (
    Fresh,
    ModuleState,
    clear_optimizer,
    copy_to_target,
    module_state,
    restart_averages,
)
from plasticbench.plugins import inert
from plasticbench.seeding import Streams, derive_seed


@dataclass(frozen=True, kw_only=True)
class ModuleSubject:
    """A module with its optimizer and target; ``initial``, ``outputs`` and ``fresh`` are those of ``module_state``.

    ``ignore`` and ``include`` are those of ``module_parts.spared``.
    """

    module: nn.Module
    seed: int
    initial: Mapping[str, Tensor] | None = None
    optimizer: Optimizer | None = None
    target_module: nn.Module | None = None
    outputs: Collection[str] = ()
    fresh: Fresh | None = None
    ignore: Collection[str] = ()
    include: Collection[str] = ()

    @cached_property
    def left_alone(self) -> frozenset[str]:
        """Names of the module's tensors that keep their values, here and in the target."""
        return spared(self.module, self.ignore, self.include)

    def _state(self, module: nn.Module, optimizer: Optimizer | None) -> ModuleState:
        return module_state(
            module,
            derive_seed(self.seed, "reset", "online"),  # the target's too: one draw serves both
            self.initial,
            optimizer,
            outputs=self.outputs,
            fresh=self.fresh,
            left_alone=self.left_alone,
        )

    @cached_property
    def online(self) -> ModuleState:
        """What is trained."""
        return self._state(self.module, self.optimizer)

    @cached_property
    def target(self) -> ModuleState | None:
        """The target network, where there is one."""
        return self._state(self.target_module, None) if self.target_module is not None else None

    def tensor_names(self, names: set[str]) -> set[str]:
        """The parameters and buffers that parts of these names lie in."""
        return {self.online.tensor_names[name] for name in names}

    def clear_moments(self, names: set[str] | None) -> None:
        """Zeroes the optimizer's state, where there is an optimizer; a parameter rewritten in part starts anew."""
        if self.optimizer is not None:
            every = {name for name, _ in self.module.named_parameters()} - self.left_alone
            clear_optimizer(self.optimizer, self.module, every if names is None else self.tensor_names(names))

    def clear_steps(self, names: set[str]) -> None:
        """Zeroes the optimizer's counts of updates, where there is an optimizer that counts them."""
        if self.optimizer is not None:
            clear_optimizer(self.optimizer, self.module, self.tensor_names(names), kinds={"step"})

    def sync_target(self, names: set[str] | None) -> None:
        """Copies into the target."""
        assert self.target_module is not None
        copy_to_target(self.target_module, self.module, None if names is None else self.tensor_names(names))

    def tensors(self) -> Mapping[str, Tensor]:
        """All parameters, with those of the target."""
        parameters = dict(self.module.named_parameters())
        if self.target_module is not None:
            parameters |= {f"target.{name}": value for name, value in self.target_module.named_parameters()}
        return parameters

    def require_finite(self) -> None:
        """Raises ``RuntimeError`` naming a parameter that is not finite."""
        check_finite(self.tensors())


class ModuleLook:
    """What a treatment may look at besides a module: its own chance, and inputs where somebody has them."""

    def __init__(self, seed: int, kind: str, inputs: Tensor | None) -> None:
        self.step = 0
        self._kind, self._inputs = kind, inputs
        rng = Streams(seed)[f"treatment/module/{kind}"]
        self.rng = Chance(lambda member: rng)

    @property
    def inputs(self) -> Tensor:
        """Rows ``[1, N, ...]`` that the module reads."""
        if self._inputs is None:
            raise self._missing("inputs")
        return self._inputs

    @property
    def next_inputs(self) -> Tensor | None:
        """There is no update."""
        return None

    @property
    def activations(self) -> Mapping[str, Tensor]:
        """Unknown."""
        raise self._missing("activations")

    @property
    def gradients(self) -> Mapping[str, Tensor]:
        """Unknown."""
        raise self._missing("gradients of a replay sample")

    def evaluate(self, parameters: Mapping[str, Tensor], inputs: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Unknown."""
        raise self._missing("outputs under other weights")

    def _missing(self, what: str) -> ValueError:
        return ValueError(f"kind: {self._kind!r} looks at {what}, which a plain module does not offer")


def reset_module(kind: str, config: Any, subject: ModuleSubject, *, inputs: Tensor | None = None) -> Report:
    """Carries out a treatment's event and its rules on a module; ``inputs`` are rows ``[1, N, ...]``.

    Raises ``ValueError`` for a treatment that needs more than an event offers, before anything is written, and
    ``RuntimeError`` if the weights are not finite afterwards.
    """
    require_event_alone(kind, config)
    treatment = config.build()
    look = ModuleLook(subject.seed, kind, inputs)
    online = subject.online  # refuses what no treatment can rewrite
    with torch.no_grad():
        state = treatment.init(online) if hasattr(treatment, "init") else {}
    report = apply_event(treatment, config, subject, state, look)
    report.touched = subject.tensor_names(report.touched)
    restart_averages(subject.module, report.touched)
    if subject.target_module is not None and getattr(config, "target", "keep") != "keep":
        restart_averages(subject.target_module, report.touched)
    return report


def require_event_alone(kind: str, config: Any) -> None:
    """Raises ``ValueError`` for a treatment that acts at updates or looks at units, which are somebody else's here."""
    if (hooks := hooks_of(config.build())) != ("event",):
        raise ValueError(
            f"kind: {kind!r} acts at {' and '.join(f'each {hook}' for hook in hooks)}, but outside a benchmark file "
            "only events can be carried out. Choose a treatment that acts at events alone"
        )
    if looks_at := getattr(config, "looks_at", ()):
        raise ValueError(
            f"kind: {kind!r} looks at {' and '.join(looks_at)}, which are unknown outside a benchmark file. Choose a "
            "treatment that is about weights alone"
        )


def uses_original(config: Any) -> bool:
    """Whether a treatment goes back to the first initialisation."""
    return getattr(config, "init_source", None) == "original" and "init_source" not in inert(config)
