"""Anybody's ``torch.nn.Module`` as a population: ``target`` is called with the shapes of inputs and outputs.

Found beside the benchmark file, in the current folder, or among what is installed. Each member runs its own ``forward``
on rows ``[rows, ...]``; weights, gradients, moments and buffers of all members lie side by side all the same, so that
treatments (but for ``altnet``), probes, checkpoints and forks work.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any, get_args

from torch import nn

from plasticbench.contracts.network import Role
from plasticbench.learning.blueprint import ModuleSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ModuleSettings):
    """``target``: ``my_package.nets:MyNet``, called as ``MyNet(obs_shape, num_outputs, **arguments)``.

    ``outputs`` are names of the output layers, where that is not the last one that was registered; ``roles`` says of
    layers by name whether they are encoder or head, where what is found differs.
    """

    target: str
    arguments: dict[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    roles: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ModuleSettings.__post_init__(self)
        package, colon, name = self.target.partition(":")
        if not (colon and package and name):
            raise ValueError(f"target: must have the form package.module:Class, got {self.target!r}")
        for layer, role in self.roles.items():
            if role not in get_args(Role):
                raise ValueError(f"roles: must be {' or '.join(get_args(Role))}, got {role!r} of {layer!r}")

    @property
    def modules(self) -> tuple[str, ...]:
        """What is imported, and travels to workers."""
        return (self.target.partition(":")[0],)

    @property
    def is_random(self) -> bool:
        """Who knows."""
        return True

    @property
    def told_roles(self) -> dict[str, Role]:
        """Layers whose roles the file says."""
        return {layer: role for layer, said in self.roles.items() for role in get_args(Role) if role == said}

    @property
    def told_outputs(self) -> tuple[str, ...]:
        """The output layers that the file names."""
        return self.outputs

    def module(self, obs_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """A new one. Raises ``ValueError`` for what cannot be found or built."""
        package, _, name = self.target.partition(":")
        try:
            kind = getattr(importlib.import_module(package), name)
            made = kind(obs_shape, num_outputs, **self.arguments)
        except Exception as error:  # whatever somebody else's code raises
            raise ValueError(f"target: {self.target} cannot be built: {error}") from error
        if not isinstance(made, nn.Module):
            raise ValueError(f"target: {self.target} must make a torch.nn.Module, got {type(made).__name__}")
        return made
