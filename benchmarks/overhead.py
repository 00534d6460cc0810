"""What the platform costs: the quickstart under Ray, records, MLflow and probes, against its bare training loop.

    python benchmarks/overhead.py [--budget-steps 8000] [--rounds 2]

Bare: one process per seed group runs the same segments, with evaluation but without probes, records, commits, Ray or
MLflow. Both sides count the seconds in which populations train; the platform's start-up and end are given apart. Prints
one JSON object; the two sides alternate, because machines are noisy.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from plasticbench.platform.benchmark import Benchmark, load
from plasticbench.platform.plan import Plan, Segment, make_plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.trainer import Trainer
from plasticbench.records import read_records

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.yaml"


def chains(plan: Plan) -> list[list[Segment]]:
    """Segments that follow each other: what one core trains."""
    found: dict[str, list[Segment]] = {}
    for segment in plan.segments:
        chain = found.get(segment.start or "", [])
        chain.append(segment)
        found[segment.id] = chain
    return [chain for key, chain in found.items() if chain[0].id == key]


def bare_chain(benchmark: Benchmark, chain: list[Segment], seconds: Any) -> None:
    torch.set_num_threads(1)
    silent = replace(benchmark, probes=replace(benchmark.probes, probes=()))
    total, before = 0.0, None
    for segment in chain:
        trainer = Trainer(silent, segment)
        if before is None:
            trainer.start()
        else:
            rows = before.agent.replay.oldest_row
            chunk = {name: tensor[list(segment.parents)] for name, tensor in before.agent.replay.export(rows).items()}
            tensors, plain = before.state_dict()
            trainer.load_state_dict(tensors, plain, [(rows, chunk)], step=before.step, parents=segment.parents)
        start = time.perf_counter()
        for _ in trainer.advance():
            pass
        total += time.perf_counter() - start
        before = trainer
    seconds.put(total)


def bare(benchmark: Benchmark, plan: Plan) -> float:
    context = multiprocessing.get_context("spawn")
    seconds = context.Queue()
    workers = [context.Process(target=bare_chain, args=(benchmark, chain, seconds)) for chain in chains(plan)]
    for worker in workers:
        worker.start()
    total = sum(seconds.get() for _ in workers)
    for worker in workers:
        worker.join()
    return float(total)


def platform(overrides: list[str], plan: Plan) -> tuple[float, float]:
    """Training seconds of all populations, and seconds of the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "plasticbench.platform", "run", str(CONFIG), "--out", str(out), "--quiet"]
        start = time.perf_counter()
        subprocess.run([*command, *(part for one in overrides for part in ("--set", one))], check=True)
        whole = time.perf_counter() - start
        trained = 0.0
        for segment in plan.segments:
            trial = segment.members[0].trials[0]
            inside = [r for r in read_records(RunDirectory(out).record_file(trial)) if r.step > segment.from_step]
            times = [r.time for r in inside if r.step <= segment.to_step]
            first_step = min(r.step for r in inside)
            # The first record comes one period into the segment; the missing stretch is filled in at the same speed.
            trained += (
                (max(times) - min(times)) * (segment.to_step - segment.from_step) / (segment.to_step - first_step)
            )
        return trained, whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget-steps", type=int, default=8_000)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    overrides = [f"budget_steps={args.budget_steps}"]
    benchmark = load(CONFIG, overrides)
    plan = make_plan(benchmark)
    sides = [(bare(benchmark, plan), *platform(overrides, plan)) for _ in range(args.rounds)]
    best_bare, best_platform = min(side[0] for side in sides), min(side[1] for side in sides)
    print(
        json.dumps(
            {
                "benchmark": "overhead",
                "budget_steps": args.budget_steps,
                "bare_training_s": round(best_bare, 1),
                "platform_training_s": round(best_platform, 1),
                "overhead": round(best_platform / best_bare - 1, 3),
                "whole_command_s": round(min(side[2] for side in sides), 1),
                "rounds": [[round(value, 1) for value in side] for side in sides],
            }
        )
    )


if __name__ == "__main__":
    main()
