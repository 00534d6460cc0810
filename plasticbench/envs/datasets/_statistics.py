"""A data set from arrays, with the statistics by which its images are normalised."""

from __future__ import annotations

import numpy as np

from plasticbench.contracts.supervised import DataSet


def data_set(
    images: np.ndarray,
    labels: np.ndarray,
    test_images: np.ndarray,
    test_labels: np.ndarray,
    num_classes: int,
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
) -> DataSet:
    """Mean and standard deviation by channel are ``statistics``, or else those of the training images, rounded.

    Rounded to four digits they are what is published for well-known sets. A channel that never varies keeps a deviation
    of 1. Raises ``ValueError`` for labels outside the classes.
    """
    for name, found in (("training", labels), ("test", test_labels)):
        if len(found) == 0:
            raise ValueError(f"there are no {name} rows")
        if found.min() < 0 or found.max() >= num_classes:
            wrong = int(found.min() if found.min() < 0 else found.max())
            raise ValueError(f"{name} labels must be 0 to {num_classes - 1}, got {wrong}")
    mean, std = statistics if statistics is not None else _statistics(images)
    return DataSet(
        images=images,
        labels=labels,
        test_images=test_images,
        test_labels=test_labels,
        num_classes=num_classes,
        mean=mean,
        std=std,
    )


def _statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of uint8 images ``[rows, channels, height, width]`` in [0, 1], exactly, from counts of their values."""
    values = np.arange(256) / 255
    counts = [np.bincount(images[:, channel].reshape(-1), minlength=256) for channel in range(images.shape[1])]
    means = [float(count @ values / count.sum()) for count in counts]
    squares = [float(count @ values**2 / count.sum()) for count in counts]
    stds = [round(max(square - mean**2, 0.0) ** 0.5, 4) for square, mean in zip(squares, means, strict=True)]
    return tuple(round(mean, 4) for mean in means), tuple(std or 1.0 for std in stds)
