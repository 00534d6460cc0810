"""Writes small run directories in the format of a real run: ``plan.json`` and ``records/<trial id>.jsonl``."""

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from plasticbench.records import Record, RecordWriter

EVENT_STEP, BUDGET_STEPS = 50, 100
EVALUATED_STEPS = tuple(range(10, 101, 10))


def trial(task: str, method: str, seed: int, **changes: Any) -> dict[str, Any]:
    """One entry of a plan's trials."""
    settings = {
        "environment": {"kind": "classic", "task": task},
        "agent": {"kind": "dqn", "network": {"kind": "mlp", "hidden": [64, 64]}},
        "method": {"kind": method} | ({"iterations": 5} if method == "fire" else {}),
        "schedule": {} if method == "none" else {"at": [0.5]},
        "evaluation": {"every_steps": 10, "episodes": 5},
    }
    fields = {
        "id": f"{task}--{method}--s{seed}".lower(),
        "task": task,
        "method": method,
        "seed": seed,
        "reset_steps": [] if method == "none" else [EVENT_STEP],
        "change_steps": [EVENT_STEP],
        "score_source": "0 is random play, 1 is the solved threshold.",
        "settings": settings,
    }
    return copy.deepcopy(fields | changes)


def write_run(
    path: Path,
    scores: Mapping[tuple[str, str], list[float]],
    *,
    budget_steps: int = BUDGET_STEPS,
    last_step: Callable[[str, str, int], int] = lambda task, method, seed: BUDGET_STEPS,
    **changes: Any,
) -> Path:
    """A run with one constant score per seed for each (task, method); ``last_step`` says where a trial ends."""
    trials = [trial(task, m, seed, **changes) for (task, m), own in scores.items() for seed in range(len(own))]
    for entry in trials:
        task, method, seed = entry["task"], entry["method"], entry["seed"]
        score, end = scores[task, method][seed], last_step(task, method, seed)
        writer = RecordWriter(path / "records" / f"{entry['id']}.jsonl", committed_bytes=0)
        writer.write(record for step in EVALUATED_STEPS if step <= end for record in _records(entry["id"], step, score))
        writer.sync()
        writer.close()
    plan = {"format": 1, "name": "tiny", "description": "", "version": "0.1.0", "budget_steps": budget_steps}
    path.mkdir(parents=True, exist_ok=True)
    versions = {"plasticbench": "0.1.0", "python": "3.11.7"}
    (path / "plan.json").write_text(json.dumps(plan | {"versions": versions, "trials": trials, "segments": []}))
    return path


def _records(trial_id: str, step: int, score: float) -> list[Record]:
    after_event = [("reset/after/online/dormant_ratio", 0.1)] if step == EVENT_STEP else []
    values = [
        ("eval/return", 100 * score),
        ("eval/score", score),
        ("plasticity/online/dormant_ratio", 0.3 + step / 1000),
        ("plasticity/online/dormant_ratio/fc1", 0.4),
        ("plasticity/target/weight_norm", 12.0),
        ("loss/td", float("nan") if step == 10 else 0.5),
        *after_event,
    ]
    return [Record(trial_id, step, name, value, 1.7e9 + step) for name, value in values]
