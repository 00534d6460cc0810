"""How far each MLflow run has been filled."""

from __future__ import annotations

import json
import time
from threading import Lock

from plasticbench import storage
from plasticbench.storage import Location

_SAVE_EVERY_S = 5.0


class Positions:
    """Bytes sent to each MLflow run: a run that is deleted in MLflow gets its successor filled from the start.

    On disk they are a few seconds behind, as writing thousands of them for each of thousands of trials would take
    longer than sending. What a crash forgets is sent again, which changes nothing.
    """

    def __init__(self, path: Location) -> None:
        self._path, self._changed, self._saved_s = path, False, time.monotonic()
        self._lock = Lock()
        try:
            self._sent: dict[str, int] = json.loads(storage.read(path))
        except (FileNotFoundError, json.JSONDecodeError):
            self._sent = {}  # new, or torn by a power cut

    def __getitem__(self, run: str) -> int:
        return self._sent.get(run, 0)

    def __setitem__(self, run: str, position: int) -> None:
        with self._lock:
            self._sent[run], self._changed = position, True
            if time.monotonic() - self._saved_s > _SAVE_EVERY_S:
                self.save()

    def save(self) -> None:
        """Writes what is not on disk yet."""
        if self._changed:
            storage.write_atomically(self._path, json.dumps(self._sent).encode())
            self._changed, self._saved_s = False, time.monotonic()
