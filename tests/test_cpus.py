"""How many CPUs are counted where a process may use fewer than its machine has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ray._private.utils import get_num_cpus

from plasticbench.cpus import usable_cpus

COUNT = "from plasticbench.cpus import usable_cpus; print(usable_cpus())"
OWN_NODE = "from plasticbench.platform.cluster.connection import _own_node; print(_own_node()['num_cpus'])"
DOCTOR = "from plasticbench.platform.doctor import _cpu; print(_cpu())"


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


def _tree(root: Path, cgroup: str, **files: str) -> Path:
    """A machine whose process is in ``cgroup`` (lines of proc); file names have / for __ below the cgroup mount."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "cpus"),
    [
        ("0::/\n", {"cpu.max": "200000 100000"}, 2),  # a container of version 2 that sees its own cgroup as the root
        ("0::/job/step\n", {"job/cpu.max": "300000 100000", "job/step/cpu.max": "max 100000"}, 3),
        ("0::/job/step\n", {"job/cpu.max": "300000 100000", "job/step/cpu.max": "150000 100000"}, 1),
        ("0::/\n", {"cpu.max": "50000 100000"}, 1),
        ("0::/\n", {"cpu.max": "max 100000"}, 8),
        ("0::/\n", {"cpu.max": "nonsense"}, 8),
        ("3:cpu,cpuacct:/a\n", {"cpu/a/cpu.cfs_quota_us": "400000", "cpu/a/cpu.cfs_period_us": "100000"}, 4),
        (
            "3:cpu,cpuacct:/a\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "500000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            5,
        ),
        ("3:cpu:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, 8),
        ("3:memory:/a\n", {"memory/a/cpu.max": "100000 100000"}, 8),
        ("3:cpu:/\n0::/b\n", {"unified/b/cpu.max": "600000 100000"}, 6),
        ("", {}, 8),
    ],
)
def test_the_least_quota_on_the_way_to_the_root_counts(tmp_path, cgroup, files, cpus):
    assert usable_cpus(_tree(tmp_path, cgroup, **files)) == cpus


def test_the_affinity_counts_where_it_is_less_than_the_quota(tmp_path, monkeypatch):
    root = _tree(tmp_path, "0::/\n", **{"cpu.max": "400000 100000"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 5})
    assert usable_cpus(root) == 2


def test_a_system_without_cgroups_has_its_cpus(tmp_path):
    assert usable_cpus(tmp_path) == 8


@pytest.mark.parametrize(("script", "expected"), [(COUNT, "1"), (OWN_NODE, "1"), (DOCTOR, "1 of ")])
def test_a_process_in_taskset_counts_one_cpu(script, expected):
    command = ["taskset", "-c", "0", sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(expected)


def test_ray_finds_no_fewer(monkeypatch):
    monkeypatch.undo()
    assert 1 <= usable_cpus() <= max(1, int(get_num_cpus()))
