"""Atomic commits of one segment: tensors, plain data, replay chunks and the length of each record file.

A commit is a manifest ``commit-<n>.json`` that names its files and their checksums; renaming it into place commits it.
Replay chunks are written once and shared by later commits and by the branches that fork from a segment. Nothing is
pickled.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

logger = logging.getLogger(__name__)

CHECKPOINT_FORMAT = 1
_KEPT_COMMITS = 2


class CheckpointError(RuntimeError):
    """A checkpoint is missing or damaged; the message names the file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFile:
    """A file below the checkpoints folder, with the CRC-32 of its bytes."""

    path: str
    crc32: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayChunk:
    """Consecutive replay rows; member i of this population is the file's member ``parents[i]``."""

    file: StoredFile
    first_row: int
    num_rows: int
    parents: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """Everything about one commit but the tensors themselves. ``record_bytes`` maps trial ids to file lengths."""

    segment: str
    number: int
    step: int
    complete: bool
    record_bytes: dict[str, int]
    plain: dict[str, Any]
    tensors: StoredFile
    chunks: tuple[ReplayChunk, ...]
    format: int = CHECKPOINT_FORMAT

    def inherited_chunks(self, parents: Sequence[int]) -> tuple[ReplayChunk, ...]:
        """The replay of a population whose member i continues this one's member ``parents[i]``."""
        return tuple(
            replace(chunk, parents=tuple(chunk.parents[parent] for parent in parents)) for chunk in self.chunks
        )


class CheckpointStore:
    """Commits of all segments below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save_tensors(self, segment: str, name: str, tensors: Mapping[str, Tensor]) -> StoredFile:
        """Writes tensors to ``<segment>/<name>.safetensors`` and returns what a manifest needs to know."""
        data = safetensors.torch.save({key: tensor.contiguous() for key, tensor in tensors.items()})
        path = self.folder / segment / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_atomically(path, data)
        return StoredFile(path=f"{segment}/{path.name}", crc32=zlib.crc32(data))

    def load_tensors(self, file: StoredFile) -> dict[str, Tensor]:
        """Reads tensors back. Raises ``CheckpointError`` for a missing, truncated or altered file."""
        path = self.folder / file.path
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error}") from error
        if zlib.crc32(data) != file.crc32:
            raise CheckpointError(f"{path}: damaged: its checksum differs from the one in its manifest")
        try:
            loaded: dict[str, Tensor] = safetensors.torch.load(data)
        except safetensors.SafetensorError as error:
            raise CheckpointError(f"{path}: not a safetensors file: {error}") from error
        return loaded

    def load_chunks(self, chunks: Sequence[ReplayChunk]) -> Iterator[tuple[ReplayChunk, dict[str, Tensor]]]:
        """The tensors of replay chunks, one at a time."""
        for chunk in chunks:
            yield chunk, self.load_tensors(chunk.file)

    def save(self, commit: Commit) -> None:
        """Makes the commit the segment's newest, then drops what only older ones needed."""
        path = self._manifest(commit.segment, commit.number)
        _write_atomically(path, json.dumps(asdict(commit), separators=(",", ":")).encode())
        self._drop_old(commit.segment)

    def latest(self, segment: str) -> Commit | None:
        """The newest sound commit, or ``None`` if the segment never committed.

        A damaged commit is passed over with a warning. Raises ``CheckpointError`` if commits exist but none is sound.
        """
        numbers = self._numbers(segment)
        problems: list[str] = []
        for number in reversed(numbers):
            try:
                commit = self._read(segment, number)
                self.load_tensors(commit.tensors)
            except CheckpointError as error:
                problems.append(str(error))
                logger.warning("%s; falling back to the commit before", error)
            else:
                return commit
        if problems:
            raise CheckpointError(
                f"segment {segment}: no sound checkpoint is left ({'; '.join(problems)}). Remove the folder "
                f"{self.folder / segment} to train this segment again from its start"
            )
        return None

    def record_bytes(self, segment: str) -> dict[str, int]:
        """Committed lengths of the segment's record files, empty before its first commit."""
        numbers = self._numbers(segment)
        return self._read(segment, numbers[-1]).record_bytes if numbers else {}

    def newest_number(self, segment: str) -> int | None:
        """The number of the segment's newest commit, sound or not; it grows with every commit."""
        return max(self._numbers(segment), default=None)

    def _numbers(self, segment: str) -> list[int]:
        return sorted(int(path.stem.removeprefix("commit-")) for path in (self.folder / segment).glob("commit-*.json"))

    def _manifest(self, segment: str, number: int) -> Path:
        return self.folder / segment / f"commit-{number:08d}.json"

    def _read(self, segment: str, number: int) -> Commit:
        path = self._manifest(segment, number)
        try:
            data = json.loads(path.read_bytes())
            if data["format"] != CHECKPOINT_FORMAT:
                raise CheckpointError(f"{path}: has format {data['format']}, this version reads {CHECKPOINT_FORMAT}")
            chunks = [
                ReplayChunk(**{**chunk, "file": StoredFile(**chunk["file"]), "parents": tuple(chunk["parents"])})
                for chunk in data["chunks"]
            ]
            return Commit(**{**data, "tensors": StoredFile(**data["tensors"]), "chunks": tuple(chunks)})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: not a sound manifest: {error!r}") from error

    def _drop_old(self, segment: str) -> None:
        numbers = self._numbers(segment)
        kept = [self._read(segment, number) for number in numbers[-_KEPT_COMMITS:]]
        needed = {commit.tensors.path for commit in kept} | {c.file.path for commit in kept for c in commit.chunks}
        for number in numbers[:-_KEPT_COMMITS]:
            self._manifest(segment, number).unlink()
        for path in (self.folder / segment).glob("*.safetensors"):
            if f"{segment}/{path.name}" not in needed:
                path.unlink()


def _write_atomically(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".new")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
