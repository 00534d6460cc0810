"""Where a run directory lies: in a local folder, or in an object store that fsspec reaches by URI (s3://, gs://, ...).

Every file is written whole by one atomic step, so that it can be done on an object store as well as on a disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from upath import UPath

from plasticbench.extras import install_command
from plasticbench.uris import shown, without_secrets

Location = Path | UPath
"""A ``pathlib.Path`` for whatever the operating system mounts, NFS included; a ``UPath`` in an object store."""

_EXTRAS: dict[str, Literal["s3", "gcs"]] = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


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
    with _os_errors(path):
        data: bytes = path.fs.cat_file(path.path, start=start or None, end=end)
        return data


def entries(folder: Location) -> dict[str, int]:
    """Names in a folder with their sizes in bytes; empty where there is no such folder. Raises ``OSError``."""
    sizes = {}
    try:
        if isinstance(folder, Path):
            for name in os.listdir(folder):
                with _may_be_gone():
                    sizes[name] = (folder / name).stat().st_size
        else:
            with _os_errors(folder):
                for entry in folder.fs.ls(folder.path, detail=True):
                    sizes[entry["name"].rstrip("/").rpartition("/")[2]] = int(entry["size"] or 0)
    except FileNotFoundError:
        return {}
    return sizes


def write_atomically(path: Location, data: bytes) -> None:
    """Writes a file durably: whoever reads it, now or after a power cut, finds all of it or what was there before.

    Raises ``OSError``.
    """
    if isinstance(path, UPath):
        with _os_errors(path):
            path.fs.pipe_file(path.path, data)
        return
    write_together({path: data})


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
            _write_draft(draft, local[path])
        for draft, path in drafts.items():
            os.replace(draft, path)
    except OSError:
        for draft in drafts:
            draft.unlink(missing_ok=True)  # on a full disk they would take the room that is left
        raise
    for folder in {path.parent for path in local}:
        _sync_folder(folder)


def _write_draft(draft: Path, data: bytes) -> None:
    draft.parent.mkdir(parents=True, exist_ok=True)
    with open(draft, "wb") as file:
        file.write(data)
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
            with _os_errors(path):
                path.fs.rm_file(path.path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
