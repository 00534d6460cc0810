"""What a commit costs, on a disk and in an object store: `python benchmarks/commits.py [URI]` prints JSON.

Without a URI the object store is a server on loopback, whose requests take a few milliseconds each.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.segment import SegmentRun

NUM_COMMITS, NUM_STEPS = 9, 40


def benchmark(num_seeds: int, num_methods: int) -> dict[str, Any]:
    """A population of ``num_seeds`` members that stand for ``num_methods`` trials each."""
    methods = {f"shrink{n}": {"kind": "shrink_perturb", "keep": 0.5 + 0.01 * n} for n in range(num_methods)}
    return {
        "name": "commits",
        "environments": [{"kind": "classic", "task": "CartPole-v1", "num_envs": 4}],
        "agent": {"kind": "dqn", "network": {"kind": "mlp", "hidden": [128, 128]}, "capacity_transitions": 100_000},
        "methods": methods,
        "resets": {"at": [0.5]},
        "seeds": num_seeds,
        "budget_steps": 100_000,
        "evaluation": {"every_steps": 50_000, "episodes": 1, "num_envs": 1},
        "probes": {"kinds": []},
        "records": {"every_steps": 40},
    }


def ms_per_commit(path: Any, num_seeds: int, num_methods: int) -> float:
    """Median over commits with a few records each."""
    data = from_dict(benchmark(num_seeds, num_methods))
    plan = make_plan(data)
    RunDirectory(path).create(data, plan)
    run = SegmentRun(path, plan.segments[0].id)
    course, times_ms = run._trainer.advance(), []
    for _ in range(NUM_COMMITS):
        for records in itertools.islice(course, NUM_STEPS):
            run._write(records)
        began = time.perf_counter()
        run._commit()
        times_ms.append(1000 * (time.perf_counter() - began))
    return round(statistics.median(times_ms), 1)


def server() -> str:
    """A bucket of an S3-compatible server on loopback."""
    from moto.server import ThreadedMotoServer

    from plasticbench import storage

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    started = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    os.environ |= {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    storage.location("s3://commits").mkdir()
    return "s3://commits/run"


def main() -> None:
    """Prints milliseconds per commit by storage and number of trials."""
    from plasticbench import storage

    store = storage.connect(sys.argv[1] if len(sys.argv) > 1 else server())
    found = {}
    for num_seeds, num_methods in ((1, 1), (5, 4), (16, 10)):
        label = f"{num_seeds * num_methods}_trials"
        with tempfile.TemporaryDirectory() as folder:
            found[f"disk_ms_{label}"] = ms_per_commit(Path(folder), num_seeds, num_methods)
        found[f"object_store_ms_{label}"] = ms_per_commit(store / label, num_seeds, num_methods)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
