"""Adam over the flat buffer of a population, with a step count for each parameter of each member.

Source: Kingma & Ba 2015, arXiv 1412.6980; ``weight_decay`` is decoupled (Loshchilov & Hutter 2019, arXiv 1711.05101).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from plasticbench.learning.optimizer import BaseSettings, FlatParameters, completed
from plasticbench.settings import HalfOpenFraction, NonNegativeFloat, PositiveFloat, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """A learning rate, ``eps`` or weight decay that is left out is the agent's own.

    Every native agent trains with Adam unless its method, or ``optimizer`` of DQN, says otherwise.
    """

    learning_rate: PositiveFloat | None = None
    beta1: HalfOpenFraction = 0.9
    beta2: HalfOpenFraction = 0.999
    eps: PositiveFloat | None = None
    weight_decay: NonNegativeFloat | None = None

    @classmethod
    def within(cls, settings: Settings, **others: float | None) -> Config:
        """Adam's settings as they stand among those of another optimizer, the ``others`` aside."""
        return cls(**{field.name: getattr(settings, field.name) for field in fields(cls)} | others)

    def build(self, network: FlatParameters, base: BaseSettings) -> PopulationAdam:
        """The optimizer of all parameters."""
        return PopulationAdam(network, completed(self, base))


PRESETS = {"clean": Config()}


class PopulationAdam:
    """Agrees with ``torch.optim.Adam`` on every member, also after single parameters of single members were reset.

    PyTorch's fused kernel updates stretches of the buffer that share a step count: one stretch as long as no reset
    has touched only a part of the population. ``only`` names the parameters that it updates; without it, all.
    """

    second_moments = frozenset({"exp_avg_sq"})
    is_capturable = True

    def __init__(self, network: FlatParameters, config: Config, only: Collection[str] | None = None) -> None:
        self.network = network
        self.config = config
        self.moments = {"exp_avg": torch.zeros_like(network.flat), "exp_avg_sq": torch.zeros_like(network.flat)}
        self.steps = torch.zeros(len(network.slots), network.num_members, dtype=torch.int64)
        self._counted = self.steps.numpy()  # the same memory, counted in a quarter of the time
        self.layout = 0
        self._means = list(self.moments.values())  # a subclass may keep more moments
        self._chosen = [only is None or slot.name in only for slot in network.slots]
        self._stretches: list[tuple[int, int]] = []
        self._stretch_counts = torch.empty(0)
        self._stretch_steps: list[Tensor] = []  # views of the counts
        self._buffers: list[list[Tensor]] = []
        self.rebuild()

    def rebuild(self) -> None:
        """Finds the stretches anew; must follow every change of ``steps`` from outside."""
        stretches: list[tuple[int, int, int]] = []
        for slot, member_steps, is_chosen in zip(self.network.slots, self.steps.tolist(), self._chosen, strict=True):
            size = (slot.stop - slot.start) // self.network.num_members
            for member, count in enumerate(member_steps if is_chosen else ()):
                begin = slot.start + member * size
                if stretches and stretches[-1][1:] == (begin, count):
                    stretches[-1] = (stretches[-1][0], begin + size, count)
                else:
                    stretches.append((begin, begin + size, count))
        counts = torch.tensor([float(count) for _, _, count in stretches], device=self.network.flat.device)
        places = [(start, stop) for start, stop, _ in stretches]
        if places == self._stretches:
            self._stretch_counts.copy_(counts)
            return
        self.layout += 1
        self._stretches, self._stretch_counts = places, counts
        self._stretch_steps = list(self._stretch_counts.unbind())
        self._buffers = self._split([self.network.flat, self.network.flat_grad, *self._means])

    def step(self) -> None:
        """One update from the gradients in ``network.flat_grad``."""
        self.count()
        self._stretch_counts += 1
        self._fused(self._buffers, self._stretch_steps)

    def count(self) -> None:
        """One more update of every parameter, on the host."""
        self._counted += 1

    def preview(self, gradients: Tensor) -> Tensor:
        """The change (flat) that a step with these flat gradients would make; nothing is modified."""
        return self.ahead(gradients) - self.network.flat

    def ahead(self, gradients: Tensor) -> Tensor:
        """The weights (flat) that a step with these flat gradients would lead to; nothing is modified."""
        weights = self.network.flat.clone()
        moments = [moment.clone() for moment in self._means]
        self._fused(self._split([weights, gradients, *moments]), [count + 1 for count in self._stretch_steps])
        return weights

    def _split(self, tensors: list[Tensor]) -> list[list[Tensor]]:
        return [[tensor[start:stop] for start, stop in self._stretches] for tensor in tensors]

    def _fused(self, buffers: list[list[Tensor]], steps: list[Tensor]) -> None:
        config = self.config
        assert config.learning_rate is not None
        assert config.eps is not None
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
                weight_decay=config.weight_decay or 0.0,
                eps=config.eps,
                maximize=False,
                grad_scale=None,
                found_inf=None,
            )
