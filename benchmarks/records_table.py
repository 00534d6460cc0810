"""Cost of reading ten million records; prints JSON. Run with ``python -m benchmarks.records_table``.

A synthetic run of 1,000 trials with 100 points of 100 names each, in the form in which records are written, is read by
``plasticbench.load`` and exported to both formats, each in a process of its own: seconds, processor seconds, peak MiB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.analysis import _NAMES, Figures, seconds, write_synthetic_run
from plasticbench.analysis.records_table import export, load

_LAYERS = [f"plasticity/online/dormant_ratio/layer{i}" for i in range(100 - len(_NAMES))]
_TARGET_S, _TARGET_MIB = 30, 2048
_WORK: dict[str, Callable[[Path], object]] = {
    "load": lambda path: load(path),
    "csv": lambda path: export(path, "csv", path / "out.csv"),
    "parquet": lambda path: export(path, "parquet", path / "out.parquet"),
}


def measure(name: str, path: Path) -> Figures:
    figures = seconds(lambda: _WORK[name](path))
    return figures | {"peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}


def measure_apart(name: str, path: Path) -> Figures:
    command = [sys.executable, "-m", "benchmarks.records_table", "--measure", name, str(path)]
    figures: Figures = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, choices=(100, 1_000), default=1_000)
    parser.add_argument("--measure", nargs=2, metavar=("WORK", "DIR"), help="measure one kind of work on a run")
    arguments = parser.parse_args()
    if arguments.measure:
        name, folder = arguments.measure
        print(json.dumps(measure(name, Path(folder))))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = write_synthetic_run(Path(folder) / "run", arguments.trials, [*_NAMES, *_LAYERS])
        found = {name: measure_apart(name, path) for name in _WORK}
    print(json.dumps({"records": arguments.trials * 10_000, "target": [_TARGET_S, _TARGET_MIB], **found}, indent=2))


if __name__ == "__main__":
    main()
