"""How many CPUs this process may use, which can be fewer than its machine has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def usable_cpus(root: Path = Path("/")) -> int:
    """The least of the machine's CPUs, this process's affinity and the quotas of its cgroups; at least 1.

    ``taskset`` and the cpusets of Slurm and Docker narrow the affinity, ``docker --cpus`` sets a quota. What Ray finds
    is never less: it looks for quota and cpuset at the root of the hierarchy alone. Below ``root`` are ``proc`` and
    ``sys``.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([os.cpu_count() or 1, affinity, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """In CPUs, of every cgroup above this process that has one: each of them holds."""
    for folder in _cgroups(root):
        try:
            if (maximum := folder / "cpu.max").exists():
                quota, period = maximum.read_text().split()
            else:
                quota = (folder / "cpu.cfs_quota_us").read_text()
                period = (folder / "cpu.cfs_period_us").read_text()
            if quota != "max" and int(quota) > 0:  # version 1 says -1 where there is no limit
                yield int(quota) / int(period)
        except (OSError, ValueError):
            continue  # no quota here


def _cgroups(root: Path) -> Iterator[Path]:
    """Folders of this process's CPU cgroups up to each root; a container may see its own as the root."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", maxsplit=2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for name in (controllers, "cpu") if controllers else ("", "unified"):
            folder = mount = root / "sys/fs/cgroup" / name
            for part in ("", *Path(path.lstrip("/")).parts):
                folder /= part
                yield folder
            yield mount
