"""Every fault that a run must survive or name, one kind after the other: ``python -m benchmarks.faults [KIND ...]``.

Runs the tests of each kind, slow ones included, on real stores, servers, disks and processes, and prints one row a
kind. Exits with 1 if anything failed.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
KINDS = {
    "waits": ("endings", "tracker", "tracker_deaths", "tracking_stores", "ui", "entrance"),
    "texts": ("texts_of_others", "uris", "security", "names"),
    "files": ("odd_paths", "damaged_records", "faults", "benchmark_files", "rerun"),
    "machine": ("cpus", "shadowed_modules", "group_signals", "ray_processes", "tracking_schema", "loopback"),
    "stores": ("object_store", "storage", "storage_away", "lease"),
}
"""What goes wrong, and the files that try it."""


def play(kind: str) -> tuple[bool, str]:
    """Whether all tests of a kind pass, and its row."""
    files = [str(TESTS / f"test_{name}.py") for name in KINDS[kind]]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--tb=short", "-m", "not compose", *files],
        capture_output=True,
        text=True,
    )
    counts = {name: int(count) for count, name in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)}
    passed = done.returncode == 0 and counts.get("passed", 0) > 0
    row = f"{kind:8} {counts.get('passed', 0):6} {counts.get('skipped', 0):7} {time.monotonic() - began:7.0f} s"
    return passed, row if passed else f"{row}\n{done.stdout[max(0, done.stdout.find('= FAILURES')) :]}"


def main() -> None:
    """Prints the table."""
    wanted = sys.argv[1:] or list(KINDS)
    if unknown := set(wanted) - set(KINDS):
        sys.exit(f"faults: no kind {', '.join(sorted(unknown))}. There are {', '.join(KINDS)}")
    print(f"{'kind':8} {'passed':>6} {'skipped':>7} {'time':>9}")
    failed = 0
    for kind in wanted:
        passed, row = play(kind)
        failed += not passed
        print(row, flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
