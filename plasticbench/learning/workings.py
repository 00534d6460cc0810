"""What probes may try on a trained network: other weights, derivatives of its loss, its optimizer's next step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from plasticbench.contracts.network import Meaning
from plasticbench.learning.applied import Network
from plasticbench.learning.module_network import ModuleNetwork
from plasticbench.learning.module_population import shown_activations
from plasticbench.learning.optimizer import PopulationOptimizer
from plasticbench.seeding import derive_generator


@dataclass(frozen=True, kw_only=True)
class NetworkWorkings:
    """``contracts.network.Workings`` of a population; what costs something is done when a probe asks.

    ``loss`` makes each member's loss ``[M]`` anew from the network's own weights; nothing random differs between calls.
    """

    network: Network
    optimizer: PopulationOptimizer
    seeds: Sequence[int]
    inputs: Tensor
    followed: Tensor  # flat, the gradient that the optimizer would follow
    loss: Callable[[], Tensor]
    meaning: Mapping[Meaning, slice]
    read_next: Callable[[], Tensor] | None = None
    earned: Callable[[int], tuple[Tensor, Tensor]] | None = None

    @property
    def next_inputs(self) -> Tensor | None:
        """What it reads a step later."""
        return None if self.read_next is None else self.read_next()

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The weights ``[M, ...]`` by name."""
        return {name: value.detach() for name, value in self.network.parameters.items()}

    @property
    def output_parameters(self) -> frozenset[str]:
        """Names of those of the output layers."""
        outputs = {spec.name for spec in self.network.outputs}
        return frozenset(name for name in self.network.parameters if name.rpartition(".")[0] in outputs)

    @property
    def update(self) -> dict[str, Tensor]:
        """What the optimizer would add to each."""
        return self.network.views(self.optimizer.preview(self.followed))

    @property
    def second_moments(self) -> dict[str, tuple[Tensor, ...]]:
        """Means of squares, and means of gradients where the optimizer keeps them."""
        moments, squares = self.optimizer.moments, sorted(self.optimizer.second_moments)
        if not squares:
            return {}
        means = [name for name in ("exp_avg",) if name in moments]
        views = [self.network.views(moments[name]) for name in (squares[0], *means)]
        return {name: tuple(view[name] for view in views) for name in views[0]}

    @property
    def learning_rate(self) -> Tensor | float | None:
        """The optimizer's, where its settings have one."""
        rate: Tensor | float | None = getattr(getattr(self.optimizer, "config", None), "learning_rate", None)
        return rate

    def forward(self, parameters: Mapping[str, Tensor], inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs with other weights, and the features that they are made of."""
        hidden: list[Tensor] = []
        outputs = self.network.forward(inputs, hidden, parameters)
        last = hidden[-1] if hidden else inputs
        return outputs, last if isinstance(self.network, ModuleNetwork) else last.flatten(2)

    def fresh(self, purpose: str) -> dict[str, Tensor]:
        """New initial values."""
        return self.network.draw(self.generators(purpose))

    def generators(self, purpose: str) -> list[np.random.Generator]:
        """Outside the trials' streams."""
        return [derive_generator(seed, "probe", purpose) for seed in self.seeds]

    def output_gradient(self) -> Tensor:
        """That of each row's own loss, as losses are means over rows."""
        with _noting(self.network) as outputs:
            loss = self.loss()
        made = [output for output in outputs if output.requires_grad and output.shape[1] == self.inputs.shape[1]]
        found = torch.autograd.grad(loss.sum(), made, allow_unused=True)
        (gradient,) = (slope for slope in found if slope is not None)
        return gradient * self.inputs.shape[1]

    def unit_gradients(self) -> dict[str, Tensor]:
        """The loss's gradient of what units pass on, by layer."""
        direction, hidden = self.output_gradient(), list[Tensor]()
        if isinstance(self.network, ModuleNetwork):
            return self.network.unit_gradients(self.inputs, direction)
        with torch.enable_grad():
            outputs = self.network.forward(self.inputs, hidden)
        shown = shown_activations(self.network, hidden)
        found = torch.autograd.grad(outputs, list(shown.values()), direction, allow_unused=True)
        return {name: slope for name, slope in zip(shown, found, strict=True) if slope is not None}

    def row_gradients(self, direction: Tensor) -> Tensor:
        """Row by row: a pass over all rows for each of them would cost the square."""
        leaves = {name: value.requires_grad_() for name, value in self.parameters.items()}
        rows: list[Tensor] = []
        for row in range(direction.shape[1]):
            with torch.enable_grad():
                outputs = self.network.forward(self.inputs[:, row : row + 1], None, leaves)
            found = torch.autograd.grad(
                outputs, list(leaves.values()), direction[:, row : row + 1], allow_unused=True, materialize_grads=True
            )
            rows.append(torch.cat([slope.flatten(1) for slope in found], 1))
        return torch.stack(rows, 1)

    def curvature(self) -> Callable[[Tensor], Tensor]:
        """The graph of the loss's gradient is kept as long as what is returned."""
        network = self.network
        # Only this form of attention can be differentiated twice.
        with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
            slopes = torch.autograd.grad(
                self.loss().sum(), network.leaves, create_graph=True, allow_unused=True, materialize_grads=True
            )
        varies = [slope.requires_grad for slope in slopes]

        def times(direction: Tensor) -> Tensor:
            if not any(varies):
                return torch.zeros_like(direction)
            along = network.spread(self._flat(direction))
            found = torch.autograd.grad(
                [slope for slope, does in zip(slopes, varies, strict=True) if does],
                network.leaves,
                [part for part, does in zip(along, varies, strict=True) if does],
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            return self._matrix(network.gathered(found))

        return times

    def _matrix(self, flat: Tensor) -> Tensor:
        members = self.network.num_members
        return torch.cat([flat[slot.start : slot.stop].view(members, -1) for slot in self.network.slots], 1)

    def _flat(self, matrix: Tensor) -> Tensor:
        flat, members, start = torch.empty_like(self.network.flat), self.network.num_members, 0
        for slot in self.network.slots:
            size = (slot.stop - slot.start) // members
            flat[slot.start : slot.stop].view(members, size).copy_(matrix[:, start : start + size])
            start += size
        return flat

    def claimed_and_earned(self, rows: int) -> tuple[Tensor, Tensor] | None:
        """Values of actions that were taken, and the returns that followed."""
        return None if self.earned is None else self.earned(rows)


@contextmanager
def _noting(network: Network) -> Iterator[list[Tensor]]:
    """The outputs of all passes within the block, however a loss comes to make them."""
    made: list[Tensor] = []
    forward = network.forward

    def noted(
        x: Tensor, activations: list[Tensor] | None = None, parameters: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        made.append(outputs := forward(x, activations, parameters))
        return outputs

    network.__dict__["forward"] = noted
    try:
        yield made
    finally:
        del network.__dict__["forward"]
