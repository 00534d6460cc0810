"""When updates and moves of a target are due, as the clock passes from one step of the environments to the next."""

from __future__ import annotations

from typing import Protocol

from plasticbench.agents._effects import updates_until
from plasticbench.agents._replay import PopulationReplay
from plasticbench.agents._settings import UpdateClock


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
        settings, now = self._settings, step - self._delay_steps
        starts = settings.learning_starts_steps
        if now <= starts or not replay.has(min(settings.batch_rows, starts)):
            return 0
        before = updates_until(settings, now - self._num_envs, self.replay_ratio)
        return updates_until(settings, now, self.replay_ratio) - before

    def passes(self, step: int, period_steps: int) -> bool:
        """Whether a multiple of the period was reached in the last step."""
        now = step - self._delay_steps
        return now // period_steps > (now - self._num_envs) // period_steps
