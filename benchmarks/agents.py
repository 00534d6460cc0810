"""Agents beside what others publish for the same experiment: the table of docs/agents.md.

    python -m benchmarks.agents run ROW... --out DIR    # trains rows, all without a name; goes on where it was stopped
    python -m benchmarks.agents peer ROW... --out DIR   # the same in stable-baselines3, which must be installed

Each row is a run directory ``DIR/ROW``, one population on one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from benchmarks.agent_rows import ROWS, Row
from plasticbench.platform.cluster.connection import prepare_environment
from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.rundir import RunDirectory


def train(name: str, row: Row, out: Path) -> int:
    """Trains a row, or what is left of it; returns the platform's exit code."""
    prepare_environment(None)  # before the session imports Ray
    from plasticbench.platform import session

    benchmark = from_dict(row.benchmark(name))
    directory = RunDirectory(out / name)
    with directory.lock():
        directory.create(benchmark, make_plan(benchmark))
        return session.execute(directory, Console(), address=None, tracking_uri=None, quiet=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "peer"))
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.rows if name not in ROWS]:
        parser.error(f"there is no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    codes = [train(name, ROWS[name], arguments.out) for name in arguments.rows or ROWS]
    raise SystemExit(max(codes))


if __name__ == "__main__":
    main()
