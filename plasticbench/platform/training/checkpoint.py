"""Atomic commits of one segment: tensors, plain data, replay chunks and the length of each record file.

A commit is a manifest ``commit-<n>.json`` that names its files, their lengths and their checksums; it is written by one
atomic step, after them. Replay chunks are written once and shared by later commits and by the branches that fork from a
segment. Nothing is pickled.
"""

from __future__ import annotations

import json
import logging
import re
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from plasticbench import storage
from plasticbench.platform.training.journal import (
    StoredActions,
    load_actions,
    remove_actions,
    require_actions,
)
from plasticbench.storage import Location
from plasticbench.tensor_files import tensor_pieces, tensors_in

if TYPE_CHECKING:  # whoever only asks how far a segment is does not wait for PyTorch
    import mmap

    import numpy as np
    from torch import Tensor

logger = logging.getLogger(__name__)

CHECKPOINT_FORMAT = 1
_KEPT_COMMITS = 2
_CLEANED, _TENSORS = "cleaned", ".safetensors"
_MANIFEST = re.compile(r"commit-(\d+)\.json")


class CheckpointError(RuntimeError):
    """A checkpoint is missing or damaged, or cannot be written; the message names the file."""


class StorageError(CheckpointError):
    """A commit could not be written; the one before is intact, and storage that comes back lets the run go on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFile:
    """A file below the checkpoints folder, with the CRC-32 and the number of its bytes."""

    path: str
    crc32: int
    num_bytes: int | None = None  # not in the manifests of version 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayChunk:
    """Consecutive replay rows; member i of this population is the file's member ``parents[i]``."""

    file: StoredFile
    first_row: int
    num_rows: int
    parents: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """Everything about one commit but the tensors themselves.

    ``record_bytes`` maps trial ids to lengths of record files, ``record_crc32`` to the CRC-32 of that many bytes.
    """

    segment: str
    number: int
    step: int
    complete: bool
    record_bytes: dict[str, int]
    plain: dict[str, Any]
    tensors: StoredFile
    chunks: tuple[ReplayChunk, ...]
    format: int = CHECKPOINT_FORMAT
    record_crc32: dict[str, int] = field(default_factory=dict)  # not in the manifests of version 0.1
    actions: StoredActions | None = None

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """All files of tensors that it needs."""
        return (self.tensors, *(chunk.file for chunk in self.chunks))

    def inherited_chunks(self, parents: Sequence[int]) -> tuple[ReplayChunk, ...]:
        """The replay of a population whose member i continues this one's member ``parents[i]``."""
        return tuple(
            replace(chunk, parents=tuple(chunk.parents[parent] for parent in parents)) for chunk in self.chunks
        )


