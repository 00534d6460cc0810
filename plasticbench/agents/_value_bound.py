"""How large an agent's values are beside the largest that any policy can earn.

With rewards of magnitude r at most, no policy earns more than r / (1 - discount), whatever the number of steps that a
target sums up before it looks at a value: n rewards and the value behind them have the same bound. SAC is also paid for
its entropy, temperature times H from the next step on: discount * temperature * H / (1 - discount) more. Over n steps
its target pays for the last one alone, which is less. Values far beyond that are the learner's own invention (Hussing
et al. 2024, arXiv 2403.05996).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vector_norm


class ValueBound:
    """The largest reward and temperature that each of M members has seen so far: old values may be made of old rewards.

    ``entropy_nats`` is the largest magnitude of entropy for which a policy is paid or charged.
    """

    def __init__(self, discount: float, num_members: int, device: torch.device, entropy_nats: float = 0.0) -> None:
        self._discount, self._entropy_nats = discount, entropy_nats
        self._largest_reward = np.zeros(num_members, dtype=np.float32)
        self._reward = torch.zeros(num_members, device=device)  # the same, where values are
        self._temperature = torch.zeros(num_members, device=device)
        self._per_entry = torch.zeros(num_members, device=device)
        self._entries = 1  # values of one member in a batch
        self._refresh()

    def see(self, reward: np.ndarray) -> None:
        """Takes in rewards ``[M, E]`` as the agent learns from them."""
        largest = np.abs(reward).max(axis=1)
        if (largest > self._largest_reward).any():
            np.fmax(self._largest_reward, largest, out=self._largest_reward)
            self._reward.copy_(torch.from_numpy(self._largest_reward))
            self._refresh()

    def ratio(self, q: Tensor, temperature: Tensor | None = None) -> Tensor:
        """Mean magnitude of values ``[M, B, ...]`` over their bound: ``[M]``, 0 until a reward other than 0 was seen.

        The mean, so that it speaks of the values on the whole; one state of a batch can be wrong without harm.
        """
        if temperature is not None:
            torch.maximum(self._temperature, temperature.detach(), out=self._temperature)
            self._refresh()
        entries = math.prod(q.shape[1:])
        if entries != self._entries:
            self._entries = entries
            self._refresh()
        # The 1-norm is the sum of magnitudes, in half the time of a mean of them.
        ratio: Tensor = vector_norm(q.detach(), ord=1, dim=tuple(range(1, q.dim()))) * self._per_entry
        return ratio

    def _refresh(self) -> None:
        earned = self._reward + self._discount * self._entropy_nats * self._temperature
        self._per_entry.copy_(torch.where(self._reward > 0, (1 - self._discount) / (self._entries * earned), 0.0))

    def state_dict(self) -> dict[str, Tensor]:
        """Named tensors ``[M]``."""
        named = {"largest_reward": self._reward, "largest_temperature": self._temperature}
        return {f"values/{name}": tensor.clone() for name, tensor in named.items()}

    def load_state_dict(self, state: dict[str, Tensor], parents: Sequence[int]) -> None:
        """Member i goes on as the saved member ``parents[i]``; a state of version 0.1, which has none, begins at 0."""
        members = torch.tensor(list(parents))
        nothing = torch.zeros(int(members.max()) + 1)
        reward, temperature = (
            state.get(f"values/{name}", nothing).cpu().index_select(0, members)
            for name in ("largest_reward", "largest_temperature")
        )
        self._largest_reward = reward.numpy().copy()
        self._reward.copy_(reward)
        self._temperature.copy_(temperature)
        self._refresh()
