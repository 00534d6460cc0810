"""FIRE over a Nature CNN: one batched projection against a loop over kernel slices. Prints JSON.

Run: python -m benchmarks.fire [--threads 1] [--device cpu]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from plasticbench.contracts.network import LayerState, NetworkState, ParameterState
from plasticbench.learning.treatments._polar import project_
from plasticbench.learning.treatments.fire import PRESETS

CONVOLUTIONS = {"conv1": (32, 4, 8, 8), "conv2": (64, 32, 4, 4), "conv3": (64, 64, 3, 3)}
LINEARS = {"fc1": (512, 3136), "fc2": (9, 512)}
ITERATIONS = 10


def loop_over_slices_(weights: list[Tensor]) -> None:
    """The straightforward way: one kernel position after another."""
    for weight in weights:
        out_width, in_width, height, width = weight.shape
        for i in range(height):
            for j in range(width):
                x = weight[:, :, i, j]
                x = x / x.norm()
                for _ in range(ITERATIONS):
                    gram = x.T @ x if out_width > in_width else x @ x.T
                    x = 1.5 * x - 0.5 * (x @ gram if out_width > in_width else gram @ x)
                weight[:, :, i, j] = x
        weight.mul_((out_width / in_width) ** 0.5 / (height * width))


def batched_(weights: list[Tensor]) -> None:
    """The same for weights ``[m, out, in, kh, kw]``."""
    project_(weights, solver="newton_schulz", iterations=ITERATIONS, scale="muon")


def nature_cnn(num_members: int, device: torch.device) -> NetworkState:
    """Current, original and fresh weights of that many members."""

    def parameter(shape: tuple[int, ...]) -> ParameterState:
        value, fresh, original = (0.05 * torch.randn(num_members, *shape, device=device) for _ in range(3))
        return ParameterState(value=value, draw=lambda: fresh, original=original)

    return NetworkState(
        layers=[
            LayerState(
                name=name,
                role="encoder" if name in CONVOLUTIONS else "head",
                is_output=name == "fc2",
                weight=parameter(shape),
                bias=parameter(shape[:1]),
            )
            for name, shape in (CONVOLUTIONS | LINEARS).items()
        ]
    )


def best_ms(runs: dict[str, Callable[[], object]], device: torch.device, repeats: int) -> dict[str, float]:
    """Shortest of ``repeats`` times of each run, taken in turns, so that other work on the machine counts least."""
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            best[name] = min(best[name], 1e3 * (time.perf_counter() - start))
    return best


def required_flop() -> int:
    """Of ``ITERATIONS`` steps of Newton-Schulz for one member: a Gram matrix and a product at each kernel position."""
    kernels = ((min(out, into), max(out, into), height * width) for out, into, height, width in CONVOLUTIONS.values())
    return sum(ITERATIONS * positions * 4 * small**2 * large for small, large, positions in kernels)


def matmul_flop_per_s(device: torch.device, repeats: int) -> float:
    """What the device makes of a product of two matrices of 1024 x 1024."""
    x = torch.randn(1024, 1024, device=device)
    return 2 * 1024**3 / (1e-3 * best_ms({"matmul": lambda: x @ x}, device, repeats)["matmul"])


@torch.no_grad()
def measure(device: torch.device, repeats: int) -> dict[str, float]:
    torch.manual_seed(0)
    members = {count: nature_cnn(count, device) for count in (1, 20)}
    weights = {m: [layer.weight.value for layer in net.layers if layer.role == "encoder"] for m, net in members.items()}
    looped, batched = [w[0].clone() for w in weights[1]], [w.clone() for w in weights[1]]
    loop_over_slices_(looped)
    batched_(batched)
    error = max(float((a - b[0]).norm() / a.norm()) for a, b in zip(looped, batched, strict=True))
    fire = PRESETS["fire_paper_dqn"].build()
    look: Any = None  # FIRE looks at weights alone
    runs: dict[str, Callable[[], object]] = {
        "loop_ms": lambda: loop_over_slices_([w[0] for w in weights[1]]),
        "batched_ms": lambda: batched_(weights[1]),
        "batched_20_members_ms": lambda: batched_(weights[20]),
        "reset_20_members_ms": lambda: fire.on_event(members[20], {}, look),
    }
    best = best_ms(runs, device, repeats)
    flop, flop_per_s = required_flop(), matmul_flop_per_s(device, repeats)
    return best | {
        "required_flop": flop,
        "matmul_flop_per_s": flop_per_s,
        "least_ms": 1e3 * flop / flop_per_s,
        "ratio": best["loop_ms"] / best["batched_ms"],
        "ratio_20_members": 20 * best["loop_ms"] / best["batched_20_members_ms"],
        "relative_difference": error,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=21)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    measured = measure(torch.device(options.device), options.repeats)
    print(json.dumps({"threads": options.threads, "device": options.device} | measured, indent=2))


if __name__ == "__main__":
    main()
