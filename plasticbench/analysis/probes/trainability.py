"""How well a copy of the network still learns: a fresh network's error over its own, after fitting random targets.

Source: the capacity of Lyle, Rowland, Dabney, ICLR 2022, arXiv 2204.09560: targets are outputs of networks with other
initial weights, here standardised so that sizes compare. 1 is as good as new, below 1 plasticity was lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from plasticbench.analysis.probes._config import ProbeConfig
from plasticbench.contracts.network import NetworkView, Shown, Workings
from plasticbench.settings import PositiveFloat, PositiveInt


def standardised(outputs: Tensor) -> Tensor:
    """Outputs ``[M, N, ...]`` less their mean over rows, over what then is their root mean square of all."""
    centred = outputs - outputs.mean(1, keepdim=True)
    size = centred.flatten(1).square().mean(1).sqrt().clamp(min=1e-12)
    return centred / size.view(-1, *(1,) * (outputs.ndim - 1))


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ProbeConfig):
    """``updates`` of a new Adam with ``learning_rate`` on the first ``rows`` of the batch, for each of ``targets``.

    Targets and fresh networks are each trial's own, and the same at every look. ``head: fresh`` gives the copy a new
    output layer, so that large outputs are nothing to be unlearnt first.
    """

    needs: ClassVar[Shown | None] = "losses"

    updates: PositiveInt = 100
    targets: PositiveInt = 3
    rows: PositiveInt = 128
    learning_rate: PositiveFloat = 1e-3
    head: Literal["kept", "fresh"] = "kept"

    def working_bytes(self, weight_bytes: int, pass_bytes: int) -> int:
        """A fresh network, the copy that learns, its gradient and moments."""
        return 6 * weight_bytes

    def measure(self, view: NetworkView) -> dict[str, Tensor]:
        """Ratios ``[M]`` of mean squared errors, summed over targets, as total only."""
        workings = view.workings
        if workings is None:
            return {}
        own, inputs, errors = workings.parameters, workings.inputs[:, : self.rows], []
        for number in range(self.targets):
            with torch.no_grad():
                aim = standardised(workings.forward(workings.fresh(f"trainability target {number}"), inputs)[0])
            fresh = workings.fresh(f"trainability network {number}")
            heads = workings.output_parameters if self.head == "fresh" else ()
            copy = {name: fresh[name] if name in heads else value for name, value in own.items()}
            errors.append([self._error(workings, weights, inputs, aim) for weights in (copy, fresh)])
        of_copy, of_fresh = (torch.stack(each).sum(0) for each in zip(*errors, strict=True))
        return {"": of_fresh / of_copy}

    def _error(self, workings: Workings, weights: Mapping[str, Tensor], inputs: Tensor, aim: Tensor) -> Tensor:
        """Mean squared error ``[M]`` after the updates."""
        learnt = {name: weights[name].clone().requires_grad_() for name in workings.parameters}
        whole = {**weights, **learnt}
        # Adam treats every number by itself, so that members stay apart.
        optimizer = torch.optim.Adam(learnt.values(), lr=self.learning_rate)
        for _ in range(self.updates):
            with torch.enable_grad():
                loss = self._loss(workings, whole, inputs, aim)
            for parameter, gradient in zip(
                learnt.values(),
                torch.autograd.grad(loss.sum(), list(learnt.values()), allow_unused=True, materialize_grads=True),
                strict=True,
            ):
                parameter.grad = gradient
            optimizer.step()
        with torch.no_grad():
            return self._loss(workings, whole, inputs, aim)

    def _loss(self, workings: Workings, weights: Mapping[str, Tensor], inputs: Tensor, aim: Tensor) -> Tensor:
        return (workings.forward(weights, inputs)[0] - aim).square().flatten(1).mean(1)
