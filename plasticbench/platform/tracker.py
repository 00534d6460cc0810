"""Keeps MLflow up to date in the background, from committed records alone; knows nothing of Ray, which runs it."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping

from plasticbench.platform.checkpoint import CheckpointError, CheckpointStore
from plasticbench.platform.plan import Plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.tracking import Mirror, RunStatus, TrackingUnavailable
from plasticbench.storage import location

logger = logging.getLogger(__name__)

_NICENESS = 15  # the mirror may lag, training may not


class Tracker:
    """Mirrors committed records to MLflow in the background; what it must know after a crash is on disk."""

    def __init__(self, run_dir: str, tracking_uri: str | None) -> None:
        os.nice(_NICENESS)
        self._directory = RunDirectory(location(run_dir))
        self._mirror = Mirror(self._directory.path, tracking_uri)
        self._committed = committed_bytes(self._directory, self._directory.plan())
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._news.set()
        self._pump_lock = threading.Lock()
        threading.Thread(target=self._follow, daemon=True).start()

    def committed(self, record_bytes: Mapping[str, int]) -> None:
        """Takes note of new committed lengths."""
        with self._lock:
            self._committed.update(record_bytes)
        self._news.set()

    def _follow(self) -> None:
        pause_s = 1.0
        while True:
            self._news.wait()
            self._news.clear()
            try:
                self._pump()
                pause_s = 1.0
            except TrackingUnavailable as error:
                logger.warning("%s", error)
                self._news.set()
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, 60.0)

    def _pump(self) -> None:
        with self._lock:
            committed = dict(self._committed)
        with self._pump_lock:
            self._mirror.pump(committed)

    def finish(self, statuses: Mapping[str, RunStatus], report_dir: str | None) -> str | None:
        """Sends what is left, ends the runs and keeps the report; returns a message if the store cannot be reached."""
        try:
            self._pump()
            with self._pump_lock:
                self._mirror.finish_all(statuses)
                if report_dir is not None:
                    self._mirror.log_report(location(report_dir))
        except TrackingUnavailable as error:
            return str(error)
        return None


def committed_bytes(directory: RunDirectory, plan: Plan) -> dict[str, int]:
    """Committed length of each trial's record file, from the newest commits of all segments."""
    store, lengths = CheckpointStore(directory.checkpoints), dict[str, int]()
    for segment in plan.segments:
        try:
            lengths.update(store.record_bytes(segment.id))
        except CheckpointError as error:
            logger.warning("%s", error)
    return lengths
