"""Sends what is left to MLflow from this process, where nothing is left to train and no Ray runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Thread

from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.tracking.mirror import RunStatus
from plasticbench.platform.tracking.tracker import Tracker
from plasticbench.storage import Location

_TELL_S = 1.0


class LocalFlush:
    """A tracker in a thread, so that whoever waits can tell how far it is, and be interrupted."""

    def __init__(self, directory: RunDirectory, tracking_uri: str | None) -> None:
        self._tracker = Tracker(str(directory.path), tracking_uri)

    def finish(
        self,
        record_bytes: Mapping[str, int],
        statuses: Mapping[str, RunStatus],
        report_dir: Location | None,
        tell: Callable[[int], None],
        reasons: Mapping[str, str] | None = None,
    ) -> str | None:
        """Returns why not everything could be sent; ``tell`` hears every second how many trials are left.

        ``reasons`` say of failed trials why they did.
        """
        results: list[str | None] = []
        report = str(report_dir) if report_dir else None
        thread = Thread(
            target=lambda: results.append(self._tracker.finish(record_bytes, statuses, report, reasons)), daemon=True
        )
        thread.start()
        thread.join(_TELL_S)
        while thread.is_alive():
            tell(self._tracker.standing().left)
            thread.join(_TELL_S)
        return results[0]
