"""Benchmarks that train for real in about a second, and what tests ask of their records."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from plasticbench import plugins
from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.plan import Plan, make_plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.segment import SegmentRun
from plasticbench.records import read_records


def small(**changes: Any) -> dict[str, Any]:
    """CartPole with shuffled inputs, two methods and two seeds over 400 steps."""
    data = {
        "name": "small",
        "environments": [
            {
                "kind": "classic",
                "task": "CartPole-v1",
                "num_envs": 2,
                "scenario": {"kind": "observation_permutation", "at": [0.5], "replay": "clear"},
            }
        ],
        "agent": {
            "kind": "dqn",
            "network": {"kind": "mlp", "hidden": [16, 16]},
            "learning_starts_steps": 50,
            "capacity_transitions": 300,
            "target_period_steps": 40,
        },
        "methods": {"none": {"kind": "none"}, "fire": {"kind": "fire"}},
        "resets": {"at": [0.5]},
        "seeds": 2,
        "budget_steps": 400,
        "evaluation": {"every_steps": 100, "episodes": 2, "num_envs": 2},
        "probes": {"every_steps": 100, "batch_rows": 64, "kinds": ["dormant_ratio", "weight_norm", "sfe"]},
        "records": {"every_steps": 50},
        "checkpoint": {"every_s": 1000.0},
    }
    return data | changes


def prepare(path: Path, data: dict[str, Any]) -> Plan:
    """A run directory that is ready to run."""
    benchmark = from_dict(data)
    plan = make_plan(benchmark)
    RunDirectory(path).create(benchmark, plan)
    return plan


def run_all(path: Path, data: dict[str, Any]) -> Plan:
    """Runs every segment in this process."""
    plan = prepare(path, data)
    for segment in plan.segments:
        assert SegmentRun(path, segment.id).run()
    return plan


def facts(path: Path, plan: Plan) -> dict[tuple[str, int], list[tuple[int, str, str]]]:
    """Every record of every (method, seed), without what depends on the wall clock; values as exact text."""
    return {
        (trial.method, trial.seed): [
            (record.step, record.name, repr(record.value))
            for record in read_records(RunDirectory(path).record_file(trial.id))
            if not record.name.startswith(("speed/", "system/"))
        ]
        for trial in plan.trials
    }


def die_behind_the_last_commit(run_dir, segment_id):
    """Trains a segment until its disk holds records that no commit names."""
    dying = SegmentRun(run_dir, segment_id)
    for step, records in enumerate(dying._trainer.advance()):
        dying._write(records)
        if step == 40:
            dying._commit()
        if step == 70:
            break
    for writer in dying._writers.values():
        writer.sync()
    dying._trainer.close()


def offer(monkeypatch: pytest.MonkeyPatch, group: str, **configs: type) -> None:
    """Plug-ins of a group, by kind, as an installed package offers them."""
    entries = {kind: f"offered_{kind}" for kind in configs}
    for kind, config in configs.items():
        module = ModuleType(entries[kind], "A plug-in of a test.")
        module.Config = config  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
    installed = plugins._installed
    monkeypatch.setattr(plugins, "_installed", lambda asked: entries if asked == group else installed(asked))
