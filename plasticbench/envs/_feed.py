"""Rows of a data set as the members of a population read them: chosen, shuffled, normalised and labelled for each.

The data lie on the device once; what a member reads is gathered from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from plasticbench.contracts.supervised import Batch, DataSet, Rows
from plasticbench.seeding import derive_generator

_BLOCK_UPDATES = 64  # whose rows are looked up at once


class Images:
    """Normalised images on a device, read by row."""

    def __init__(self, images: np.ndarray, data: DataSet, device: torch.device) -> None:
        self._images = torch.from_numpy(np.ascontiguousarray(images)).to(device)
        by_channel = (-1, 1, 1)
        self._scale = torch.tensor([1 / (255 * std) for std in data.std], device=device).view(by_channel)
        shifts = [mean / std for mean, std in zip(data.mean, data.std, strict=True)]
        self._shift = torch.tensor(shifts, device=device).view(by_channel)

    def read(self, rows: Tensor, permutations: Tensor | None) -> Tensor:
        """Images ``[M, B, channels, height, width]`` of rows ``[M, B]``; pixels shuffled by ``[M, pixels]``."""
        images = self._images[rows].float() * self._scale - self._shift
        if permutations is None:
            return images
        index = permutations.unsqueeze(1).expand(-1, images.shape[1], -1)
        return images.flatten(2).gather(2, index).view(images.shape)


class Feed:
    """Chosen rows of each member, which need not be equally many."""

    def __init__(self, images: Images, chosen: Sequence[Rows], permutations: Sequence[np.ndarray | None]) -> None:
        device = images._images.device
        self.sizes = np.array([len(own.rows) for own in chosen])
        self._images = images
        self._rows, self._labels = (
            torch.from_numpy(_padded([own[part] for own in chosen])).to(device) for part in range(2)
        )
        known = [p for p in permutations if p is not None]
        self._permutations = torch.from_numpy(np.stack(known)).to(device) if known else None

    def at(self, places: np.ndarray) -> Batch:
        """The rows at places ``[M, B]`` among each member's own."""
        index = torch.from_numpy(places).to(self._rows.device)
        rows = self._rows.gather(1, index)
        return Batch(self._images.read(rows, self._permutations), self._labels.gather(1, index))

    def sample(self, uniforms: np.ndarray) -> Batch:
        """Rows chosen by uniforms ``[M, B]``."""
        return self.at((uniforms * self.sizes[:, None]).astype(np.int64))

    def pieces(self, rows: int, limit: int | None = None) -> Iterator[tuple[Batch, Tensor]]:
        """All rows of all members, or the first ``limit``, in pieces, with weights ``[M, B]`` that sum to 1."""
        sizes = self.sizes if limit is None else np.minimum(self.sizes, limit)
        for first in range(0, int(sizes.max()), rows):
            places = np.arange(first, min(first + rows, int(sizes.max())))
            counts = places < sizes[:, None]
            weights = torch.from_numpy((counts / sizes[:, None]).astype(np.float32)).to(self._rows.device)
            yield self.at(np.where(counts, places, 0)), weights


def _padded(columns: Sequence[np.ndarray]) -> np.ndarray:
    padded = np.zeros((len(columns), max(map(len, columns))), dtype=np.int64)
    for row, column in zip(padded, columns, strict=True):
        row[: len(column)] = column
    return padded


class Passes:
    """Which places of a phase each update reads: pass after pass, each in an order that seed, phase and pass decide.

    A batch may reach into the next pass, so that all are of one size. Nothing is kept that a checkpoint would need.
    """

    def __init__(self, seeds: Sequence[int], sizes: np.ndarray, phase: int, batch_rows: int) -> None:
        self._seeds, self._sizes, self._phase, self._batch_rows = seeds, sizes, phase, batch_rows
        self._block = (-1, np.empty((0, 0), dtype=np.int64))
        self._order = cache(self._drawn)

    def places(self, update: int) -> np.ndarray:
        """Of update number ``update`` of the phase, from 0: ``[M, batch_rows]``."""
        number, within = divmod(update, _BLOCK_UPDATES)
        if number != self._block[0]:
            count = _BLOCK_UPDATES * self._batch_rows
            self._order.cache_clear()
            own = [self._run(*key, number * count, count) for key in zip(self._seeds, self._sizes, strict=True)]
            self._block = number, np.stack(own)
        first = within * self._batch_rows
        return self._block[1][:, first : first + self._batch_rows]

    def _run(self, seed: int, size: int, first: int, count: int) -> np.ndarray:
        passes = range(first // size, -(-(first + count) // size))
        return np.concatenate([self._order(seed, int(size), one) for one in passes])[first % size :][:count]

    def _drawn(self, seed: int, size: int, number: int) -> np.ndarray:
        return derive_generator(seed, "pass", self._phase, number).permutation(size)
