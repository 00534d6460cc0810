"""What trains a trial besides its settings, and can round otherwise: device, threads, kind of CPU, versions."""

from __future__ import annotations

import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from plasticbench import __version__
from plasticbench.code_commit import code_commit

_PACKAGES = ("torch", "numpy", "gymnasium", "envpool", "ale-py", "minatar", "mujoco", "ray")


def machine(device: str) -> dict[str, Any]:
    """Plain data about this process; ``device`` is ``cpu`` or ``cuda``."""
    gpu = {"gpu": torch.cuda.get_device_name()} if device == "cuda" else {}
    return {
        "device": device,
        **gpu,
        "cpu": _cpu(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "num_threads": torch.get_num_threads(),
        "versions": {"plasticbench": __version__, "python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    commit = code_commit()
    found = {} if commit is None else {"commit": commit}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # nothing that it could have changed
    return found


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.M) if info.exists() else None
    return named.group(1).strip() if named else platform.processor() or platform.machine()
