"""Remembers that a finished run is reported and that a store has all of it, so that nobody asks the store again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from plasticbench import __version__, storage
from plasticbench.storage import Location

_REPORT = {"index.html", "leaderboard.json", "leaderboard.md"}


def remember(run_dir: Location, tracking_uri: str | None, record_bytes: Mapping[str, int]) -> None:
    """Notes it beside what the mirror knows of the store; ``record_bytes`` are the lengths of the records."""
    storage.write_atomically(_note(run_dir, tracking_uri), json.dumps(_ending(record_bytes)).encode())


def is_known(run_dir: Location, tracking_uri: str | None, record_bytes: Mapping[str, int]) -> bool:
    """Whether these very records were reported by this version and sent to this store, and both are still there.

    What was deleted inside a store is not seen: ``plasticbench report DIR --tracking-uri URI`` sends it again.
    """
    try:
        known = json.loads(storage.read(_note(run_dir, tracking_uri)))
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    is_reported = storage.entries(run_dir / "report").keys() >= _REPORT
    has_store = tracking_uri is not None or (isinstance(run_dir, Path) and (run_dir / "mlflow.db").exists())
    return bool(known == _ending(record_bytes) and is_reported and has_store)


def _ending(record_bytes: Mapping[str, int]) -> dict[str, str]:
    lengths = json.dumps(sorted(record_bytes.items())).encode()
    return {"version": __version__, "record_bytes_sha256": hashlib.sha256(lengths).hexdigest()}


def _note(run_dir: Location, tracking_uri: str | None) -> Location:
    store = hashlib.sha256((tracking_uri or "").encode()).hexdigest()[:16]
    return run_dir / "mirror" / f"{store}-ending.json"
