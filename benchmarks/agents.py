"""Agents beside what others publish for the same experiment: the table of docs/agents.md.

    python -m benchmarks.agents run [ROW...] --out DIR   # trains rows, or all; goes on where it was stopped
    python -m benchmarks.agents peer [ROW...] --out DIR  # in stable-baselines3, which must be installed, where it can
    python -m benchmarks.agents table --out DIR          # what is there, as Markdown
    python -m benchmarks.agents short --out DIR          # two rows in a minute: whether the agents learn at all

Each row is a run directory ``DIR/ROW``, one population on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from benchmarks.agent_peer import train_peer
from benchmarks.agent_rows import ROWS, Row
from benchmarks.agent_table import reached, table
from plasticbench.platform.cluster.connection import prepare_environment
from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.rundir import RunDirectory

PEER_ROWS = tuple(name for name, row in ROWS.items() if row.peer is not None)
_SMALL = {"kind": "mlp", "hidden": [64, 64], "initializer": "torch_default"}
_SMALL_SAC = {"actor_network": _SMALL, "critic_network": _SMALL, "batch_rows": 128}
_FAST = {"learning_rate": 1.0e-3, "temperature_learning_rate": 1.0e-3}
_SAC = ROWS["sac_pendulum"]
SHORT: Mapping[str, tuple[Row, float]] = {
    "cleanrl_cartpole": (replace(ROWS["cleanrl_cartpole"], budget_steps=50_000, seeds=2), 100.0),
    "sac_pendulum": (
        replace(_SAC, agent={**_SAC.agent, **_SMALL_SAC, **_FAST}, budget_steps=5_000, every_steps=500, seeds=2),
        -400.0,
    ),
}
"""Rows in short form, and the mean return that they must reach: far from random play, which has 22 and -1231."""


def train(name: str, row: Row, out: Path) -> int:
    """Trains a row, or what is left of it; returns the platform's exit code."""
    prepare_environment(None)  # before the session imports Ray
    from plasticbench.platform import session

    benchmark = from_dict(row.benchmark(name))
    directory = RunDirectory(out / name)
    with directory.lock():
        directory.create(benchmark, make_plan(benchmark))
        return session.execute(directory, Console(), address=None, tracking_uri=None, quiet=False)


def failures(out: Path) -> list[str]:
    """Trains the short rows; says which of them did not learn."""
    found = []
    for name, (row, at_least) in SHORT.items():
        train(name, row, out)
        result = reached(name, out)
        mean_return = sum(result.returns) / row.seeds if result is not None else float("-inf")
        print(f"{name}: {mean_return:.1f}, at least {at_least} is wanted")
        found += [name] if mean_return < at_least else []
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "peer", "table", "short"))
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run directories")
    arguments = parser.parse_args()
    what, out = arguments.what, arguments.out
    known = {"run": tuple(ROWS), "peer": PEER_ROWS}.get(what, ())
    if unknown := [name for name in arguments.rows if name not in known]:
        parser.error(f"{what} has no row {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    if what == "table":
        print(table(out))
    elif what == "short":
        raise SystemExit(1 if failures(out) else 0)
    elif what == "peer":
        for name in arguments.rows or known:
            try:
                train_peer(name, ROWS[name], out)
            except ValueError as error:
                parser.error(str(error))
    else:
        for name in arguments.rows or known:
            if code := train(name, ROWS[name], out):  # interrupted, or failed
                raise SystemExit(code)


if __name__ == "__main__":
    main()
