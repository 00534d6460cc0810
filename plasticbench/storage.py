"""Where a run directory lies: in a local folder, or in an object store that fsspec reaches by URI (s3://, gs://, ...).

Every file is written whole by one atomic step, so that it can be done on an object store as well as on a disk.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from upath import UPath

from plasticbench.extras import install_command
from plasticbench.uris import shown, without_secrets

Location = Path | UPath
"""A ``pathlib.Path`` for whatever the operating system mounts, NFS included; a ``UPath`` in an object store."""

logger = logging.getLogger(__name__)

_FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
"""Answers: no time changes them."""
_LONGEST_PAUSE_S = 5.0
_PIECE_BYTES = 1 << 20
_patience_s = 0.0

_EXTRAS: dict[str, Literal["s3", "gcs"]] = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


class StorageAway(OSError):
    """An object store did not answer for all the time that ``be_patient`` allows."""


def location(text: str | Location) -> Location:
    """A local path, or a URI such as ``s3://bucket/folder``, as a path; reaches for nothing yet.

    Raises ``ValueError`` for a kind of storage that is unknown or whose driver is not installed.
    """
    if not isinstance(text, str):
        return text
    scheme, separator, rest = text.partition("://")
    if not separator or scheme == "file":
        return Path(rest if separator else text)
    try:
        path = UPath(text, use_listings_cache=False)  # others write there too: a listing must never be remembered
        path.fs  # noqa: B018 (loads the driver)
    except ImportError as error:
        extra = _EXTRAS.get(scheme)
        advice = install_command(extra) if extra else str(error)
        raise ValueError(f"{shown(text)}: the driver for {scheme}:// is not installed: {advice}") from error
    except ValueError as error:
        raise ValueError(
            f"{shown(text)}: there is no storage called {scheme}://. Give a local path, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER"
        ) from error
    return path


def connect(text: str | Location) -> Location:
    """Like ``location``, and raises ``OSError`` within a minute if the object store does not answer."""
    path = location(text)
    if isinstance(path, UPath):
        entries(path)
    return path


def read(path: Location, start: int = 0, end: int | None = None) -> bytes:
    """The bytes ``[start, end)`` of a file, which must reach beyond ``start``. Raises ``OSError``."""
    if isinstance(path, Path):
        with open(path, "rb") as file:
            file.seek(start)
            return file.read() if end is None else file.read(max(0, end - start))
    data: bytes = _answer(path, lambda: path.fs.cat_file(path.path, start=start or None, end=end))
    return data


def checked(path: Location) -> tuple[mmap.mmap | bytes, int]:
    """The bytes of a file and their CRC-32; a file on a disk is mapped, which takes no memory of its own.

    What is written to them changes no file. Raises ``OSError``.
    """
    if not isinstance(path, Path):
        data = read(path)
        return data, zlib.crc32(data)
    with open(path, "rb", buffering=0) as file:
        crc32, piece = 0, memoryview(bytearray(_PIECE_BYTES))
        while count := file.readinto(piece):  # raises what in a map would end the process
            crc32 = zlib.crc32(piece[:count], crc32)
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) if file.tell() else b"", crc32


def entries(folder: Location) -> dict[str, int]:
    """Names in a folder with their sizes in bytes; empty where there is no such folder. Raises ``OSError``."""
    sizes = {}
    try:
        if isinstance(folder, Path):
            for name in os.listdir(folder):
                with _may_be_gone():
                    sizes[name] = (folder / name).stat().st_size
        else:
            for entry in _answer(folder, lambda: folder.fs.ls(folder.path, detail=True)):
                sizes[entry["name"].rstrip("/").rpartition("/")[2]] = int(entry["size"] or 0)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return sizes


class FileFacts(NamedTuple):
    """Bytes, and when it was changed, in seconds since the epoch; 0 where the store does not say."""

    size: int
    changed_s: float


def tree(folder: Location) -> dict[str, FileFacts]:
    """All files below a folder, by their relative paths; empty where there is no such folder. Raises ``OSError``."""
    if isinstance(folder, Path):
        found = {}
        for parent, _, names in os.walk(folder):
            for name in names:
                with _may_be_gone():
                    facts = os.stat(os.path.join(parent, name), follow_symlinks=False)
                    path = os.path.relpath(os.path.join(parent, name), folder)
                    found[path] = FileFacts(facts.st_size, facts.st_mtime)
        return found
    try:
        listed = _answer(folder, lambda: folder.fs.find(folder.path, detail=True))
    except FileNotFoundError:
        return {}
    start = len(folder.fs._strip_protocol(folder.path).rstrip("/")) + 1
    return {name[start:]: FileFacts(int(entry["size"] or 0), _changed_s(entry)) for name, entry in listed.items()}


def _changed_s(entry: Mapping[str, Any]) -> float:
    changed = entry.get("LastModified") or entry.get("mtime") or entry.get("created") or 0.0
    return float(changed.timestamp() if hasattr(changed, "timestamp") else changed)


def write_atomically(path: Location, data: bytes) -> None:
    """Writes a file durably: whoever reads it, now or after a power cut, finds all of it or what was there before.

    Raises ``OSError``.
    """
    if isinstance(path, UPath):
        _answer(path, lambda: path.fs.pipe_file(path.path, data))
        return
    write_together({path: data})


def write_pieces(path: Location, pieces: Iterable[bytes | memoryview], num_bytes: int) -> None:
    """The same of about ``num_bytes`` that a disk is given piece by piece. Raises ``OSError``."""
    if isinstance(path, UPath):
        write_atomically(path, b"".join(pieces))
        return
    draft = path.with_name(path.name + ".new")
    try:
        _write_draft(draft, pieces)
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise lacking(error, path, num_bytes) from None
    _sync_folder(path.parent)


def write_together(files: Mapping[Location, bytes]) -> None:
    """Writes files of one folder durably, each whole; on a disk that is full or broken none of them is written.

    In an object store one after the other. Raises ``OSError``.
    """
    local = {path: data for path, data in files.items() if isinstance(path, Path)}
    for path, data in files.items():
        if path not in local:
            write_atomically(path, data)
    drafts = {path.with_name(path.name + ".new"): path for path in local}
    try:
        for draft, path in drafts.items():
            _write_draft(draft, (local[path],))
        for draft, path in drafts.items():
            os.replace(draft, path)
    except OSError as error:
        for draft in drafts:
            draft.unlink(missing_ok=True)  # on a full disk they would take the room that is left
        raise lacking(error, next(iter(local)), sum(map(len, local.values()))) from None
    for folder in {path.parent for path in local}:
        _sync_folder(folder)


def lacking(error: OSError, path: Path, num_bytes: int) -> OSError:
    """The same error, which of a full disk says how much of ``num_bytes`` does not fit where ``path`` is written."""
    if error.errno != errno.ENOSPC:
        return error
    free_bytes = shutil.disk_usage(path.parent).free
    missing, needed, free = (f"{size / 2**20:,.1f} MiB" for size in (num_bytes - free_bytes, num_bytes, free_bytes))
    said = f"at least {missing} are missing: this file takes {needed}, and {free} are free"
    return OSError(error.errno, f"{error.strerror}; {said}" if num_bytes > free_bytes else error.strerror, str(path))


def _write_draft(draft: Path, pieces: Iterable[bytes | memoryview]) -> None:
    draft.parent.mkdir(parents=True, exist_ok=True)
    with open(draft, "wb") as file:
        file.writelines(pieces)
        file.flush()
        os.fsync(file.fileno())


def create(path: UPath, data: bytes) -> None:
    """Writes an object that is not there yet. Raises ``FileExistsError`` where it is, ``OSError`` for anything else.

    Of several that try at once one succeeds, where the store can hold that: S3, GCS and memory can.
    """
    with _os_errors(path):
        path.fs.pipe_file(path.path, data, mode="create")


def remove(path: Location) -> None:
    """Deletes a file, if it is there. Raises ``OSError``."""
    with _may_be_gone():
        if isinstance(path, Path):
            path.unlink()
        else:
            _answer(path, lambda: path.fs.rm_file(path.path))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def be_patient(seconds: float = 300.0) -> float:
    """From now on this process waits so long for an object store that is away, and says so in its log.

    Until then a store that does not answer is an error at once: most likely its name is wrong. Returns how long was
    waited before.
    """
    global _patience_s
    before, _patience_s = _patience_s, seconds
    return before


def _answer(path: UPath, call: Callable[[], Any]) -> Any:
    """What an object store answers, be it after a while."""
    began, pause_s = time.monotonic(), 0.5
    while True:
        try:
            with _os_errors(path):
                answer = call()
        except _FINAL:
            raise
        except OSError as error:
            waited_s = time.monotonic() - began
            if not _patience_s:
                raise
            if waited_s >= _patience_s:
                raise StorageAway(f"{error} (for {waited_s:.0f} s)") from error
            if pause_s == 0.5:
                logger.warning("%s. The storage is away, and is waited for, up to %g s", error, _patience_s)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        else:
            if pause_s > 0.5:
                logger.warning("%s: the storage answers again", path)
            return answer


@contextmanager
def _may_be_gone() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        return  # somebody else was faster


@contextmanager
def _os_errors(path: UPath) -> Iterator[None]:
    """Drivers raise errors of their libraries, for bad credentials or a dead server; callers know ``OSError``."""
    try:
        yield
    except OSError as error:
        kind = next(kind for kind in type(error).__mro__ if kind.__module__ == "builtins")  # drivers' own take more
        raise kind(_said(path, str(error))) from error
    except Exception as error:
        raise OSError(_said(path, f"{type(error).__name__}: {error}")) from error


def _said(path: UPath, reason: str) -> str:
    return without_secrets(f"{path}: {reason}", str(path))
