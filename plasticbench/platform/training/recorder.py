"""Turns what was measured of members into records of their trials."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from plasticbench.analysis.divergence import RATIO, ValueCourse
from plasticbench.analysis.not_finite import MARK
from plasticbench.platform.planning.plan import Segment
from plasticbench.platform.training.process_usage import ProcessUsage
from plasticbench.records import Record


class Recorder:
    """Writes the records of one segment's members, and keeps what is averaged until the next record is due."""

    def __init__(self, segment: Segment, device: torch.device) -> None:
        self._segment = segment
        self.window = MetricWindow()
        self.value_courses = [ValueCourse() for _ in segment.members]
        self.silent: set[int] = set()
        self.lost: set[int] = set()  # and nothing is recorded of them, not even evaluations
        self._log_clock = (time.monotonic(), segment.from_step)
        self._usage = ProcessUsage(device)

    @property
    def everyone(self) -> range:
        """All members."""
        return range(len(self._segment.members))

    def records(self, step: int, name: str, values: Sequence[float], members: Iterable[int]) -> list[Record]:
        """One record for each trial that a member stands for, silent members as well."""
        now = time.time()
        return [
            Record(trial, step, name, value, now)
            for m, value in zip(members, values, strict=True)
            if m not in self.lost
            for trial in self._segment.members[m].trials
        ]

    def measured(self, step: int, name: str, values: Sequence[float], members: Iterable[int]) -> list[Record]:
        """The same without silent members: networks of zeros say nothing."""
        heard = [(m, value) for m, value in zip(members, values, strict=True) if m not in self.silent]
        return self.records(step, name, [value for _, value in heard], [m for m, _ in heard])

    def silenced(self, step: int, not_finite: Mapping[int, str]) -> list[Record]:
        """The marks of the members that were not known to be silent."""
        found: list[Record] = []
        for member in sorted(not_finite.keys() - self.silent):
            found += self.records(step, f"{MARK}{not_finite[member]}", [1.0], [member])
        self.hush(not_finite)
        return found

    def lose(self, members: Iterable[int]) -> None:
        """Their trials have failed: they end here, without a final evaluation."""
        self.lost |= set(members)
        self.hush(self.lost)

    def hush(self, members: Iterable[int]) -> None:
        """Nothing is measured of these members any more."""
        self.silent |= set(members)
        self.window.forget(self.silent)

    def training(self, step: int, metrics: Mapping[str, tuple[Sequence[int], Sequence[float]]]) -> list[Record]:
        """What the course and the updates showed since the last call, and what the process used."""
        found: list[Record] = []
        for name, (members, values) in metrics.items():
            found += self.measured(step, name, values, members)
        for name, means in self.window.drain().items():
            found += self.measured(step, name, means, self.everyone)
            if name == RATIO:
                self._follow(step, means)
        now = time.monotonic()
        speed = (step - self._log_clock[1]) / max(now - self._log_clock[0], 1e-9)
        self._log_clock = (now, step)
        for name, value in {"speed/steps_per_s": speed, **self._usage.drain()}.items():
            found += self.records(step, name, [value] * len(self.everyone), self.everyone)
        return found

    def _follow(self, step: int, ratios: Sequence[float]) -> None:
        for member in set(self.everyone) - self.silent:
            self.value_courses[member] = self.value_courses[member].then(step, ratios[member])


class MetricWindow:
    """Means of what updates reported since the last training record, ``[M]`` by name."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Takes in one update."""
        for name, value in metrics.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def drain(self) -> dict[str, list[float]]:
        """The means over those updates that reported each, which are then forgotten."""
        means = {name: (total / self._counts[name]).tolist() for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means

    def faults(self) -> dict[int, str]:
        """Members of which something was not finite, and its name; waits for the device."""
        if not self._sums:
            return {}
        sound = torch.stack([total.detach().cpu() for total in self._sums.values()]).isfinite()
        found: dict[int, str] = {}
        for row, member in (~sound).nonzero().tolist():
            found.setdefault(member, list(self._sums)[row])
        return found

    def forget(self, members: Iterable[int]) -> None:
        """Drops what was taken in of these members."""
        index = torch.tensor(sorted(members), dtype=torch.int64)
        self._sums = {name: total.index_fill(0, index.to(total.device), 0.0) for name, total in self._sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"counts": self._counts, "sums": {name: total.tolist() for name, total in self._sums.items()}}

    def load_state_dict(self, state: dict[str, Any], parents: Sequence[int], device: torch.device) -> None:
        """Member i goes on with the sums of the saved member ``parents[i]``."""
        sums = state["sums"].items()
        # In version 0.1 every update reported everything.
        self._counts = dict(state["counts"]) if "counts" in state else dict.fromkeys(state["sums"], state["count"])
        self._sums = {name: torch.tensor([own[p] for p in parents], device=device) for name, own in sums}
