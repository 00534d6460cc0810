"""A tracker in a process of its own, as Ray runs it: ``python tracker_process.py RUN_DIR [TRACKING_URI]``.

Each line of its input is a JSON object of committed lengths. At the end of the input it finishes, with every trial's
status FINISHED, and prints as JSON what ``finish`` returned.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


class TrackerProcess:
    """The other end: what a driver says to the tracker."""

    def __init__(self, run_dir: Path, tracking_uri: str | None) -> None:
        command = [sys.executable, __file__, str(run_dir), *([tracking_uri] if tracking_uri else [])]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid

    def committed(self, record_bytes: Mapping[str, int]) -> None:
        """Tells of new committed lengths."""
        assert self._process.stdin is not None
        print(json.dumps(record_bytes), file=self._process.stdin, flush=True)

    def finish(self, timeout_s: float = 300) -> str | None:
        """Waits until everything is sent; returns why not if it is not."""
        output, _ = self._process.communicate(timeout=timeout_s)
        assert self._process.returncode == 0, output
        message: str | None = json.loads(output)
        return message

    def kill(self) -> None:
        """SIGKILL."""
        with self._process:
            self._process.kill()


def _main(run_dir: str, tracking_uri: str | None = None) -> None:
    from plasticbench.platform.tracking.tracker import Tracker

    tracker = Tracker(run_dir, tracking_uri)
    for line in sys.stdin:
        tracker.committed(json.loads(line))
    trials = json.loads((Path(run_dir) / "plan.json").read_text())["trials"]
    print(json.dumps(tracker.finish({}, {trial["id"]: "FINISHED" for trial in trials}, None)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
