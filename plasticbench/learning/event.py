"""The reset event: a treatment acts on a network, then optimizer and target follow its rules, and all is checked.

One function for population networks, plain torch modules, and the networks of other libraries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, Report, State
from plasticbench.learning.chance import Chance
from plasticbench.learning.invariants import check_storage


class EventLook(Look, Protocol):
    """What a treatment may look at, with chance that can be had again for the target network."""

    rng: Chance


class Subject(Protocol):
    """A trained network with all that a reset concerns."""

    @property
    def online(self) -> NetworkState:
        """What is trained, with the optimizer's moments."""
        ...

    @property
    def target(self) -> NetworkState | None:
        """The target network, which has no moments; its ``fresh`` values are those of the online network."""
        ...

    def clear_moments(self, names: set[str] | None) -> None:
        """Starts the optimizer's state anew for these parameters, or for all."""
        ...

    def clear_steps(self, names: set[str]) -> None:
        """Has the optimizer count the updates of these parameters anew; its moments stay."""
        ...

    def sync_target(self, names: set[str] | None) -> None:
        """Copies these parameters into the target, or the whole network."""
        ...

    def tensors(self) -> Mapping[str, torch.Tensor]:
        """All parameters, those of the target included, by names for people."""
        ...

    def require_finite(self) -> None:
        """Raises ``RuntimeError`` where one broken parameter is the failure of all."""
        ...


@torch.no_grad()
def apply_event(treatment: Any, config: Any, subject: Subject, state: State, look: EventLook) -> Report:
    """Carries out ``on_event`` and the rules ``optimizer`` and ``target`` of its ``config``, which by default keep.

    Raises ``RuntimeError`` if a parameter was moved in memory, or the subject requires more.
    """
    addresses = {name: tensor.data_ptr() for name, tensor in subject.tensors().items()}
    report: Report = treatment.on_event(subject.online, state, look)
    optimizer_rule, target_rule = getattr(config, "optimizer", "keep"), getattr(config, "target", "keep")
    if optimizer_rule == "reset_touched_steps":
        subject.clear_steps(report.touched)
    elif optimizer_rule != "keep":
        subject.clear_moments(None if optimizer_rule == "reset" else report.touched)
    if subject.target is not None and target_rule == "same_operation":
        with look.rng.again():
            treatment.on_event(subject.target, state, look)
    elif subject.target is not None and target_rule != "keep":
        subject.sync_target(None if target_rule == "sync" else report.touched)
    check_storage(addresses, subject.tensors())
    subject.require_finite()
    return report
