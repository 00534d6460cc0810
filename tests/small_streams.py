"""Supervised benchmarks that train for real in about a second, and data sets that can be overseen."""

from typing import Any

import numpy as np
import torch

from plasticbench import plugins
from plasticbench.agents.learners import classifier
from plasticbench.contracts.learner import Population
from plasticbench.contracts.supervised import DataSet
from plasticbench.envs import images
from plasticbench.envs._supervised import SupervisedCourse
from plasticbench.envs.datasets._statistics import data_set
from plasticbench.learning.networks import mlp


def tiny(classes: int = 4, per_class: int = 6, tests: int = 3) -> DataSet:
    """Images ``[2, 3, 3]`` whose pixels say which row and class they are; labels go round."""
    rows, test_rows = classes * per_class, classes * tests
    shape = (2, 3, 3)
    pictures = np.arange((rows + test_rows) * 18).reshape(-1, *shape) % 251
    labels = np.arange(rows + test_rows) % classes
    whole = pictures.astype(np.uint8), labels.astype(np.int64)
    return data_set(whole[0][:rows], whole[1][:rows], whole[0][rows:], whole[1][rows:], classes)


def stream(kind: str, **settings: Any) -> Any:
    """The ``Config`` of a stream."""
    return plugins.config_from("streams", kind, settings)


def small_stream(**changes: Any) -> dict[str, Any]:
    """Digits with random labels in four phases, three methods and two seeds over 80 updates."""
    data = {
        "name": "small_stream",
        "environments": [{"kind": "images", "stream": {"kind": "random_labels", "phases": 4, "samples": 64}}],
        "learner": {"kind": "classifier", "network": {"kind": "mlp", "hidden": [16]}, "batch_rows": 8},
        "methods": {"none": {"kind": "none"}, "fire": {"kind": "fire"}, "full_reset": {"kind": "full_reset"}},
        "resets": {"at": "boundaries"},
        "seeds": 2,
        "budget_updates": 80,
        "evaluation": {"every_updates": 20},
        "probes": {"every_updates": 20, "batch_rows": 32, "kinds": ["dormant_ratio", "weight_norm"]},
        "records": {"every_updates": 10},
        "checkpoint": {"every_s": 1000.0},
    }
    return data | changes


def course(
    kind: str = "random_labels",
    *,
    seeds: Any = (0, 1),
    budget: int = 60,
    parts: Any = None,
    learner: Any = None,
    **settings: Any,
) -> SupervisedCourse:
    """A course on digits, and its learner."""
    network = mlp.Config(hidden=(12,), initializer="torch_default")
    population = Population(
        agent=learner or classifier.Config(network=network, batch_rows=8, learning_rate=1e-2),
        seeds=list(seeds),
        parts=parts or [()] * len(seeds),
        budget_steps=budget,
        evaluation=None,
        device=torch.device("cpu"),
        num_threads=1,
    )
    return images.Config(stream=stream(kind, **settings)).build_course(population)


def go(one: SupervisedCourse, first: int, last: int) -> None:
    """Updates ``first`` to ``last`` - 1."""
    for step in range(first, last):
        one.set_phase(sum(change <= step for change in one.change_steps), step)
        for _ in one.advance(step):
            pass
