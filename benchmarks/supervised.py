"""Updates of supervised learners: populations of each network against plain PyTorch loops, one member after another.

    python -m benchmarks.supervised            # all networks that take images, at M = 1, 4 and 16
    python -m benchmarks.supervised mlp        # one of them

Prints one JSON object: member-updates per second of CPU time, on one thread, of the population and of a loop over as
many modules with as many optimizers, and their ratio. Both are timed in turn and the best of three rounds counts:
compare ratios of one run only.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from plasticbench.agents.learners import classifier
from plasticbench.contracts.supervised import Batch, PhaseClock
from plasticbench.contracts.task import DiscreteActions, EnvSpec
from plasticbench.learning.blueprint import ModuleSettings
from plasticbench.learning.networks import cnn_small, gpt, mlp, resnet18, vgg16, vit_tiny
from plasticbench.seeding import Streams

MEMBERS, ROUNDS, MIN_S = (1, 4, 16), 3, 0.5
NETWORKS: dict[str, tuple[Any, tuple[int, ...], int]] = {  # with the shape of inputs, and rows of a batch
    "mlp": (mlp.Config(hidden=(100, 100), initializer="torch_default"), (1, 8, 8), 16),
    "cnn_small": (cnn_small.Config(), (1, 28, 28), 32),
    "resnet18": (resnet18.Config(width=16), (3, 16, 16), 32),
    "vgg16": (vgg16.Config(width=8, head_units=64), (3, 32, 32), 32),
    "vit_tiny": (vit_tiny.Config(width=48, num_blocks=4), (3, 16, 16), 32),
    "gpt": (gpt.Config(width=64, num_blocks=2), (32,), 8),
}
OUTPUTS = 10


def batch(config: Any, shape: tuple[int, ...], members: int, rows: int) -> Batch:
    if getattr(config, "inputs", "numbers") == "tokens":
        tokens = torch.randint(OUTPUTS, (members, rows, shape[0] + 1))
        return Batch(tokens[..., :-1], tokens[..., 1:])
    return Batch(torch.randn(members, rows, *shape), torch.randint(OUTPUTS, (members, rows)))


def population(config: Any, shape: tuple[int, ...], members: int, rows: int) -> Callable[[], None]:
    tokens = getattr(config, "inputs", "numbers") == "tokens"
    spec = EnvSpec(obs_shape=shape, obs_dtype="int64" if tokens else "uint8", actions=DiscreteActions(count=OUTPUTS))
    learner = classifier.Config(network=config, batch_rows=rows).build(
        spec=spec,
        num_envs=1,
        streams=[Streams(seed) for seed in range(members)],
        budget_steps=1,
        device=torch.device("cpu"),
        parts=[()] * members,
    )
    read = batch(config, shape, members, rows)
    return lambda: learner.update(read, 1, PhaseClock(0, 1)) and None


def plain_module(config: Any, shape: tuple[int, ...]) -> nn.Module:
    if isinstance(config, ModuleSettings):
        return config.module(shape, OUTPUTS)
    widths = (torch.Size(shape).numel(), *config.hidden, OUTPUTS)
    layers = [part for i, o in pairwise(widths) for part in (nn.Linear(i, o), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers[:-1])


def loop(config: Any, shape: tuple[int, ...], members: int, rows: int) -> Callable[[], None]:
    modules = [plain_module(config, shape) for _ in range(members)]
    optimizers = [torch.optim.Adam(module.parameters(), lr=1e-3, fused=True) for module in modules]
    read = batch(config, shape, members, rows)

    def update() -> None:
        for member, (module, optimizer) in enumerate(zip(modules, optimizers, strict=True)):
            optimizer.zero_grad()
            logits = module(read.inputs[member])
            nn.functional.cross_entropy(logits.flatten(0, -2), read.labels[member].flatten()).backward()
            optimizer.step()

    return update


def rate(update: Callable[[], None], members: int) -> float:
    """Member-updates per second of CPU time."""
    update()
    began, count = time.process_time(), 0
    while time.process_time() - began < MIN_S:
        update()
        count += members
    return count / (time.process_time() - began)


def compared(name: str, members: int) -> dict[str, float]:
    config, shape, rows = NETWORKS[name]
    kinds = {"population": population(config, shape, members, rows), "loop": loop(config, shape, members, rows)}
    best = dict.fromkeys(kinds, 0.0)
    for _ in range(ROUNDS):
        for kind, update in kinds.items():
            best[kind] = max(best[kind], rate(update, members))
    return {kind: round(value, 1) for kind, value in best.items()} | {
        "ratio": round(best["population"] / best["loop"], 2)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", nargs="?", choices=tuple(NETWORKS))
    chosen = parser.parse_args().network
    torch.set_num_threads(1)
    names = [chosen] if chosen else list(NETWORKS)
    print(json.dumps({name: {f"M={m}": compared(name, m) for m in MEMBERS} for name in names}, indent=1))


if __name__ == "__main__":
    main()
