"""A trained network with all that belongs to it: target, optimizer and first initialisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from plasticbench.agents._network import LayerSpec, PopulationNetwork
from plasticbench.agents._optim import AdamConfig, PopulationAdam
from plasticbench.contracts import LayerView, NetworkView
from plasticbench.seeding import Streams


@dataclass(slots=True)
class TrainedNetwork:
    """``original`` holds the first initialisation in the layout of ``online.flat``."""

    name: str
    online: PopulationNetwork
    optimizer: PopulationAdam
    target: PopulationNetwork
    original: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.original = torch.zeros_like(self.online.flat)

    @classmethod
    def build(
        cls, name: str, specs: Sequence[LayerSpec], adam: AdamConfig, streams: Sequence[Streams], device: torch.device
    ) -> TrainedNetwork:
        """Initialises each member from its own ``init/<name>`` stream; the target starts as a copy."""
        online = PopulationNetwork(specs, len(streams), device)
        trained = cls(name, online, PopulationAdam(online, adam), PopulationNetwork(specs, len(streams), device))
        online.load(trained.draw(streams))
        trained.original.copy_(online.flat)
        trained.sync_target()
        return trained

    def draw(self, streams: Sequence[Streams]) -> dict[str, Tensor]:
        """New initial values for members with these streams; every call gives different ones."""
        return self.online.draw([member[f"init/{self.name}"] for member in streams])

    def sync_target(self) -> None:
        """Copies the online network of every member into its target."""
        self.target.flat.copy_(self.online.flat)

    def _parts(self) -> dict[str, dict[str, Tensor]]:
        views = self.online.views
        return {
            "online": views(self.online.flat),
            "target": views(self.target.flat),
            "original": views(self.original),
            "exp_avg": views(self.optimizer.exp_avg),
            "exp_avg_sq": views(self.optimizer.exp_avg_sq),
        }

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

    def view(self, obs: Tensor, gradients: Tensor, previous: Tensor | None) -> NetworkView:
        """What probes see of the online network on scaled observations ``[M, N, ...]``.

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
        return _view("online", self.online, obs, captured)

    def target_view(self, obs: Tensor) -> NetworkView:
        """The target network; it has no gradients."""
        return _view("target", self.target, obs, {"initial": self.online.views(self.original)})


def _view(name: str, network: PopulationNetwork, obs: Tensor, captured: dict[str, dict[str, Tensor]]) -> NetworkView:
    hidden: list[Tensor] = []
    with torch.no_grad():
        network.forward(obs, hidden)
    layers: list[LayerView] = []
    for spec, activation in zip(network.specs, [*hidden, None], strict=True):
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
                activation=activation,
                **extra,
            )
        )
    return NetworkView(name=name, layers=tuple(layers), features=hidden[-1].flatten(2) if hidden else None)
