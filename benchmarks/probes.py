"""Time of every probe over a population, printed as JSON: ``python -m benchmarks.probes``.

Milliseconds on one core, the best of several rounds, on a fixed batch of 512 rows.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import partial

import torch

from plasticbench import plugins
from plasticbench.contracts.network import LayerView, NetworkView

NUM_ROWS = 512
# Shapes of weight and activation; the output layer has no activation.
MLP = {"fc1": ((64, 8), (64,)), "fc2": ((64, 64), (64,)), "output": ((4, 64), None)}
NATURE_CNN = {
    "conv1": ((32, 4, 8, 8), (32, 20, 20)),
    "conv2": ((64, 32, 4, 4), (64, 9, 9)),
    "conv3": ((64, 64, 3, 3), (64, 7, 7)),
    "fc1": ((512, 3136), (512,)),
    "output": ((18, 512), None),
}
Shapes = Mapping[str, tuple[tuple[int, ...], tuple[int, ...] | None]]


def random_view(shapes: Shapes, num_members: int) -> NetworkView:
    def layer(name: str, shape: tuple[int, ...], activation_shape: tuple[int, ...] | None) -> LayerView:
        weights = ("weight", "initial_weight", "previous_weight", "weight_gradient", "weight_update")
        tensors = {key: torch.randn(num_members, *shape) for key in weights}
        rows = (num_members, NUM_ROWS)
        activation = None if activation_shape is None else torch.randn(*rows, *activation_shape).relu()
        return LayerView(name=name, activation=activation, **tensors)

    layers = tuple(layer(name, *both) for name, both in shapes.items())
    return NetworkView(name="online", layers=layers, features=layers[-2].activation)


def milliseconds(work: Callable[[], object], num_rounds: int) -> float:
    durations_s = []
    for _ in range(num_rounds):
        start = time.perf_counter()
        work()
        durations_s.append(time.perf_counter() - start)
    return round(1e3 * min(durations_s), 3)


def measure_all(shapes: Shapes, num_members: int, num_rounds: int) -> dict[str, float]:
    view = random_view(shapes, num_members)
    probes = {kind: plugins.config_from("probes", kind, {}).build() for kind in plugins.names("probes")}
    times = {kind: milliseconds(partial(probe.measure, view), num_rounds) for kind, probe in probes.items()}
    together = milliseconds(lambda: [probe.measure(view) for probe in probes.values()], num_rounds)
    return {"all": together} | times


def main() -> None:
    torch.set_num_threads(1)
    result = {
        "mlp_64_members_20_ms": measure_all(MLP, num_members=20, num_rounds=10),
        "nature_cnn_members_1_ms": measure_all(NATURE_CNN, num_members=1, num_rounds=3),
        "nature_cnn_members_5_ms": measure_all(NATURE_CNN, num_members=5, num_rounds=2),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
