"""When updates and moves of a target are due, as the clock passes from one step of the environments to the next."""

from __future__ import annotations

from typing import Protocol

from plasticbench.agents._effects import primed_within, updates_until
from plasticbench.agents._replay import PopulationReplay
from plasticbench.agents._settings import Priming, UpdateClock


class ClockSettings(Protocol):
    """What an agent's ``Config`` says about its updates."""

    @property
    def batch_rows(self) -> int:
        """Transitions of an update."""
        ...

    @property
    def learning_starts_steps(self) -> int:
        """Agent steps that the clock must have passed."""
        ...

    @property
    def replay_ratio(self) -> float:
        """Updates per agent step."""
        ...

    @property
    def update_period_steps(self) -> int:
        """Agent steps whose updates are made in one burst."""
        ...

    @property
    def update_clock(self) -> UpdateClock:
        """Which clock decides."""
        ...

    @property
    def priming(self) -> Priming | None:
        """Updates beyond those that are usual."""
        ...


class Clock:
    """Counts for a population whose members have ``num_envs`` environments each."""

    def __init__(self, settings: ClockSettings, num_envs: int) -> None:
        self._settings, self._num_envs = settings, num_envs
        self.replay_ratio = settings.replay_ratio
        self._delay_steps = num_envs if settings.update_clock == "before_step" else 0

    def updates(self, step: int, replay: PopulationReplay) -> int:
        """How many are due when the clock reaches ``step``: those of all periods that ended in the last step.

        They need ``batch_rows`` stored steps, also after a replay was cleared, or fewer where learning starts earlier.
        """
        now = step - self._delay_steps
        if not self._has_begun(now, replay):
            return 0
        before = updates_until(self._settings, now - self._num_envs, self.replay_ratio)
        return updates_until(self._settings, now, self.replay_ratio) - before

    def primed_updates(self, step: int, replay: PopulationReplay) -> int:
        """How many more are made before them."""
        now = step - self._delay_steps
        return primed_within(self._settings, now - self._num_envs, now) if self._has_begun(now, replay) else 0

    def _has_begun(self, now: int, replay: PopulationReplay) -> bool:
        starts = self._settings.learning_starts_steps
        return now > starts and replay.has(min(self._settings.batch_rows, starts))

    def passes(self, step: int, period_steps: int) -> bool:
        """Whether a multiple of the period was reached in the last step."""
        now = step - self._delay_steps
        return now // period_steps > (now - self._num_envs) // period_steps
