"""The least that an update can take on a device, how many operations it is made of, and how many the host launches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from plasticbench.learning.tape import Noting

_PASSES_OVER_WEIGHTS = 12
"""Reads and writes of each weight: online forth and back, target forth, gradient written and read, and Adam's seven."""
_LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch", "cudaMemcpyAsync", "cudaMemsetAsync")


class Limits(NamedTuple):
    """Of a device in float32, as measured."""

    bytes_per_s: float
    operations_per_s: float


def limits(device: torch.device) -> Limits:
    """A large copy, and a large matrix product."""
    size, side = (2**28, 8192) if device.type == "cuda" else (2**23, 1024)
    source, product = torch.empty(size, device=device), torch.rand(side, side, device=device)
    target = torch.empty_like(source)
    copy_s = _best(lambda: target.copy_(source), device)
    return Limits(8 * size / copy_s, 2 * side**3 / _best(lambda: product @ product, device))


def _best(call: Callable[[], Any], device: torch.device) -> float:
    times = []
    for _ in range(5):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)


def floor_s(agent: Any, limit: Limits) -> float:
    """Seconds of an update of all members that no arrangement can beat."""
    weights = sum(trained.online.flat.numel() for trained in agent.trained)
    batch = agent.probe_batch(np.full((agent.num_members, agent.config.batch_rows), 0.5))
    read = sum(part.numel() * part.element_size() for part in batch if isinstance(part, torch.Tensor))
    with FlopCounterMode(display=False) as counter:
        agent.update()
    moved = 4 * _PASSES_OVER_WEIGHTS * weights + 2 * read
    return max(moved / limit.bytes_per_s, counter.get_total_flops() / limit.operations_per_s)


def operations(agent: Any) -> int:
    """Operations of an update, views left out: about as many kernels as it needs where none are fused."""
    with Noting() as noted:
        agent.update()
    return len(noted.operations)


def launches(update: Callable[[], Any], device: torch.device) -> float | None:
    """Calls by which the host starts work on the device, per update; of a GPU alone."""
    if device.type != "cuda":
        return None
    count = 4
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        for _ in range(count):
            update()
        torch.cuda.synchronize(device)
    return sum(event.count for event in profiled.key_averages() if event.key.startswith(_LAUNCHES)) / count
