"""What a Ray actor does: segments, one after the other, while it answers where it stands. Needs no Ray itself."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from plasticbench.envs._watch import Stuck, watch
from plasticbench.platform.definition.reading import Benchmark
from plasticbench.platform.planning.plan import Segment
from plasticbench.platform.training.segment import Progress, SegmentRun
from plasticbench.storage import be_patient, location


class SegmentWorker:
    """Ray actor: runs segments one after the other; ``progress`` and ``stop`` answer while one runs."""

    def __init__(self, run_dir: str) -> None:
        be_patient()
        self._run_dir = location(run_dir)
        self._stop = threading.Event()
        self._current: SegmentRun | None = None
        self._timeout_s: float | None = None

    def run(self, segment: Segment, benchmark: Benchmark) -> tuple[Mapping[str, int], Mapping[str, str]]:
        """Runs a segment to its end, or to ``stop``.

        Returns the committed length of each trial's record file, and of what single trials failed, without which it
        went on.
        """
        self._timeout_s = benchmark.environment(segment.task).step_timeout_s
        self._current = SegmentRun(self._run_dir, segment, benchmark)
        self._current.run(self._stop.is_set)
        return self._current.record_bytes, self._current.failed

    def progress(self) -> Progress | Stuck | None:
        """Where the current segment stands, or which call of its environments does not return."""
        if (stuck := watch.stuck(self._timeout_s)) is not None:
            return stuck
        return self._current.progress() if self._current else None

    def stop(self) -> None:
        """Makes the current segment commit and return."""
        self._stop.set()
