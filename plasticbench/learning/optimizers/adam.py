"""Adam over the flat buffer of a population, with a step count for each parameter of each member."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from plasticbench.learning.network import ParameterSlot


@dataclass(frozen=True, kw_only=True, slots=True)
class AdamConfig:
    """Adam (Kingma & Ba 2015, arXiv 1412.6980); ``weight_decay`` is decoupled (Loshchilov & Hutter 2019)."""

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0


class FlatParameters(Protocol):
    """Parameters of M members as one buffer, with the gradients in another: a network, or a temperature."""

    flat: Tensor
    flat_grad: Tensor
    slots: list[ParameterSlot]
    num_members: int


class PopulationAdam:
    """Agrees with ``torch.optim.Adam`` on every member, also after single parameters of single members were reset.

    PyTorch's fused kernel updates stretches of the buffer that share a step count: one stretch as long as no reset
    has touched only a part of the population.
    """

    def __init__(self, network: FlatParameters, config: AdamConfig) -> None:
        self.network = network
        self.config = config
        self.exp_avg = torch.zeros_like(network.flat)
        self.exp_avg_sq = torch.zeros_like(network.flat)
        self.steps = torch.zeros(len(network.slots), network.num_members, dtype=torch.int64)
        self._stretches: list[tuple[int, int]] = []
        self._stretch_counts = torch.empty(0)
        self._stretch_steps: list[Tensor] = []  # views of the counts
        self._buffers: list[list[Tensor]] = []
        self.rebuild()

    def rebuild(self) -> None:
        """Finds the stretches anew; must follow every change of ``steps`` from outside."""
        stretches: list[tuple[int, int, int]] = []
        for slot, member_steps in zip(self.network.slots, self.steps.tolist(), strict=True):
            size = (slot.stop - slot.start) // self.network.num_members
            for member, count in enumerate(member_steps):
                begin = slot.start + member * size
                if stretches and stretches[-1][2] == count:
                    stretches[-1] = (stretches[-1][0], begin + size, count)
                else:
                    stretches.append((begin, begin + size, count))
        device = self.network.flat.device
        self._stretches = [(start, stop) for start, stop, _ in stretches]
        self._stretch_counts = torch.tensor([float(count) for _, _, count in stretches], device=device)
        self._stretch_steps = list(self._stretch_counts.unbind())
        self._buffers = self._split([self.network.flat, self.network.flat_grad, self.exp_avg, self.exp_avg_sq])

    def step(self) -> None:
        """One update from the gradients in ``network.flat_grad``."""
        self._stretch_counts += 1
        self.steps += 1
        self._fused(self._buffers, self._stretch_steps)

    def preview(self, gradients: Tensor) -> Tensor:
        """The change (flat) that a step with these flat gradients would make; nothing is modified."""
        parts = self._split([self.network.flat.clone(), gradients, self.exp_avg.clone(), self.exp_avg_sq.clone()])
        self._fused(parts, [count + 1 for count in self._stretch_steps])
        return torch.cat(parts[0]) - self.network.flat

    def _split(self, tensors: list[Tensor]) -> list[list[Tensor]]:
        return [[tensor[start:stop] for start, stop in self._stretches] for tensor in tensors]

    def _fused(self, buffers: list[list[Tensor]], steps: list[Tensor]) -> None:
        config = self.config
        weights, gradients, exp_avgs, exp_avg_sqs = buffers
        kernel = torch._fused_adamw_ if config.weight_decay else torch._fused_adam_
        with torch.no_grad():
            kernel(
                weights,
                gradients,
                exp_avgs,
                exp_avg_sqs,
                [],
                steps,
                amsgrad=False,
                lr=config.learning_rate,
                beta1=config.beta1,
                beta2=config.beta2,
                weight_decay=config.weight_decay,
                eps=config.eps,
                maximize=False,
                grad_scale=None,
                found_inf=None,
            )
