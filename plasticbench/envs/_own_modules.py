"""Modules that people bring: they are found beside the benchmark file or in the current folder, and travel to workers.

Those folders stand at the end of the import path while such a module is imported, and at no other time. What it imports
from them in turn is taken along; packages that are installed are not.
"""

from __future__ import annotations

import ast
import atexit
import fcntl
import importlib
import io
import os
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

_folders: list[Path] = []
_brought: dict[str, tuple[Path, tuple[Path, ...]]] = {}  # top-level name -> its file or folder, and what was searched
_named: set[str] = set()  # top-level names that benchmark files of this process have named
_SKIPPED = ("__pycache__", ".")
_PREFIX = "plasticbench-modules-"
_YOUNG_S = 60.0
_ALWAYS = (1980, 1, 1, 0, 0, 0)  # so that the same files make the same archive


@contextmanager
def searching(folders: Iterable[Path]) -> Iterator[None]:
    """Inside, ``on_path`` has these folders."""
    before = list(_folders)
    _folders[:] = dict.fromkeys(folder.resolve() for folder in folders)
    try:
        yield
    finally:
        _folders[:] = before


def folders() -> tuple[Path, ...]:
    """Where modules are looked for besides the import path."""
    return tuple(_folders)


@contextmanager
def on_path() -> Iterator[None]:
    """Inside, what lies in the folders can be imported, after everything on the import path; what was is remembered."""
    before, added = set(sys.modules), [str(folder) for folder in _folders]
    sys.path.extend(added)
    try:
        yield
    finally:
        for folder in filter(
            sys.path.__contains__, added
        ):  # one by one and from the end, as what was imported may have changed the path as well
            del sys.path[-1 - sys.path[::-1].index(folder)]
        for name in {loaded.partition(".")[0] for loaded in sys.modules.keys() - before}:
            _remember(name)


def import_module(name: str) -> None:
    """Imports a module that a benchmark file names. Raises whatever its import raises."""
    if name not in sys.modules:
        importlib.invalidate_caches()
        with on_path():
            importlib.import_module(name)
    _named.add(_top(name))
    _remember(_top(name))


def _remember(name: str) -> None:
    """Notes a module that lies in one of the folders itself, be it on the import path as well or not."""
    module = sys.modules.get(name)
    places = [*getattr(module, "__path__", []), getattr(module, "__file__", None)]
    if name != "plasticbench" and places[0] is not None and (place := Path(places[0]).resolve()).parent in _folders:
        _brought[name] = place, folders()


def archive(names: Sequence[str]) -> bytes:
    """A zip file with these modules, and with the brought ones that they import; empty where none is brought.

    What only other benchmark files of this process asked for is left out. All else goes along, since an environment may
    import what its text does not name.
    """
    own = {_top(name) for name in names}
    searched = {folder for name in own & _brought.keys() for folder in _brought[name][1]}
    if not searched:
        return b""
    others = _reached(_named - own) - _reached(own)
    found = {name: place for name, (place, _) in _brought.items() if place.parent in searched and name not in others}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for _, place in sorted(found.items()):
            for path in _files(place):
                info = zipfile.ZipInfo(path.relative_to(place.parent).as_posix(), _ALWAYS)
                file.writestr(info, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _reached(names: set[str]) -> set[str]:
    """Those of the names that are brought, and all brought modules that their texts import in turn."""
    reached, waiting = set[str](), list(names)
    while waiting:
        if (name := waiting.pop()) in _brought and name not in reached:
            reached.add(name)
            for path in _files(_brought[name][0]):
                waiting += _imports(path) if path.suffix == ".py" else ()
    return reached


def _imports(path: Path) -> Iterator[str]:
    """Top-level names of what a text imports; nothing of one that is no Python any more."""
    with suppress(SyntaxError, ValueError):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                yield from (_top(one.name) for one in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield _top(node.module)


def _top(name: str) -> str:
    return name.partition(".")[0]


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    inside = [path for path in place.rglob("*") if path.is_file()]
    return sorted(p for p in inside if not any(part.startswith(_SKIPPED) for part in p.relative_to(place).parts))


@cache
def open_archive(data: bytes) -> None:
    """From now on ``on_path`` has what an ``archive`` holds, in a temporary folder.

    This process removes it at its end; if it is killed, the next process that opens an archive does.
    """
    _remove_abandoned()
    folder = tempfile.mkdtemp(prefix=_PREFIX)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_SH)  # for as long as this process lives
    unpack(data, Path(folder))
    _folders.append(Path(folder).resolve())


def _remove_abandoned() -> None:
    """Removes folders whose process lives no more. The youngest are left: theirs may not hold it yet."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it is in use, another user's, or was removed meanwhile
            if time.time() - folder.stat().st_mtime > _YOUNG_S:
                descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder)
                finally:
                    os.close(descriptor)


def unpack(data: bytes, folder: Path) -> None:
    """Writes the files of an ``archive`` into a folder."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        file.extractall(folder)
