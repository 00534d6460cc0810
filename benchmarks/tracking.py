"""How fast the mirror fills an embedded SQLite store on one core: ``python -m benchmarks.tracking [RECORDS]``.

Prints JSON. Schema creation and imports are counted apart, as a run pays for them once.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from plasticbench.platform.tracking.mirror import Mirror
from plasticbench.platform.tracking.mlflow_store import session
from plasticbench.platform.tracking.store_uris import database_uri
from plasticbench.records import Record, RecordWriter

NUM_TRIALS = 20
METRICS = [f"plasticity/online/{probe}/fc{layer}" for probe in ("dormant_ratio_0.1", "srank") for layer in range(4)]
METRICS += ["eval/return", "loss/td"]


def make_run(run_dir: Path, num_records: int) -> dict[str, int]:
    """Writes a plan and record files, and returns their committed lengths in bytes."""
    settings = {"agent": {"kind": "dqn", "batch_size": 32, "network": {"hidden": [64, 64]}}}
    trials = [
        {"id": f"t{n}", "task": "Acrobot-v1", "method": f"m{n // 5}", "seed": n % 5, "settings": settings}
        for n in range(NUM_TRIALS)
    ]
    plan = {"name": "speed", "description": "", "version": "0", "trials": trials}
    (run_dir / "plan.json").write_text(json.dumps(plan))
    committed = {}
    for n in range(NUM_TRIALS):
        writer = RecordWriter(run_dir / "records" / f"t{n}.jsonl", 0)
        writer.write(
            Record(f"t{n}", index // len(METRICS) * 400, METRICS[index % len(METRICS)], index / 7, 1.7e9 + index * 1e-3)
            for index in range(num_records // NUM_TRIALS)
        )
        committed[f"t{n}"] = writer.sync()
        writer.close()
    return committed


def bare_records_per_cpu_s(run_dir: Path, num_records: int) -> float:
    """What MLflow itself takes: ready-made metrics in full batches to one run of a second store."""
    with session(uri := database_uri(run_dir / "bare.db")):
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        client = MlflowClient(uri)
        run = client.create_run("0").info.run_id
        metrics = [
            Metric(METRICS[index % len(METRICS)], index / 7, 1_700_000_000_000 + index, index // len(METRICS) * 400)
            for index in range(num_records)
        ]
        began = time.process_time()
        for first in range(0, num_records, 1000):
            client.log_batch(run, metrics=metrics[first : first + 1000])
        return num_records / (time.process_time() - began)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(num_records: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder)
        committed = make_run(run_dir, num_records)
        mirror = Mirror(run_dir, None)
        began = time.perf_counter()
        mirror.pump({})
        ready, cpu_began, peak_began = time.perf_counter(), time.process_time(), peak_mib()
        sent = mirror.pump(committed)
        filled, cpu_filled = time.perf_counter(), time.process_time()
        idle_records = mirror.pump(committed)
        ended = time.perf_counter()
        figures = {
            "records": sent,
            "records_per_s": round(sent / (filled - ready)),
            "records_per_cpu_s": round(sent / (cpu_filled - cpu_began)),
            "bare_mlflow_records_per_cpu_s": round(bare_records_per_cpu_s(run_dir, num_records)),
            "start_s": round(ready - began, 2),
            "idle_pump_ms": round(1000 * (ended - filled), 2),
            "idle_pump_records": idle_records,
            "memory_growth_mib": round(peak_mib() - peak_began, 1),
            "store_mib": round((run_dir / "mlflow.db").stat().st_size / 2**20, 1),
        }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
