"""Records of one's own training loop, as crash-safe as the platform's: report, leaderboard and MLflow take them alike.

A directory of such runs has a plan without segments, marked ``external``: what its trials were trained with is known to
their loops alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from plasticbench import storage
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.runs.external_plan import ExternalTrial, alone, enter, hold, plan_of
from plasticbench.records import Record, RecordWriter, read_records
from plasticbench.visible import is_control

if TYPE_CHECKING:
    import os

    from torch import nn


class Recorder:
    """The records of one trial. A context manager; what it was told is safe from each ``commit`` on."""

    def __init__(
        self,
        out: str | os.PathLike[str],
        *,
        method: str,
        task: str,
        seed: int,
        budget_steps: int,
        agent: str = "",
        settings: Mapping[str, Any] | None = None,
        references: Sequence[float] | None = None,
        reset_steps: Sequence[int] = (),
        change_steps: Sequence[int] = (),
        name: str | None = None,
        from_step: int | None = None,
        commit_every_s: float = 10.0,
    ) -> None:
        """Enters the trial into the plan of ``out``, which several recorders may share, also at the same time.

        Args:
            out: run directory or its URI; made where it is not there.
            method: what is compared; ``none`` is the control.
            task: what it is compared on.
            seed: tells trials of one method and task apart.
            budget_steps: the agent steps of a whole trial, the same for all trials of the directory.
            agent: what trains, for people: ``stable-baselines3 DQN``. Leaderboards show it behind ``external``.
            settings: of the method, for the report's table; trials of one method on one task have the same.
            references: the returns that are scores 0 and 1; without them the score is the raw return.
            reset_steps: at which the method resets, where that is known; what lies after the first is shown apart.
            change_steps: at which the task changes.
            name: of the run, for a new directory; by default the folder's.
            from_step: goes on with a trial that is there; records after this step are cut off. Give what your own
                checkpoint was saved at.
            commit_every_s: seconds after which a record also commits; evaluations and ``close`` always do.

        Raises:
            ValueError: bad input, a directory of something else, or a trial that is there already.
        """
        self.directory = RunDirectory(storage.connect(str(out)))
        described = ExternalTrial(
            method=method,
            task=task,
            seed=seed,
            budget_steps=budget_steps,
            agent=agent,
            settings=dict(settings or {}),
            references=None if references is None else (float(references[0]), float(references[-1])),
            reset_steps=tuple(reset_steps),
            change_steps=tuple(change_steps),
        )
        self._references, self._budget_steps, self._commit_every_s = described.references, budget_steps, commit_every_s
        with alone(self.directory):
            trial = described.entry()
            self.trial = str(trial["id"])
            """Its id."""
            plan = plan_of(self.directory, name, budget_steps)
            kept = enter(self.directory, plan, trial, from_step)
            self._held = hold(self.directory.record_file(self.trial))
            self._writer = RecordWriter(self.directory.record_file(self.trial), kept)
        self.step = from_step or 0
        """The newest step of which something was recorded."""
        self._names = {record.name for record in self._kept() if record.step == self.step}
        self._closed = False
        self._committed_s = time.monotonic()

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Facts at an agent step, by name: ``train/return``, ``loss/td``, whatever a figure shall show."""
        if isinstance(step, bool) or step != int(step) or not self.step <= step <= self._budget_steps:
            raise ValueError(
                f"step: must be a whole number from {self.step}, as steps never go back, to the budget of "
                f"{self._budget_steps}, got {step!r}"
            )
        if self._closed:
            raise ValueError(f"{self.trial}: this recorder is closed; from_step= of a new one goes on with the trial")
        numbers = {name: _number(name, value) for name, value in values.items()}
        taken = self._names if step == self.step else set()
        if twice := sorted(taken & numbers.keys()):
            raise ValueError(f"values: {', '.join(twice)}: recorded at step {step} already, and a fact is there once")
        now = time.time()
        self._writer.write([Record(self.trial, int(step), name, value, now) for name, value in numbers.items()])
        self.step, self._names = int(step), taken | numbers.keys()
        if time.monotonic() - self._committed_s >= self._commit_every_s:
            self.commit()

    def evaluation(self, step: int, returns: float | Sequence[float]) -> None:
        """An evaluation: one undiscounted return, or several, whose mean counts. Leaderboards need one at the end."""
        several: Any = returns if hasattr(returns, "__len__") else [returns]
        if not len(several):
            raise ValueError("returns: must be one return or several, got none")
        mean = sum(map(float, several)) / len(several)
        low, high = self._references or (0.0, 1.0)
        self.record(step, {"eval/return": mean, "eval/score": (mean - low) / (high - low)})
        self.commit()

    def probe(
        self, module: nn.Module, batch: Any, *, step: int | None = None, network: str = "online", **options: Any
    ) -> dict[str, float]:
        """Records, and returns, the plasticity of a module on a batch: ``plasticbench.probe``, which takes ``options``.

        ``step`` is by default that of the newest record, ``network`` what figures call it.
        """
        from plasticbench.modules import probe

        found = probe(module, batch, **options)
        self.record(
            self.step if step is None else step,
            {f"plasticity/{network}/{name}": value for name, value in found.items()},
        )
        return found

    def commit(self) -> None:
        """Forces everything to the storage. After an ``OSError`` it can be repeated."""
        self._writer.sync()
        self._committed_s = time.monotonic()

    def close(self) -> None:
        """Commits; afterwards nothing can be recorded."""
        if self._closed:
            return
        self.commit()
        self._closed = True
        self._writer.close()
        if self._held is not None:
            self._held.close()

    def _kept(self) -> Iterator[Record]:
        """What a trial that goes on holds already."""
        with suppress(FileNotFoundError):
            yield from read_records(self.directory.record_file(self.trial))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def _number(name: str, value: Any) -> float:
    if not isinstance(name, str) or not name.strip("/") or any(map(is_control, name)):
        raise ValueError(f"values: names must be text of one line, got {name!r}")
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):  # torch's, of a tensor with several numbers
        raise ValueError(f"values: {name}: must be one number, got {value!r}") from None
