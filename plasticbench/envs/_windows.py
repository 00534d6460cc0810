"""Windows of texts as the members of a population read them: at random places of a mixture, or spread over a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch

from plasticbench.contracts.supervised import Batch, Pieces
from plasticbench.envs._corpus import Corpus
from plasticbench.seeding import derive_generator

_EVALUATION_WINDOWS = 16  # that are told at once
_MAX_TEST_WINDOWS = 256  # of each corpus


class TokenPhase:
    """One phase; see ``contracts.supervised.Entered``. ``weights`` say how often each corpus is drawn from."""

    def __init__(
        self,
        corpora: Sequence[Corpus],
        weights: Sequence[float],
        context: int,
        seeds: Sequence[int],
        phase: int,
        batch_rows: int,
        device: torch.device,
    ) -> None:
        self._corpora, self._context, self._device = corpora, context, device
        self._seeds, self._phase, self._batch_rows = seeds, phase, batch_rows
        self._bounds = np.cumsum(weights) / sum(weights)
        self._weights = np.asarray(weights) / sum(weights)
        self._draw = lru_cache(maxsize=None)(self._drawn)

    def sample(self, uniforms: np.ndarray) -> Batch:
        """Windows chosen by uniforms ``[M, B]``: which corpus, and where in it."""
        which = np.minimum(np.searchsorted(self._bounds, uniforms, side="right"), len(self._corpora) - 1)
        low = np.concatenate([[0.0], self._bounds])[which]
        within = (uniforms - low) / np.maximum(self._bounds[which] - low, 1e-12)
        return self._windows(which, within)

    def batch(self, update: int) -> Batch:
        """Windows at random places, as nanoGPT draws them; seed, phase and update decide."""
        self._draw.cache_clear()
        return self.sample(np.stack([self._draw(seed, update) for seed in self._seeds]))

    def _drawn(self, seed: int, update: int) -> np.ndarray:
        return derive_generator(seed, "windows", self._phase, update).random(self._batch_rows)

    def _windows(self, which: np.ndarray, within: np.ndarray) -> Batch:
        windows = np.empty((*which.shape, self._context + 1), np.int64)
        for place in np.ndindex(which.shape):
            tokens = self._corpora[int(which[place])].train
            start = min(int(within[place] * (len(tokens) - self._context)), len(tokens) - self._context - 1)
            windows[place] = tokens[start : start + self._context + 1]
        return self._batch(windows)

    def _batch(self, windows: np.ndarray) -> Batch:
        moved = torch.from_numpy(windows).to(self._device)
        return Batch(moved[..., :-1], moved[..., 1:])

    def known(self) -> None:
        """Nothing is read twice on purpose."""

    def tests(self) -> Mapping[str, Pieces]:
        """``test`` is the phase's own mixture; each corpus by itself besides, where there are several."""
        found = {"test": self._pieces(self._weights)}
        if len(self._corpora) > 1:
            for number, corpus in enumerate(self._corpora):
                found[corpus.label] = self._pieces(np.arange(len(self._corpora)) == number)
        return found

    def _pieces(self, weights: np.ndarray) -> Pieces:
        for corpus, weight in zip(self._corpora, weights, strict=True):
            starts = _spread(len(corpus.validation), self._context)
            for first in range(0, len(starts) if weight else 0, _EVALUATION_WINDOWS):
                own = starts[first : first + _EVALUATION_WINDOWS]
                windows = np.stack([corpus.validation[start : start + self._context + 1] for start in own])
                everyone = np.broadcast_to(windows.astype(np.int64), (len(self._seeds), *windows.shape)).copy()
                shares = torch.full((len(self._seeds), len(own)), float(weight) / len(starts), device=self._device)
                yield self._batch(everyone), shares


def _spread(length: int, context: int) -> np.ndarray:
    """Beginnings of windows that do not overlap, at most so many, evenly over a text."""
    count = (length - 1) // context
    return np.unique(np.linspace(0, count - 1, min(count, _MAX_TEST_WINDOWS)).astype(np.int64)) * context


class TokenMaterial:
    """Corpora and how they are mixed phase by phase, for the members of these seeds."""

    differs = False

    def __init__(
        self,
        corpora: Sequence[Corpus],
        mixtures: Sequence[Sequence[float]],
        context: int,
        vocabulary: int,
        seeds: Sequence[int],
        batch_rows: int,
        device: torch.device,
    ) -> None:
        self._corpora, self._mixtures, self._context, self._vocabulary = corpora, mixtures, context, vocabulary
        self._seeds, self._batch_rows, self._device = seeds, batch_rows, device

    def enter(self, phase: int) -> TokenPhase:
        """The mixture of a phase."""
        mixture = self._mixtures[phase]
        return TokenPhase(self._corpora, mixture, self._context, self._seeds, phase, self._batch_rows, self._device)

    def score(self, found: Mapping[str, np.ndarray]) -> np.ndarray:
        """0 for a loss of ln(vocabulary), which guessing has, and worse; 1 for a loss of 0."""
        score: np.ndarray = np.clip(1 - found["eval/test_loss"] / np.log(self._vocabulary), 0.0, 1.0)
        return score
