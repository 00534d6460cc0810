"""What works on this machine, and the command that mends what does not."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from plasticbench.plugins import config_from

_REINSTALL = "make setup (or: pip install -r requirements.lock)"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check; ``mend`` is empty where nothing needs mending."""

    name: str
    works: bool
    detail: str
    mend: str = ""


def examine() -> list[Finding]:
    """Runs every check; none of them raises."""
    checks: list[tuple[str, Callable[[], str], str]] = [
        ("python", _python, ""),
        ("torch", _torch, "pip install 'torch>=2.13.0'"),
        ("cpu", _cpu, ""),
        ("disk", _disk, "free some disk space"),
        ("classic", lambda: _steps("classic", "CartPole-v1"), _REINSTALL),
        ("minatar", lambda: _steps("minatar", "Breakout-MinAtar"), _REINSTALL),
        ("atari", lambda: _steps("atari", "Asterix"), _REINSTALL),
        *((name, lambda name=name: _version(name), _REINSTALL) for name in ("ray", "mlflow", "mujoco", "matplotlib")),
    ]
    return [_finding(name, check, mend) for name, check, mend in checks]


def _finding(name: str, check: Callable[[], str], mend: str) -> Finding:
    try:
        return Finding(name, True, check())
    except Exception as error:  # a doctor must survive every illness; the error is the finding
        return Finding(name, False, f"{type(error).__name__}: {error}", mend)


def gpu() -> Finding:
    """Whether a CUDA device can be used; a machine without one works as well."""
    if not torch.cuda.is_available():
        return Finding("gpu", False, "no CUDA device; everything runs on the CPU", "")
    return Finding("gpu", True, ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())))


def cluster(address: str) -> Finding:
    """Whether a Ray cluster can be used: its dashboard takes jobs, or this machine can join it."""

    def look() -> str:
        from plasticbench.platform.cluster import jobs, runner

        is_dashboard = address.startswith(("http://", "https://"))
        return jobs.describe_server(address) if is_dashboard else runner.describe_cluster(address)

    return _finding("cluster", look, "start the cluster, or correct --address")


def _python() -> str:
    return sys.version.split()[0]


def _torch() -> str:
    value = float(torch.linalg.matrix_norm(torch.eye(4)))
    if abs(value - 2.0) > 1e-5:
        raise RuntimeError(f"the norm of a 4x4 identity came out as {value}")
    return f"{torch.__version__}, {torch.get_num_threads()} threads"


def _cpu() -> str:
    return f"{os.cpu_count()} cores"


def _disk() -> str:
    free_gib = shutil.disk_usage(Path.cwd()).free / 2**30
    if free_gib < 1:
        raise RuntimeError(f"only {free_gib:.1f} GiB are free in the current directory")
    return f"{free_gib:.0f} GiB free in the current directory"


def _steps(kind: str, task: str) -> str:
    env = config_from("envs", kind, {"task": task}).build([0], 1)
    try:
        env.reset()
        step = env.step(np.zeros(1, dtype=np.int64))
        return f"{task} steps, observations {step.obs.shape[1:]}"
    finally:
        env.close()


def _version(package: str) -> str:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it looks for it when it is imported
    importlib.import_module(package)
    return metadata.version(package)
