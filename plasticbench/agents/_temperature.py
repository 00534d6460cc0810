"""The entropy temperature of SAC, one for each member, moved towards a target entropy.

Source: Haarnoja et al. 2018, arXiv 1812.05905, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from plasticbench.agents._losses import temperature_loss
from plasticbench.learning.network import ParameterSlot
from plasticbench.learning.optimizers import adam

TemperatureObjective = Literal["alpha", "log_alpha"]


class Temperature:
    """``log alpha`` of M members with an Adam of its own, so that alpha stays above 0.

    ``objective`` is what the loss multiplies with the lack of entropy: alpha, or its logarithm, whose gradient does not
    fade as alpha falls (rail-berkeley/softlearning; stable-baselines3).
    """

    def __init__(
        self,
        start: float,
        learning_rate: float,
        num_members: int,
        device: torch.device,
        objective: TemperatureObjective = "alpha",
    ) -> None:
        self.num_members, self._objective = num_members, objective
        self._settings = (start, learning_rate, num_members, device, objective)
        self.slots = [ParameterSlot("log_alpha", 0, num_members, (num_members,))]
        self._log_start = math.log(start)
        self.flat = torch.full((num_members,), self._log_start, device=device)
        self.flat_grad = torch.zeros_like(self.flat)
        self.optimizer = adam.PopulationAdam(self, adam.Config(learning_rate=learning_rate, eps=1e-8, weight_decay=0.0))

    @property
    def value(self) -> Tensor:
        """Alpha ``[M]``, above 0."""
        return self.flat.exp()

    def update(self, log_prob: Tensor, target_entropy: float) -> Tensor:
        """One step from log densities ``[M, B]`` of the policy's own actions; returns the loss ``[M]``."""
        if self._objective == "alpha":
            loss = temperature_loss(self.value, log_prob, target_entropy)
            self.flat_grad.copy_(loss)  # alpha is a factor of the loss, so d loss / d log alpha is the loss itself
        else:
            loss = temperature_loss(self.flat, log_prob, target_entropy)
            self.flat_grad.copy_(temperature_loss(torch.ones_like(self.flat), log_prob, target_entropy))
        self.optimizer.step()
        return loss

    def another(self) -> Temperature:
        """A new one with the same settings."""
        return Temperature(*self._settings)

    def take(self, other: Temperature, members: Sequence[int]) -> None:
        """These members go on with the value and the optimizer's state that they have in another one."""
        for ours, theirs in zip(self._parts().values(), other._parts().values(), strict=True):
            ours[list(members)] = theirs[list(members)]
        self.optimizer.rebuild()

    def reset(self, members: Sequence[int]) -> None:
        """These members return to the starting value with a new optimizer state."""
        index = torch.tensor(list(members), device=self.flat.device)
        self.flat.index_fill_(0, index, self._log_start)
        for moment in self.optimizer.moments.values():
            moment.index_fill_(0, index, 0.0)
        self.optimizer.steps.index_fill_(1, index.cpu(), 0)
        self.optimizer.rebuild()

    def silence(self, members: Sequence[int]) -> None:
        """These members stay at the starting value.

        Their steps are counted on: Adam's kernel may round what shares a count otherwise than what does not.
        """
        index = torch.tensor(list(members), device=self.flat.device)
        self.flat.index_fill_(0, index, self._log_start)
        for moment in self.optimizer.moments.values():
            moment.index_fill_(0, index, 0.0)

    def _parts(self) -> dict[str, Tensor]:
        optimizer = self.optimizer
        return {
            "temperature/log_alpha": self.flat,
            **{f"temperature/{name}": moment for name, moment in optimizer.moments.items()},
            "temperature/adam_steps": optimizer.steps[0],
        }

    def state_dict(self) -> dict[str, Tensor]:
        """Named tensors ``[M]``."""
        return {name: tensor.clone() for name, tensor in self._parts().items()}

    def load_state_dict(self, state: dict[str, Tensor], parents: Sequence[int]) -> None:
        """Member i becomes a copy of the saved member ``parents[i]``."""
        members = torch.tensor(list(parents))
        for name, tensor in self._parts().items():
            tensor.copy_(state[name].index_select(0, members.to(state[name].device)))
        self.optimizer.rebuild()
