"""Rows of a data set as the members of a population read them: chosen, shuffled, normalised and labelled for each.

The data lie on the device once; what a member reads is gathered from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from plasticbench.contracts.supervised import Batch, DataSet, Phase, Pieces, Rows, StreamConfig
from plasticbench.seeding import derive_generator

_BLOCK_UPDATES = 64  # whose rows are looked up at once
_EVALUATION_ROWS = 500  # that are told at once
_KNOWN_ROWS = 1_000  # of a phase, which tell how well it is known by heart


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

    def pieces(self, rows: int, limit: int | None = None) -> Pieces:
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


class ImagePhase:
    """One phase of a stream; see ``contracts.supervised.Entered``."""

    def __init__(self, met: Sequence[Phase], test: Images, passes: Passes, feed: Feed) -> None:
        self._met, self._test, self.passes, self.feed = met, test, passes, feed

    def sample(self, uniforms: np.ndarray) -> Batch:
        """Training rows chosen by uniforms ``[M, B]``."""
        return self.feed.sample(uniforms)

    def batch(self, update: int) -> Batch:
        """The rows of the passes that an update reads."""
        return self.feed.at(self.passes.places(update))

    def known(self) -> Pieces:
        """The first training rows."""
        return self.feed.pieces(_EVALUATION_ROWS, _KNOWN_ROWS)

    def tests(self) -> Mapping[str, Pieces]:
        """The phase's own test rows, if any, and wider ones."""
        named = {"test": [one.test for one in self._met]}
        named |= {name: [one.wider[name] for one in self._met] for name in self._met[0].wider}
        found: dict[str, Pieces] = {}
        for name, rows in named.items():
            if known := [own for own in rows if own is not None]:
                feed = Feed(self._test, known, [one.permutation for one in self._met])
                found[name] = feed.pieces(_EVALUATION_ROWS)
        return found


class ImageMaterial:
    """A data set and its stream, for the members of these seeds."""

    def __init__(
        self, data: DataSet, stream: StreamConfig, seeds: Sequence[int], batch_rows: int, device: torch.device
    ) -> None:
        self._data, self._stream, self._seeds, self._batch_rows = data, stream, seeds, batch_rows
        self._train, self._test = (Images(images, data, device) for images in (data.images, data.test_images))
        self.differs = stream.differs

    def enter(self, phase: int) -> ImagePhase:
        """The rows, labels and pixels of a phase."""
        by_seed = {seed: self._stream.phase(self._data, seed, phase) for seed in dict.fromkeys(self._seeds)}
        met = [by_seed[seed] for seed in self._seeds]
        feed = Feed(self._train, [one.train for one in met], [one.permutation for one in met])
        passes = Passes(self._seeds, feed.sizes, phase, self._batch_rows)
        return ImagePhase(met, self._test, passes, feed)

    def score(self, found: Mapping[str, np.ndarray]) -> np.ndarray:
        """Accuracies are scores."""
        return found[f"eval/{self._stream.measure}_accuracy"]
