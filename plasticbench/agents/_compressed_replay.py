"""A replay whose frames lie compressed in the host's memory; its batches are those of the raw one, bit for bit.

A block holds consecutive rows of one environment, counted from the first row of all; the newest, which is not whole, is
raw. A commit writes blocks as they are, and forks share those of their past.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plasticbench.agents._blocks import BLOCK_ROWS, compressed, opened, packed, unpacked
from plasticbench.agents._replay import PopulationReplay
from plasticbench.contracts.learner import MemberRows
from plasticbench.contracts.task import EnvSpec


class CompressedReplay(PopulationReplay):
    """Of observations that are bytes. Blocks are kept by number, each of all members and environments ``[M * E]``."""

    _tensors = ("action", "outcome")
    is_compressed = True
    _openers: ThreadPoolExecutor | None = None

    def open_with(self, num_threads: int) -> None:
        """So many threads open the blocks of a batch from now on."""
        self._num_openers = num_threads
        self._openers = ThreadPoolExecutor(num_threads, thread_name_prefix="opener")

    def close(self) -> None:
        """Ends the threads."""
        if self._openers is not None:
            self._openers.shutdown()

    def clear(self) -> None:
        """Forgets all transitions; the next call must be ``begin``."""
        super().clear()
        self._blocks.clear()

    def _take_frames(self, spec: EnvSpec, slots: int) -> None:
        self._frame_shape = spec.frame_shape
        self._blocks: dict[int, tuple[bytes, ...]] = {}
        self._open = np.zeros((self.num_members * self.num_envs, BLOCK_ROWS, *spec.frame_shape), dtype=np.uint8)

    def _write_frame(self, first: int, frame: np.ndarray) -> None:
        self._put(self.rows, frame)
        self._blocks.pop((self.rows - self._num_rows) // BLOCK_ROWS - 1, None)

    def _put(self, row: int, frame: np.ndarray) -> None:
        number, place = divmod(row, BLOCK_ROWS)
        self._open[:, place] = frame.reshape(-1, *self._frame_shape)
        if place == BLOCK_ROWS - 1:
            self._blocks[number] = tuple(map(compressed, self._open))

    def _frames_at(self, slot: np.ndarray) -> Tensor:
        row, env = np.divmod(slot, self.num_envs)
        row = self.rows - 1 - (self.rows - 1 - row) % self._num_rows
        owner = self._members.reshape(-1, *(1,) * (slot.ndim - 1)) * self.num_envs + env
        number, place = np.divmod(row, BLOCK_ROWS)
        block = (number * len(self._open) + owner).ravel()
        order = np.argsort(block, kind="stable")  # each block is opened once
        block, place = block[order], place.ravel()[order]
        starts = np.flatnonzero(np.diff(block, prepend=-1))
        frames = torch.empty(*slot.shape, *self._frame_shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        flat = frames.view(-1, *self._frame_shape).numpy()
        parts = list(zip(block[starts].tolist(), starts.tolist(), [*starts[1:].tolist(), len(block)], strict=True))

        def fill(parts: Sequence[tuple[int, int, int]]) -> None:
            for which, start, stop in parts:
                flat[order[start:stop]] = self._opened(*divmod(which, len(self._open)))[place[start:stop]]

        if self._openers is None:
            fill(parts)
        else:
            list(self._openers.map(fill, [parts[i :: self._num_openers] for i in range(self._num_openers)]))
        return frames.to(self.device, non_blocking=True)

    def _opened(self, number: int, owner: int) -> np.ndarray:
        is_whole = number in self._blocks
        frames: np.ndarray = opened(self._blocks[number][owner], self._frame_shape) if is_whole else self._open[owner]
        return frames

    @property
    def row_bytes(self) -> int:
        """Of what is exported of a row of all members, whose frames take what those of the newest block took."""
        newest = next(reversed(self._blocks.values()), ())
        return super().row_bytes + sum(map(len, newest)) // BLOCK_ROWS

    def export(self, since_row: int, until_row: int | None = None) -> dict[str, Tensor]:
        """Rows ``[max(since_row, oldest_row), until_row)`` as tensors ``[M, ...]``, by default to the last.

        Their frames are all blocks that hold one of them. The last row is still open, as its block may be.
        """
        first_row, until_row = max(since_row, self.oldest_row), self.rows if until_row is None else until_row
        numbers = range(first_row // BLOCK_ROWS, (until_row - 1) // BLOCK_ROWS + 1)
        columns = [self._blocks.get(number) or self._open_block() for number in numbers]
        return super().export(since_row, until_row) | packed(columns, self.num_members, self.num_envs)

    def _open_block(self) -> tuple[bytes, ...]:
        return tuple(map(compressed, self._open[:, : self.rows % BLOCK_ROWS]))

    def restore(self, meta: dict[str, Any], chunks: Iterable[tuple[int, MemberRows]], parents: Sequence[int]) -> None:
        """Loads chunks (first row, tensors in this population's order) in order of export.

        Member i goes on as the saved member ``parents[i]``.
        """
        super().restore(meta, chunks, parents)
        self._reopen(self.rows // BLOCK_ROWS)

    def _restore_frames(self, first_row: int, chunk: MemberRows) -> None:
        oldest = self.oldest_row // BLOCK_ROWS
        if "frames" not in chunk:
            for number, column in enumerate(unpacked(chunk, self.num_envs), first_row // BLOCK_ROWS):
                if number >= oldest:
                    self._blocks[number] = column
            return
        self._reopen(first_row // BLOCK_ROWS)
        of_members = [frames.numpy().reshape(-1, self.num_envs, *self._frame_shape) for frames in chunk["frames"]]
        for row in range(max(first_row, self.oldest_row), first_row + len(of_members[0])):
            self._put(row, np.stack([frames[row - first_row] for frames in of_members]))

    def _reopen(self, number: int) -> None:
        """Makes a block that is not whole, or begins another chunk, the one that is written to."""
        for owner, block in enumerate(self._blocks.pop(number, ())):
            frames = opened(block, self._frame_shape)
            self._open[owner, : len(frames)] = frames
