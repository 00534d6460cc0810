"""A trained network with all that belongs to it: target, optimizer and first initialisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from plasticbench.contracts.network import LayerView, NetworkView
from plasticbench.learning.network import LayerSpec, PopulationNetwork
from plasticbench.learning.optimizers.adam import AdamConfig, PopulationAdam
from plasticbench.seeding import Streams


@dataclass(slots=True)
class TrainedNetwork:
    """``original`` holds the first initialisation in the layout of ``online.flat``; an actor has no target."""

    name: str
    online: PopulationNetwork
    optimizer: PopulationAdam
    target: PopulationNetwork | None
    original: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.original = torch.zeros_like(self.online.flat)

    @classmethod
    def build(
        cls,
        name: str,
        specs: Sequence[LayerSpec],
        adam: AdamConfig,
        streams: Sequence[Streams],
        device: torch.device,
        target: Literal["copy", "none"] = "copy",
    ) -> TrainedNetwork:
        """Initialises each member from its own ``init/<name>`` stream; a target starts as a copy."""
        online = PopulationNetwork(specs, len(streams), device)
        twin = PopulationNetwork(specs, len(streams), device) if target == "copy" else None
        trained = cls(name, online, PopulationAdam(online, adam), twin)
        online.load(trained.draw(streams))
        trained.original.copy_(online.flat)
        trained.sync_target()
        return trained

    def draw(self, streams: Sequence[Streams]) -> dict[str, Tensor]:
        """New initial values for members with these streams; every call gives different ones."""
        return self.online.draw([member[f"init/{self.name}"] for member in streams])

    def sync_target(self) -> None:
        """Copies the online network of every member into its target."""
        self.move_target(1.0)

    def move_target(self, tau: float) -> None:
        """Every member's target <- tau online + (1 - tau) target, where there is one."""
        if self.target is not None:
            self.target.flat.lerp_(self.online.flat, tau)

    def forward_target(self, x: Tensor) -> Tensor:
        """Outputs of the target network, which must exist."""
        assert self.target is not None
        return self.target.forward(x)

    def descend(self, loss: Tensor) -> None:
        """One optimizer step of every member down ``loss`` ``[M]``, whatever else the loss depends on."""
        self.online.flat_grad.zero_()
        parameters = list(self.online.parameters.values())
        torch.autograd.backward(loss.sum(), inputs=parameters)
        self.optimizer.step()

    def gradient(self, loss: Tensor) -> Tensor:
        """The flat gradient of ``loss`` ``[M]``; the one that the optimizer sees stays as it is."""
        gradients = torch.autograd.grad(loss.sum(), list(self.online.parameters.values()))
        return self.online.flatten(gradients)

    def _parts(self) -> dict[str, dict[str, Tensor]]:
        views = self.online.views
        parts = {
            "online": views(self.online.flat),
            "original": views(self.original),
            "exp_avg": views(self.optimizer.exp_avg),
            "exp_avg_sq": views(self.optimizer.exp_avg_sq),
        }
        return parts if self.target is None else parts | {"target": views(self.target.flat)}

    def state_dict(self) -> dict[str, Tensor]:
        """Named tensors, each ``[M, ...]``."""
        tensors = {
            f"{self.name}/{part}/{name}": tensor
            for part, named in self._parts().items()
            for name, tensor in named.items()
        }
        return tensors | {f"{self.name}/adam_steps": self.optimizer.steps.T.contiguous()}

    def load_state_dict(self, state: dict[str, Tensor], parents: Sequence[int]) -> None:
        """Member i becomes a copy of the saved member ``parents[i]``."""
        members = torch.tensor(list(parents))
        with torch.no_grad():
            for part, named in self._parts().items():
                for name, tensor in named.items():
                    tensor.copy_(state[f"{self.name}/{part}/{name}"].index_select(0, members))
        self.optimizer.steps.copy_(state[f"{self.name}/adam_steps"].index_select(0, members).T)
        self.optimizer.rebuild()

    def view(self, name: str, obs: Tensor, gradients: Tensor, previous: Tensor | None) -> NetworkView:
        """What probes see, under ``name``, of the online network on its inputs ``[M, N, ...]``.

        ``gradients`` is flat; ``previous``, flat, holds the weights before the reset that is being measured.
        """
        views = self.online.views
        captured = {
            "initial": views(self.original),
            "gradient": views(gradients),
            "update": views(self.optimizer.preview(gradients)),
        }
        if previous is not None:
            captured["previous"] = views(previous)
        return _view(name, self.online, obs, captured)

    def target_view(self, name: str, obs: Tensor) -> NetworkView:
        """The target network, which must exist; it has no gradients."""
        assert self.target is not None
        return _view(name, self.target, obs, {"initial": self.online.views(self.original)})


def _view(name: str, network: PopulationNetwork, obs: Tensor, captured: dict[str, dict[str, Tensor]]) -> NetworkView:
    """Linear and convolutional layers; those without a nonlinearity of their own have no activation."""
    hidden: list[Tensor] = []
    with torch.no_grad():
        network.forward(obs, hidden)
    passed_on = dict(zip(network.hidden, hidden, strict=True))
    layers: list[LayerView] = []
    for spec in network.specs:
        if spec.is_norm:
            continue
        weight, bias = f"{spec.name}.weight", f"{spec.name}.bias"
        extra = {
            f"{what}_{kind}" if what in ("initial", "previous") else f"{kind}_{what}": named[full_name]
            for what, named in captured.items()
            for kind, full_name in (("weight", weight), ("bias", bias))
            if (what, kind) != ("previous", "bias")
        }
        layers.append(
            LayerView(
                name=spec.name,
                weight=network.parameters[weight].detach(),
                bias=network.parameters[bias].detach(),
                activation=passed_on.get(spec) if spec.activation == "relu" else None,
                **extra,
            )
        )
    return NetworkView(name=name, layers=tuple(layers), features=hidden[-1].flatten(2) if hidden else None)
