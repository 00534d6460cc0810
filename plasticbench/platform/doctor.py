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

from plasticbench.contracts.task import DiscreteActions
from plasticbench.cpus import usable_cpus
from plasticbench.plugins import config_from

_OPTIONAL = {"films", "s3", "gcs", "gpu"}
_REINSTALL = "make setup (or: pip install -r requirements.lock)"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check; ``mend`` says what to do where it does not work. What is ``optional`` may be absent."""

    name: str
    works: bool
    detail: str
    mend: str = ""
    optional: bool = False


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
        ("mujoco", lambda: _steps("mujoco", "Hopper-v4"), _REINSTALL),
        ("humanoid", lambda: _steps("humanoid", "h1-walk-v0"), _REINSTALL),
        ("gymnasium", lambda: _steps("gymnasium", "CartPole-v1", low_return=0.0, high_return=500.0), _REINSTALL),
        *((name, lambda name=name: _versions(name), _REINSTALL) for name in ("ray", "mlflow", "matplotlib")),
        ("rllib", lambda: _versions("ray.rllib", "gymnasium"), _REINSTALL),
        ("postgresql", lambda: _versions("psycopg"), _REINSTALL),
        ("films", _films, "apt-get install libosmesa6 (or what your system calls the software renderer OSMesa)"),
        ("s3", lambda: _versions("s3fs", "boto3"), "pip install '.[s3]' in plasticbench's folder"),
        ("gcs", lambda: _versions("gcsfs"), "pip install '.[gcs]' in plasticbench's folder"),
    ]
    return [_finding(name, check, mend) for name, check, mend in checks]


def _finding(name: str, check: Callable[[], str], mend: str) -> Finding:
    try:
        return Finding(name, True, check(), "", name in _OPTIONAL)
    except Exception as error:  # a doctor must survive every illness; the error is the finding
        return Finding(name, False, f"{type(error).__name__}: {error}", mend, name in _OPTIONAL)


def gpu() -> Finding:
    """Whether a CUDA device can be used; a machine without one works as well."""
    if not torch.cuda.is_available():
        return Finding("gpu", False, "no CUDA device; everything runs on the CPU", optional=True)
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return Finding("gpu", True, names, optional=True)


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
    return f"{usable_cpus()} of {os.cpu_count()} cores can be used here"


def _disk() -> str:
    free_gib = shutil.disk_usage(Path.cwd()).free / 2**30
    if free_gib < 1:
        raise RuntimeError(f"only {free_gib:.1f} GiB are free in the current directory")
    return f"{free_gib:.0f} GiB free in the current directory"


def _steps(kind: str, task: str, **settings: float) -> str:
    env = config_from("envs", kind, {"task": task, **settings}).build([0], 1)
    actions = env.spec.actions
    try:
        env.reset()
        is_choice = isinstance(actions, DiscreteActions)
        step = env.step(np.zeros(1, np.int64) if is_choice else np.zeros((1, len(actions.low)), np.float32))
        return f"{task} steps, observations {step.obs.shape[1:]}"
    finally:
        env.close()


def _films() -> str:
    from plasticbench.envs.humanoid.rendering import check_rendering

    check_rendering()
    return "humanoids can be drawn"


def _versions(*modules: str) -> str:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it looks for it when it is imported
    for module in modules:
        importlib.import_module(module)
    packages = dict.fromkeys(module.partition(".")[0] for module in modules)
    return ", ".join(f"{package} {metadata.version(package)}" for package in packages)
