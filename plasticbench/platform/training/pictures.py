"""Films of what trained policies do: one for each task and method, of the benchmark's first seed."""

from __future__ import annotations

import io
import logging

import numpy as np
from PIL import Image

from plasticbench import storage
from plasticbench.contracts.task import DrawnConfig
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.trainer import Trainer
from plasticbench.seeding import derive_seed
from plasticbench.storage import Location

logger = logging.getLogger(__name__)

_PICTURES_PER_S = 15
_LAST_PICTURE_MS = 1000  # so that the end, often a fall, is seen before the film begins anew
_QUALITY = 60


def film_policies(trainer: Trainer, directory: RunDirectory) -> None:
    """Writes the films of a population that has reached the budget; what cannot be drawn costs a warning alone."""
    first_seed = trainer.benchmark.seeds[0]
    for index, member in enumerate(trainer.segment.members):
        for trial in member.trials if member.seed == first_seed else ():
            try:
                _film(trainer, index, directory.film_file(trial))
            except Exception as error:  # whatever a graphics driver may raise, the results are worth more
                logger.warning(
                    "%s: there will be no pictures of its policy: %s: %s", trial, type(error).__name__, error
                )


def _film(trainer: Trainer, index: int, path: Location) -> None:
    pictures, config = trainer.benchmark.pictures, trainer.benchmark.environment(trainer.segment.task).config
    assert pictures is not None
    assert isinstance(config, DrawnConfig)
    seed = derive_seed(trainer.seeds[index], "picture")
    every = max(1, round(1 / (_PICTURES_PER_S * config.step_s)))
    size = pictures.width, pictures.height
    shots = config.render(trainer.policy(index), seed, pictures.num_steps, *size, every=every)
    write_film(path, shots, every * config.step_s)


def write_film(path: Location, shots: np.ndarray, apart_s: float) -> None:
    """Writes pictures ``[T, height, width, 3]`` that lie ``apart_s`` apart as a WebP that plays at their own speed."""
    first, *others = (Image.fromarray(shot) for shot in shots)
    durations_ms = [round(1000 * apart_s)] * len(others) + [_LAST_PICTURE_MS]
    film = io.BytesIO()
    first.save(film, "WEBP", save_all=True, append_images=others, duration=durations_ms, loop=0, quality=_QUALITY)
    storage.write_atomically(path, film.getvalue())
