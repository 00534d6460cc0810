"""Where observations and rewards enter: what is not finite is named there, and not where it does harm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from plasticbench.contracts.task import EnvironmentFault


@dataclass(slots=True)
class Entrance:
    """Looks at what ``num_envs`` environments of each member deliver; ``during`` is "evaluation" or nothing.

    An environment that was sent actions that are not finite is not to blame for what it delivers from then on.
    """

    task: str
    member_seeds: Sequence[int]
    num_envs: int
    during: str = ""
    _misled: set[int] = field(default_factory=set)

    def check(
        self,
        obs: np.ndarray,
        rewards: np.ndarray | None,
        actions_to: Callable[[int], np.ndarray] | None,
        at_step: int,
    ) -> None:
        """Raises ``EnvironmentFault`` with task, seed, step and entry; ``actions_to(i)`` is what number i was sent."""
        if obs.dtype.kind == "f" and not np.isfinite(obs).all():
            self._blame(obs, "entry {entry} of the observation", actions_to, at_step)
        if rewards is not None and not np.isfinite(rewards).all():
            self._blame(rewards, "the reward", actions_to, at_step)

    def _blame(
        self, values: np.ndarray, what: str, actions_to: Callable[[int], np.ndarray] | None, at_step: int
    ) -> None:
        for index, *entry in np.argwhere(~np.isfinite(values)).tolist():
            if index in self._misled:
                continue
            if actions_to is not None and not np.isfinite(actions_to(index)).all():
                self._misled.add(index)
                continue
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
        return EnvironmentFault(f"{where}: {fault}", fault.index, is_located=True)
