"""What the platform costs: probes, records, commits and the MLflow mirror, against the bare training loop.

    python benchmarks/overhead.py [--budget-steps 8000] [--rounds 2]

Runs the quickstart's populations in one process, bare (evaluation, but no probes, records or commits) and whole, in
turn, and then mirrors the records into a new MLflow store. Counts CPU seconds, which a busy machine distorts less than
wall-clock time. Ray is left out: its processes idle while populations train. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from plasticbench.platform.definition.reading import Benchmark, load
from plasticbench.platform.planning.plan import Plan, Segment, make_plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.tracking.mirror import Mirror
from plasticbench.platform.training.segment import SegmentRun
from plasticbench.platform.training.trainer import Trainer

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.yaml"


def chains(plan: Plan) -> list[list[Segment]]:
    """Segments that follow each other."""
    found: dict[str, list[Segment]] = {}
    for segment in plan.segments:
        chain = found.get(segment.start or "", [])
        chain.append(segment)
        found[segment.id] = chain
    return [chain for key, chain in found.items() if chain[0].id == key]


def bare(benchmark: Benchmark, plan: Plan) -> float:
    """CPU seconds of the training loops alone."""
    silent = replace(benchmark, probes=replace(benchmark.probes, probes=()))
    total = 0.0
    for chain in chains(plan):
        before: Trainer | None = None
        for segment in chain:
            trainer = Trainer(silent, segment)
            if before is None:
                trainer.start()
            else:
                replay = before.agent.replay
                chunk = {name: t[list(segment.parents)] for name, t in replay.export(replay.oldest_row).items()}
                chunks = [(replay.oldest_row, chunk)]
                trainer.load_state_dict(*before.state_dict(), chunks, step=before.step, parents=segment.parents)
            start = time.process_time()
            for _ in trainer.advance():
                pass
            total += time.process_time() - start
            before = trainer
    return total


def whole(benchmark: Benchmark, plan: Plan) -> tuple[float, float]:
    """CPU seconds of the same with probes, records and commits, and of mirroring the records to MLflow."""
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory(Path(folder) / "run")
        directory.create(benchmark, plan)
        lengths: dict[str, int] = {}
        total = 0.0
        for segment in plan.segments:
            run = SegmentRun(directory.path, segment.id)
            start = time.process_time()
            run.run()
            total += time.process_time() - start
            lengths |= run.record_bytes
        mirror = Mirror(directory.path, None)
        mirror.pump({})  # a new store's first start takes seconds once, whatever the run's length
        start = time.process_time()
        mirror.pump(lengths)
        return total, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget-steps", type=int, default=8_000)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    full = load(CONFIG)
    cadence = [f"probes.every_steps={full.probes.every_steps}", f"records.every_steps={full.records.every_steps}"]
    # Shorter than the quickstart, but looked at as often.
    benchmark = load(CONFIG, [f"budget_steps={args.budget_steps}", *cadence])
    plan = make_plan(benchmark)
    rounds = [(bare(benchmark, plan), *whole(benchmark, plan)) for _ in range(args.rounds)]
    bare_s, whole_s, mirror_s = (min(values) for values in zip(*rounds, strict=True))
    result = {
        "benchmark": "overhead",
        "budget_steps": args.budget_steps,
        "bare_training_cpu_s": round(bare_s, 2),
        "with_probes_records_commits_cpu_s": round(whole_s, 2),
        "mirror_cpu_s": round(mirror_s, 2),
        "overhead_in_training": round(whole_s / bare_s - 1, 3),
        "overhead_with_mirror": round((whole_s + mirror_s) / bare_s - 1, 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
