"""Frames of pictures, compressed in blocks of consecutive rows of one environment.

The codec is LZ4 with its thorough compressor: `python -m benchmarks.replay_store` compares it with others. Nothing else
imports it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import lz4.block
import numpy as np
import torch
from torch import Tensor

from plasticbench.contracts.learner import MemberRows

BLOCK_ROWS = 16
"""More rows compress further and take longer to open: each row of a batch opens one or two blocks."""

_LEVEL = 3  # of the thorough compressor: 9 takes seven times as long and saves a tenth
_PREFIX = "frames/"
_DATA, _SIZES = f"{_PREFIX}lz4", f"{_PREFIX}num_bytes"


def compressed(frames: np.ndarray) -> bytes:
    """Frames ``[rows, *frame_shape]`` of one environment as a block that knows its own length."""
    block: bytes = lz4.block.compress(np.ascontiguousarray(frames).data, mode="high_compression", compression=_LEVEL)
    return block


def opened(block: bytes, frame_shape: Sequence[int]) -> np.ndarray:
    """The frames ``[rows, *frame_shape]`` of a block."""
    return np.frombuffer(lz4.block.decompress(block), dtype=np.uint8).reshape(-1, *frame_shape)


def packed(columns: Sequence[Sequence[bytes]], num_members: int, num_envs: int) -> dict[str, Tensor]:
    """Blocks ``[columns][M * E]`` as tensors ``[M, ...]`` of a chunk; the shorter ones end in zeros."""
    own = [
        [block for column in columns for block in column[member * num_envs : (member + 1) * num_envs]]
        for member in range(num_members)
    ]
    data = np.zeros((num_members, max(sum(map(len, blocks)) for blocks in own)), dtype=np.uint8)
    for row, blocks in zip(data, own, strict=True):
        joined = b"".join(blocks)
        row[: len(joined)] = np.frombuffer(joined, dtype=np.uint8)
    sizes = np.array([[len(block) for block in blocks] for blocks in own], dtype=np.int32)
    return {_DATA: torch.from_numpy(data), _SIZES: torch.from_numpy(sizes)}


def unpacked(chunk: MemberRows, num_envs: int) -> list[tuple[bytes, ...]]:
    """Inverse of ``packed``; members whose blocks are equal share them.

    Raises ``ValueError`` for a codec that this version does not know.
    """
    if _DATA not in chunk:
        codec = ", ".join(name.removeprefix(_PREFIX) for name in chunk if name.startswith(_PREFIX) and name != _SIZES)
        raise ValueError(f"the frames of a replay are compressed by {codec or 'nothing'}, and this version reads lz4")
    known: dict[bytes, bytes] = {}
    of_members = []
    for data, sizes in zip(chunk[_DATA], chunk[_SIZES], strict=True):
        joined, ends = data.numpy().data, sizes.cumsum(0).tolist()
        blocks = (bytes(joined[begin:end]) for begin, end in pairwise([0, *ends]))
        of_members.append([known.setdefault(block, block) for block in blocks])
    return [
        tuple(block for blocks in of_members for block in blocks[first : first + num_envs])
        for first in range(0, len(of_members[0]), num_envs)
    ]


def frame_pieces(
    first_row: int, chunk: MemberRows, num_envs: int, frame_shape: Sequence[int]
) -> Iterator[tuple[int, Tensor]]:
    """The frames of a chunk's blocks ``[M, rows * E, *frame_shape]``, with the row at which each of them begins."""
    for number, column in enumerate(unpacked(chunk, num_envs), first_row // BLOCK_ROWS):
        frames = np.stack([opened(block, frame_shape) for block in column])  # [M * E, rows, ...]
        by_row = frames.reshape(-1, num_envs, *frames.shape[1:]).swapaxes(1, 2)
        yield number * BLOCK_ROWS, torch.from_numpy(by_row.reshape(len(by_row), -1, *frame_shape))
