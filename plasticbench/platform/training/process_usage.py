"""What the training process takes of its machine, under names that MLflow shows among a run's system metrics."""

from __future__ import annotations

import resource
import sys
import time

import torch

_PEAK_MEMORY_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024
_MEGABYTE = 1e6


class ProcessUsage:
    """Of this process with all its threads, which the members of a population share."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._clock = time.monotonic(), time.process_time()

    def drain(self) -> dict[str, float]:
        """CPU since the last call (100 is one core), the highest memory so far, and the GPU memory held now."""
        now = time.monotonic(), time.process_time()
        wall_s, cpu_s = (new - old for new, old in zip(now, self._clock, strict=True))
        self._clock = now
        memory_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _PEAK_MEMORY_UNIT_BYTES
        usage = {
            "system/process_cpu_percentage": 100 * cpu_s / max(wall_s, 1e-9),
            "system/process_peak_memory_megabytes": memory_bytes / _MEGABYTE,
        }
        if self._device.type == "cuda":
            usage["system/process_gpu_memory_megabytes"] = torch.cuda.memory_reserved(self._device) / _MEGABYTE
        return usage
