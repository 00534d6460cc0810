"""Texts as tokens: nanoGPT's files of uint16, or characters of a text file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """Token ids of training and validation; files stay on disk."""

    label: str
    train: np.ndarray
    validation: np.ndarray


@cache
def corpora(paths: tuple[str, ...], context: int) -> tuple[tuple[Corpus, ...], int]:
    """All corpora of a task and the least vocabulary that holds them.

    Raises ``ValueError`` for what is not there, for texts beside token files, and for one shorter than a context.
    """
    places = [Path(path).expanduser() for path in paths]
    are_texts = {place.is_file() for place in places}
    if len(are_texts) > 1:
        raise ValueError("corpora: must be all text files or all folders of tokens, for they need one vocabulary")
    found, size = _texts(places) if are_texts == {True} else _tokens(places)
    for corpus in found:
        for what, tokens in (("training", corpus.train), ("validation", corpus.validation)):
            if len(tokens) <= context:
                raise ValueError(
                    f"corpora: {corpus.label} has {len(tokens):,} {what} tokens, which is shorter than one context of "
                    f"{context:,} and the token after it"
                )
    return found, size


def _tokens(places: list[Path]) -> tuple[tuple[Corpus, ...], int]:
    found = []
    for place in places:
        files = [place / name for name in ("train.bin", "val.bin")]
        if missing := [file for file in files if not file.exists()]:
            raise ValueError(
                f"corpora: there is no {missing[0].absolute()}; expected is a text file, or a folder with train.bin "
                "and val.bin of uint16 tokens. Nothing is downloaded"
            )
        train, validation = (np.memmap(file, np.uint16, "r") for file in files)
        found.append(Corpus(place.name, train, validation))
    largest = max(int(part.max()) for corpus in found for part in (corpus.train, corpus.validation))
    return tuple(found), largest + 1


def _texts(places: list[Path]) -> tuple[tuple[Corpus, ...], int]:
    """The last tenth of each text is validation."""
    texts = [place.read_text(encoding="utf-8", errors="replace") for place in places]
    numbers = {character: number for number, character in enumerate(sorted({c for text in texts for c in text}))}
    found = []
    for place, text in zip(places, texts, strict=True):
        tokens = np.array([numbers[character] for character in text], np.uint16)
        cut = len(tokens) * 9 // 10
        found.append(Corpus(place.stem, tokens[:cut], tokens[cut:]))
    return tuple(found), len(numbers)
