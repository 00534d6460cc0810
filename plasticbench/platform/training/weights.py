"""The final weights of each trial as one safetensors file: what its online networks had learnt at the budget's end."""

from __future__ import annotations

import safetensors.torch

from plasticbench import storage
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.trainer import Trainer


def save_weights(trainer: Trainer, directory: RunDirectory) -> None:
    """Writes ``weights/<trial>.safetensors`` for every trial; its tensors are named as in ``actor.fc1.weight``."""
    for index, member in enumerate(trainer.segment.members):
        data = safetensors.torch.save(trainer.agent.parameters(index))
        for trial in member.trials:
            storage.write_atomically(directory.weights_file(trial), data)
