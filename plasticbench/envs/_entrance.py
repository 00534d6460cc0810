"""What an environment delivered that nobody can be trained on, by task, seed, step and entry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plasticbench.contracts.task import EnvironmentFault


@dataclass(slots=True)
class Entrance:
    """Names what ``num_envs`` environments of each member deliver; ``during`` is "evaluation" or nothing.

    In training, numbers that are not finite mark their trial (``docs/protocol.md``, not finite) and raise nothing.
    """

    task: str
    member_seeds: Sequence[int]
    num_envs: int
    during: str = ""

    def check(self, obs: np.ndarray, rewards: np.ndarray, at_step: int) -> None:
        """Raises ``EnvironmentFault`` with task, seed, step and entry for what is not finite."""
        for values, what in ((obs, "entry {entry} of the observation"), (rewards, "the reward")):
            if values.dtype.kind == "f" and len(found := np.argwhere(~np.isfinite(values))):
                index, *entry = found[0].tolist()
                name = what.format(entry=entry if len(entry) != 1 else entry[0])
                raise self.located(EnvironmentFault(f"{name} is {values[index, *entry]}", index), at_step)

    def located(self, fault: EnvironmentFault, at_step: int) -> EnvironmentFault:
        """The fault with task, seed and step, if it has none."""
        if fault.is_located:
            return fault
        member, number = divmod(fault.index, self.num_envs)
        which = f", environment {number + 1} of {self.num_envs}" if self.num_envs > 1 else ""
        when = f"{self.during} at step" if self.during else "step"
        where = f"{self.task}, seed {self.member_seeds[member]}, {when} {at_step:,}{which}"
        return type(fault)(f"{where}: {fault}", fault.index, is_located=True)
