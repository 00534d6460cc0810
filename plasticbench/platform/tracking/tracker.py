"""Keeps MLflow up to date in the background, from committed records alone; knows nothing of Ray, which runs it."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.tracking.mirror import Mirror, RunStatus, TrackingUnavailable, UnreadableRecords
from plasticbench.platform.training.checkpoint import CheckpointError, CheckpointStore
from plasticbench.storage import be_patient, location
from plasticbench.uris import without_secrets

if TYPE_CHECKING:
    from plasticbench.platform.planning.plan import Segment

logger = logging.getLogger(__name__)

_ROUND_S = 10.0
_LONGEST_PAUSE_S = 60.0


class Standing(NamedTuple):
    """``progress`` grows as long as anything new is sent; ``left`` trials have not been ended yet."""

    progress: int
    left: int


class Tracker:
    """Mirrors committed records to MLflow in the background; what it must know after a crash is on disk.

    It works in rounds: what arrives meanwhile waits for the next one, so that a trial which commits every second is
    sent every ten, in one request. While a store is away, all that is kept is one number per trial.
    """

    def __init__(self, run_dir: str, tracking_uri: str | None) -> None:
        directory = RunDirectory(location(run_dir))
        self._mirror = Mirror(directory.path, tracking_uri)
        be_patient()
        self._news = committed_bytes(directory, directory.plan().segments)
        self._lock = threading.Lock()
        self._has_news = threading.Event()
        self._has_news.set()
        self._mirror_lock = threading.RLock()
        threading.Thread(target=self._follow, daemon=True).start()

    def committed(self, record_bytes: Mapping[str, int]) -> None:
        """Takes note of new committed lengths."""
        with self._lock:
            self._news.update(record_bytes)
        self._has_news.set()

    def standing(self) -> Standing:
        """How far it is: a long ``finish`` whose progress stands still is stuck."""
        return Standing(self._mirror.progress, self._mirror.left)

    def _follow(self) -> None:
        failures = 0
        while True:
            self._has_news.wait()
            began, progress = time.monotonic(), self._mirror.progress
            try:
                if self._pump({}):
                    took_s = time.monotonic() - began
                    time.sleep(max(_ROUND_S - took_s, took_s))
                failures = 0
            except Exception as error:  # whatever it is: a mirror that stands still would not be noticed
                logger.warning("%s", _message(error))
                failures = failures + 1 if self._mirror.progress == progress else 1
                time.sleep(min(2.0 ** min(failures, 10) / 2, _LONGEST_PAUSE_S))

    def _pump(self, record_bytes: Mapping[str, int]) -> bool:
        """One round, with lengths that stand above what was heard; returns whether there was any news."""
        with self._mirror_lock:
            with self._lock:
                news, self._news = {**self._news, **record_bytes}, {}
                self._has_news.clear()
            try:
                self._mirror.pump(news)
            except BaseException:
                with self._lock:
                    self._news = news | self._news
                self._has_news.set()
                raise
        return bool(news)

    def finish(
        self,
        record_bytes: Mapping[str, int],
        statuses: Mapping[str, RunStatus],
        report_dir: str | None,
        reasons: Mapping[str, str] | None = None,
    ) -> str | None:
        """Sends what is left, ends the runs and keeps the report; returns a message if not all of it can be done.

        ``record_bytes`` are the lengths at the end: what ``committed`` heard may have come in another order. The
        ``reasons`` say of failed trials why they did.
        """
        steps: list[Callable[[], object]] = [
            lambda: self._pump(record_bytes),
            lambda: self._mirror.finish_all(statuses, reasons or {}),
        ]
        if report_dir is not None:
            steps.append(lambda: self._mirror.log_report(location(report_dir)))
        with self._mirror_lock:
            messages = [self._persist(step) for step in steps]
        return "\n".join(dict.fromkeys(message for message in messages if message)) or None

    def _persist(self, step: Callable[[], object]) -> str | None:
        """Repeats what the store breaks off for as long as it gets further; returns why it did not get to its end."""
        while True:
            progress = self._mirror.progress
            try:
                step()
            except TrackingUnavailable as error:
                if self._mirror.progress == progress:
                    return str(error)
                time.sleep(1)
            except Exception as error:
                return _message(error)
            else:
                return None


def _message(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"the run directory cannot be written: {type(error).__name__}: {error}"
    expected = isinstance(error, TrackingUnavailable | UnreadableRecords)
    if not expected:
        logger.error("unexpected error in the tracker: %s", without_secrets("".join(traceback.format_exception(error))))
    return without_secrets(str(error) if expected else f"{type(error).__name__}: {error}")


def committed_bytes(directory: RunDirectory, segments: Iterable[Segment]) -> dict[str, int]:
    """Committed length of each trial's record file, from the newest commits of these segments, in this order."""
    store, lengths = CheckpointStore(directory.checkpoints), dict[str, int]()
    for segment in segments:
        try:
            lengths.update(store.record_bytes(segment.id))
        except CheckpointError as error:
            logger.warning("%s", error)
    return lengths
