"""What a plan says of the disk, held to what runs leave there: records, commits, MLflow's store, weights, report."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from small_runs import run_all, small

from plasticbench.analysis.report import write_report
from plasticbench.platform.definition.reading import from_dict, load
from plasticbench.platform.planning.disk import DiskUse, disk_use
from plasticbench.platform.planning.frames import note, raw_bytes, saved_bytes
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.planning.record_lines import record_lines
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.tracking.mirror import Mirror
from plasticbench.platform.tracking.tracker import committed_bytes
from plasticbench.records import read_records

CONFIGS = Path(__file__).parents[1] / "configs"


def sac() -> dict[str, Any]:
    """SAC on a pendulum, two methods and two seeds, probed often."""
    return small(
        environments=[{"kind": "classic", "task": "Pendulum-v1", "num_envs": 2}],
        agent={"kind": "sac", "actor_network": {"kind": "mlp", "hidden": [64, 64]}}
        | {"critic_network": {"kind": "mlp", "hidden": [64, 64]}, "replay_ratio": 0.1}
        | {"learning_starts_steps": 100, "capacity_transitions": 2000, "batch_rows": 32},
        budget_steps=2000,
        probes={"every_steps": 50, "batch_rows": 64},
        checkpoint={"every_s": 0.5},
    )


def ppo() -> dict[str, Any]:
    """PPO, whose past actions weigh more than its rollouts and networks in the end."""
    network = {"kind": "mlp", "hidden": [8]}
    agent = {"kind": "ppo", "network": network, "critic_network": network, "rollout_steps": 100, "epochs": 1}
    data = small(agent=agent, budget_steps=8000, checkpoint={"every_s": 0.5})
    return data | {"evaluation": {"every_steps": 1000, "episodes": 2, "num_envs": 2}}


def quickstart() -> dict[str, Any]:
    """A tenth of its steps and of its updates per step, with as many measurements."""
    data = yaml.safe_load((CONFIGS / "quickstart.yaml").read_text())
    data["agent"] |= {"replay_ratio": 0.1, "learning_starts_steps": 300}
    data |= {"budget_steps": 4000, "seeds": 3, "probes": {"every_steps": 40, "batch_rows": 256}}
    return data | {"evaluation": {"every_steps": 100, "episodes": 2, "num_envs": 2}, "checkpoint": {"every_s": 0.5}}


def finished(path: Path, data: dict[str, Any]) -> DiskUse:
    """Trains, mirrors and reports as ``plasticbench run`` does; returns what the plan had said."""
    plan = run_all(path, data)
    mirror = Mirror(path, None)
    mirror.pump(committed_bytes(RunDirectory(path), plan.segments))
    mirror.finish_all({trial.id: "FINISHED" for trial in plan.trials})
    mirror.log_report(write_report(path).parent)
    return disk_use(from_dict(data), plan)


def size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


@pytest.mark.parametrize(
    "data",
    [
        small,
        pytest.param(ppo, marks=pytest.mark.slow),
        pytest.param(sac, marks=pytest.mark.slow),
        pytest.param(quickstart, marks=pytest.mark.slow),
    ],
)
def test_a_plan_says_within_a_factor_of_two_what_a_run_leaves(tmp_path, data):
    run = tmp_path / "run"
    said = finished(run, data())
    assert size(run) / 2 < said.total_bytes < 2 * size(run)
    left = {part: size(run / part) for part in ("records", "checkpoints", "report")}
    left["MLflow"] = size(run / "mlflow.db") + size(run / "mlartifacts")
    ratios = {part: said.parts[part] / actual for part, actual in left.items()}
    assert 0.8 < ratios["records"] < 1.25
    assert all(0.5 < ratio < 2 for ratio in ratios.values()), ratios


@pytest.mark.parametrize("data", [small, pytest.param(sac, marks=pytest.mark.slow)])
def test_the_records_that_a_plan_names_are_those_that_a_trial_writes(tmp_path, data):
    benchmark, plan = from_dict(data()), run_all(tmp_path / "run", data())
    said = record_lines(benchmark, benchmark.environments[0], benchmark.method("fire"))
    trial = next(trial for trial in plan.trials if trial.method == "fire")
    written = {record.name for record in read_records(RunDirectory(tmp_path / "run").record_file(trial.id))}
    probes = {name for name in written if name.startswith(("plasticity/", "reset/before/", "reset/after/"))}
    assert probes == {name for name in said if name.startswith(("plasticity/", "reset/"))}
    # What updates report has stand-ins for names; what a reset itself reports is a handful of lines.
    assert len({name for name in written - probes if not name.startswith("reset/")}) == len(said.keys() - probes)


def test_probes_of_layers_are_named_as_what_fills_the_disk():
    benchmark = load(CONFIGS / "quickstart.yaml")
    said = disk_use(benchmark, make_plan(benchmark))
    assert said.records_note == "84% of the records are probes: 58 values every 400 steps"
    assert said.total_bytes > 50 * 2**20


def test_fewer_probes_and_no_weights_take_less():
    rare = {"probes": {"every_steps": 400, "batch_rows": 64, "kinds": ["weight_norm"]}, "tracking": {"weights": "none"}}
    usual, few = (from_dict(small(**changes)) for changes in ({}, rare))
    before, after = (disk_use(benchmark, make_plan(benchmark)).parts for benchmark in (usual, few))
    assert after["weights and films"] == 0 < before["weights and films"]
    assert after["records"] < 0.8 * before["records"]
    assert after["checkpoints"] == before["checkpoints"]


def test_the_atari_figure_takes_25_gb_of_disk_at_the_worst_moment_and_8_of_memory_for_frames_and_networks():
    benchmark = load(CONFIGS / "fire_atari.yaml")
    plan = make_plan(benchmark)
    assert disk_use(benchmark, plan).total_bytes < 25e9
    agent, spec = benchmark.methods[0].agent_config, benchmark.environments[0].config.spec
    raw = raw_bytes(benchmark, benchmark.environments[0], agent, 10)
    assert raw == 10 * 1_000_000 * 84 * 84
    assert agent.memory_bytes(spec, 10) - saved_bytes(raw) < 8e9
    assert note(benchmark) == "replays are compressed (execution.replay_store), by assumption to a 20th"
    assert note(load(CONFIGS / "quickstart.yaml")) == ""


def test_ends_that_are_removed_count_for_the_branches_that_can_be_trained_at_once():
    sizes = {}
    for limit in (1, 2, None):
        for ends in ("keep", "remove"):
            execution = {"members_per_population": 2, "max_concurrent": limit}
            benchmark = from_dict(small(checkpoint={"ends": ends}, execution=execution))
            sizes[limit, ends] = disk_use(benchmark, make_plan(benchmark)).parts["checkpoints"]
    assert sizes[1, "keep"] == sizes[2, "keep"] == sizes[None, "keep"] == sizes[None, "remove"]
    assert sizes[1, "remove"] < sizes[2, "remove"] == sizes[None, "remove"]


def test_replay_counts_what_a_segment_can_fill_and_no_more():
    agent = small()["agent"]
    sizes = {}
    for capacity in (300, 3_000, 300_000):
        benchmark = from_dict(small(agent=agent | {"capacity_transitions": capacity}))
        sizes[capacity] = disk_use(benchmark, make_plan(benchmark)).parts["checkpoints"]
    assert sizes[300] == pytest.approx(sizes[3_000], rel=1e-3) == pytest.approx(sizes[300_000], rel=1e-3)