class CheckpointStore:
    """Commits of all segments below one folder."""

    def __init__(self, folder: Location) -> None:
        self.folder = folder

    def save_tensors(self, segment: str, name: str, tensors: Mapping[str, Tensor]) -> StoredFile:
        """Writes tensors to ``<segment>/<name>.safetensors`` and returns what a manifest needs to know."""
        path, crc32, num_bytes = f"{segment}/{name}{_TENSORS}", 0, 0

        def pieces() -> Iterator[bytes | memoryview]:
            nonlocal crc32, num_bytes
            for piece in tensor_pieces(tensors):
                crc32, num_bytes = zlib.crc32(piece, crc32), num_bytes + len(piece)
                yield piece

        storage.write_pieces(self.folder / path, pieces(), sum(tensor.nbytes for tensor in tensors.values()))
        return StoredFile(path=path, crc32=crc32, num_bytes=num_bytes)

    def load_tensors(self, file: StoredFile) -> dict[str, Tensor]:
        """Reads tensors back. Raises ``CheckpointError`` for a missing, truncated or altered file, else ``OSError``."""
        try:
            return tensors_in(self._sound_bytes(file))
        except ValueError as error:
            raise CheckpointError(f"{self.folder / file.path}: not a safetensors file: {error}") from error

    def _sound_bytes(self, file: StoredFile) -> mmap.mmap | bytes:
        path = self.folder / file.path
        try:
            data, crc32 = storage.checked(path)
        except FileNotFoundError as error:
            raise CheckpointError(f"{path}: missing") from error
        if crc32 != file.crc32:
            raise CheckpointError(f"{path}: damaged: its checksum differs from the one in its manifest")
        return data

    def load_chunks(self, chunks: Sequence[ReplayChunk]) -> Iterator[tuple[ReplayChunk, dict[str, Tensor]]]:
        """The tensors of replay chunks, one at a time."""
        for chunk in chunks:
            yield chunk, self.load_tensors(chunk.file)

    def save(self, commit: Commit) -> None:
        """Makes the commit the segment's newest, then drops what only older ones needed."""
        path = self._manifest(commit.segment, commit.number)
        storage.write_atomically(path, json.dumps(asdict(commit), separators=(",", ":")).encode())
        self._drop_old(commit.segment)

    def load_actions(self, commit: Commit) -> np.ndarray | None:
        """Past actions of the environments ``[T, N, ...]``, where a commit has them in a file of their own."""
        if commit.actions is None:
            return None
        with _damage():
            return load_actions(self.folder, commit.actions)

    def latest(self, segment: str, use: Callable[[Commit], None] | None = None) -> Commit | None:
        """The newest sound commit, or ``None`` if the segment never committed.

        A commit is sound if its manifest is and ``use`` raises no ``CheckpointError``; without it, if all files are
        there. A damaged commit is passed over with a warning. Raises ``CheckpointError`` if commits exist but none is
        sound, and ``OSError`` for storage that cannot be read now, which says nothing of what it holds.
        """
        problems: list[str] = []
        for number in reversed(_numbers(storage.entries(self.folder / segment))):
            try:
                commit = self._read(segment, number)
                (use or self.require_files)(commit)
            except CheckpointError as error:
                problems.append(str(error))
                logger.warning("%s; falling back to the commit before", error)
            else:
                return commit
        if problems:
            raise CheckpointError(
                f"segment {segment}: no sound checkpoint is left ({'; '.join(problems)}). Remove the folder "
                f"{self.folder / segment}, and those of the segments that go on from it, to train them again"
            )
        return None

    def completed(self, segment: str) -> Commit | None:
        """The newest manifest if it is that of a complete segment, whatever became of its files."""
        commit = self.newest(segment)
        return commit if commit is not None and commit.complete else None

    def newest(self, segment: str) -> Commit | None:
        """The newest manifest, whatever became of its files; ``None`` if there is none, or it cannot be read."""
        numbers = _numbers(storage.entries(self.folder / segment))
        try:
            return self._read(segment, numbers[-1]) if numbers else None
        except CheckpointError:
            return None  # `latest` tells

    def commits(self, segment: str) -> list[Commit]:
        """All commits whose manifests can be read, the newest first, whatever became of their files."""
        found = []
        for number in reversed(_numbers(storage.entries(self.folder / segment))):
            with suppress(CheckpointError):  # `latest` tells
                found.append(self._read(segment, number))
        return found

    def forget(self, segment: str, newest_kept: int) -> None:
        """Removes the commits after the one with the number ``newest_kept``; -1 removes all."""
        for number in reversed(_numbers(storage.entries(self.folder / segment))):
            if number > newest_kept:
                storage.remove(self._manifest(segment, number))

    def clean(self, segment: str) -> None:
        """Removes the tensors of a complete segment; its manifests still say that it is, and what its records are."""
        storage.write_atomically(self.folder / segment / _CLEANED, b"")  # first, or it would be trained again
        names = storage.entries(self.folder / segment)
        for name in names:
            if name.endswith(_TENSORS):
                storage.remove(self.folder / segment / name)
        remove_actions(self.folder, segment, names)

    def is_cleaned(self, segment: str) -> bool:
        """Whether its tensors were removed on purpose."""
        return (self.folder / segment / _CLEANED).exists()

    def record_bytes(self, segment: str) -> dict[str, int]:
        """Committed lengths of the segment's record files, empty before its first commit."""
        commit = self.completed(segment) if self.is_cleaned(segment) else self.latest(segment)
        return commit.record_bytes if commit else {}

    def newest_number(self, segment: str) -> int | None:
        """The number of the segment's newest commit, sound or not; it grows with every commit."""
        return max(_numbers(storage.entries(self.folder / segment)), default=None)

    def claim(self, segment: str) -> str:
        """Makes the caller the only one that may commit to the segment; returns what ``require_claim`` asks for."""
        claim = uuid.uuid4().hex
        storage.remove(self.folder / segment / _CLEANED)
        storage.write_atomically(self._owner(segment), claim.encode())
        return claim

    def require_claim(self, segment: str, claim: str) -> None:
        """Raises ``CheckpointError`` if the segment was started again since ``claim``.

        A start between this look and the writes that follow it goes unnoticed until the next commit. On a disk the
        newer start then overwrites those records, and its own manifest replaces the older one's; only a process that
        slept for minutes right here could still mix them.
        """
        path = self._owner(segment)
        try:
            owner = storage.read(path).decode()
        except FileNotFoundError:
            owner = ""
        if owner != claim:
            raise CheckpointError(
                f"{path}: segment {segment} was started again elsewhere, so this process must not commit to it"
            )

    def _owner(self, segment: str) -> Location:
        return self.folder / segment / "owner"

    def verify_end(self, commit: Commit) -> None:
        """Reads all that a complete commit names. Raises ``CheckpointError`` for a damaged file."""
        if commit.complete:
            for file in commit.files:
                self._sound_bytes(file)
            self.load_actions(commit)

    def require_files(self, commit: Commit) -> None:
        """Raises ``CheckpointError`` for a file that is missing or too short; reads none."""
        sizes = cache(lambda segment: storage.entries(self.folder / segment))
        for file in commit.files:
            folder, _, name = file.path.rpartition("/")
            found = sizes(folder).get(name)
            if found is None:
                raise CheckpointError(f"{self.folder / file.path}: missing")
            if file.num_bytes not in (found, None):
                raise CheckpointError(f"{self.folder / file.path}: has {found} bytes instead of {file.num_bytes}")
        if commit.actions is not None:
            with _damage():
                require_actions(self.folder, commit.actions)

    def _manifest(self, segment: str, number: int) -> Location:
        return self.folder / segment / f"commit-{number:08d}.json"

    def _read(self, segment: str, number: int) -> Commit:
        path = self._manifest(segment, number)
        try:
            data = json.loads(storage.read(path))
            if data["format"] != CHECKPOINT_FORMAT:
                raise CheckpointError(f"{path}: has format {data['format']}, this version reads {CHECKPOINT_FORMAT}")
            chunks = [
                ReplayChunk(**{**chunk, "file": StoredFile(**chunk["file"]), "parents": tuple(chunk["parents"])})
                for chunk in data["chunks"]
            ]
            actions = StoredActions.from_json(data.get("actions"))
            tensors = StoredFile(**data["tensors"])
            return Commit(**{**data, "tensors": tensors, "chunks": tuple(chunks), "actions": actions})
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: not a sound manifest: {error!r}") from error

    def _drop_old(self, segment: str) -> None:
        names = storage.entries(self.folder / segment)
        numbers = _numbers(names)
        kept = [self._read(segment, number) for number in numbers[-_KEPT_COMMITS:]]
        needed = {file.path for commit in kept for file in commit.files}
        for number in numbers[:-_KEPT_COMMITS]:
            storage.remove(self._manifest(segment, number))
        for name in names:
            if name.endswith(_TENSORS) and f"{segment}/{name}" not in needed:
                storage.remove(self.folder / segment / name)
        journals = [commit.actions.path for commit in kept if commit.actions is not None]
        remove_actions(self.folder, segment, names, journals)


@contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, ValueError) as error:
        raise CheckpointError(str(error)) from error


def _numbers(names: Iterable[str]) -> list[int]:
    return sorted(int(match[1]) for match in map(_MANIFEST.fullmatch, names) if match)
