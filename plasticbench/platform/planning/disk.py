"""What a run will leave on disk, counted before it starts: records, commits, MLflow's store, weights, the report.

How many of everything there will be follows from the plan; how many bytes a row of MLflow's database or a point of a
figure takes was measured. ``tests/test_disk.py`` holds the sum to a factor of two of what runs really leave.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from plasticbench.contracts.task import BoxActions, DrawnConfig, is_restorable
from plasticbench.platform.definition.benchmark import Benchmark
from plasticbench.platform.planning.going_on import replays
from plasticbench.platform.planning.lineage import fitted
from plasticbench.platform.planning.plan import Plan, Segment, Trial
from plasticbench.platform.planning.record_lines import Lines, record_lines
from plasticbench.records import Record, is_layer_value

_KEPT_COMMITS = 2
_COMMIT_BYTES = 1_500  # of a member's plain data: the states of its streams
_STATE_BYTES = 40_000  # of an Atari emulator with its frames; others are smaller
_DATABASE_BYTES = 900_000  # MLflow's schema
_METRIC_BYTES, _LAST_METRIC_BYTES, _PARAMETER_BYTES, _RUN_BYTES = 310, 250, 220, 4_000  # rows with their indices
_PAGE_BYTES, _FIGURE_BYTES, _POINT_BYTES = 30_000, 5_000, 12
_MAX_POINTS, _MAX_LINES, _BAND_SEEDS, _MAX_DETAILED_TASKS = 200, 20, 3, 30
_PIXEL_BYTES, _PICTURES_PER_S = 0.07, 15  # of a film

_ByPair = Mapping[tuple[str, str], Lines]
"""What one trial of each (task, method) writes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskUse:
    """Bytes by what they are for, and what most of the records are."""

    parts: Mapping[str, int]
    records_note: str

    @property
    def total_bytes(self) -> int:
        """Everything."""
        return sum(self.parts.values())


def disk_use(benchmark: Benchmark, plan: Plan) -> DiskUse:
    """The estimate for a plan of this benchmark, when its run takes most. A server takes MLflow's share."""
    lines = {
        (e.name, m.name): record_lines(benchmark, e, m) for e in benchmark.environments for m in benchmark.methods_on(e)
    }
    weights, films = sum(_weights_bytes(benchmark, trial) for trial in plan.trials), _films_bytes(benchmark)
    report = _report_bytes(benchmark, lines) + films * 4 // 3  # as text
    parts = {
        "records": sum(_records_bytes(lines[trial.task, trial.method], trial) for trial in plan.trials),
        "checkpoints": _checkpoints_bytes(benchmark, plan),
        "MLflow": _database_bytes(benchmark, plan, lines) + weights + report,  # it keeps copies
        "report": report,
        "weights and films": weights + films,
    }
    return DiskUse(parts=parts, records_note=_note(benchmark, lines))


def _note(benchmark: Benchmark, lines: _ByPair) -> str:
    largest = max(lines.values(), key=lambda own: own.total())
    probes = [name for name in largest if name.startswith("plasticity/")]
    share = sum(largest[name] for name in probes) / largest.total()
    period = f"{benchmark.probes.every_steps:,} {benchmark.clock.unit.rpartition(' ')[2]}"
    return f"{share:.0%} of the records are probes: {len(probes)} values every {period}"


def _records_bytes(lines: Lines, trial: Trial) -> int:
    empty = len(Record(trial.id, trial.settings["budget_steps"] // 2, "", 1 / 3, 1.7e9 + 1 / 3).to_json()) + 1
    return sum(count * (empty + len(name)) for name, count in lines.items())


def _checkpoints_bytes(benchmark: Benchmark, plan: Plan) -> int:
    """At the worst moment: where ends are removed, all prefixes wait for as many branches as can be trained at once."""
    sizes = {segment.id: _checkpoint_bytes(benchmark, segment) for segment in plan.segments}
    if benchmark.checkpoint.ends == "keep":
        return sum(sizes.values())
    waiting = {segment.start for segment in plan.segments}
    last = sorted((size for name, size in sizes.items() if name not in waiting), reverse=True)
    return sum(size for name, size in sizes.items() if name in waiting) + sum(
        last[: benchmark.execution.max_concurrent]
    )


def _checkpoint_bytes(benchmark: Benchmark, segment: Segment) -> int:
    """Two commits of networks and environments, past actions once, and the rows of replay that the segment wrote."""
    agent = fitted(benchmark.method(segment.agent_method).agent_config, benchmark.budget_steps)
    num_members = len(segment.members)
    spec = benchmark.environment(segment.task).config.spec
    network_bytes = num_members * agent.network_bytes(spec)
    length_steps = segment.to_step - segment.from_step
    filled = min(1.0, length_steps / getattr(agent, "capacity_transitions", length_steps))
    replay_bytes = filled * (segment.disk_bytes - network_bytes)
    action_bytes = 4 * len(spec.actions.low) if isinstance(spec.actions, BoxActions) else 1
    environment = benchmark.environment(segment.task)
    is_replayed = replays(benchmark, environment)
    past_bytes = length_steps * action_bytes if is_replayed else 0
    saves = is_restorable(environment.config) and not is_replayed
    state_bytes = _STATE_BYTES * environment.config.num_envs if saves else 0
    kept_bytes = _KEPT_COMMITS * (network_bytes + num_members * (_COMMIT_BYTES + state_bytes))
    return round(replay_bytes) + kept_bytes + num_members * past_bytes


def _weights_bytes(benchmark: Benchmark, trial: Trial) -> int:
    if benchmark.tracking.weights == "none":
        return 0
    spec, agent = benchmark.environment(trial.task).config.spec, benchmark.method(trial.method).agent_config
    num_weights = sum(math.prod(layer.weight_shape) for layers in agent.layers(spec).values() for layer in layers)
    return 4 * int(num_weights)


def _database_bytes(benchmark: Benchmark, plan: Plan, lines: _ByPair) -> int:
    """Rows of metrics, of each metric's last value, of parameters and of runs, those of methods included."""
    shows_all = benchmark.tracking.probes == "all"
    shown = {
        pair: [count for name, count in own.items() if shows_all or not is_layer_value(name)]
        for pair, own in lines.items()
    }
    pairs = [(trial.task, trial.method) for trial in plan.trials]
    rows = {
        _METRIC_BYTES: sum(sum(shown[pair]) for pair in pairs) + sum(2 * own["eval/score"] for own in lines.values()),
        _LAST_METRIC_BYTES: sum(len(shown[pair]) for pair in pairs),
        _PARAMETER_BYTES: sum(_count(trial.settings) for trial in plan.trials)
        + len(lines) * _count(plan.trials[0].settings),
        _RUN_BYTES: len(plan.trials) + len(lines) + 1,
    }
    return _DATABASE_BYTES + sum(row_bytes * count for row_bytes, count in rows.items())


def _count(settings: object) -> int:
    return sum(map(_count, settings.values())) if isinstance(settings, dict) else 1


def _report_bytes(benchmark: Benchmark, lines: _ByPair) -> int:
    """Figures with a centre, faint runs and both sides of a band for each method; with many tasks, of scores alone."""
    num_tasks, num_seeds = len(benchmark.environments), len(benchmark.seeds)
    curves = 1 + min(num_seeds, _MAX_LINES) + (2 if num_seeds >= _BAND_SEEDS else 0)
    points: Counter[tuple[str, str]] = Counter()
    for (task, _), own in lines.items():
        for name, count in own.items():
            if _is_drawn(name) and (num_tasks <= _MAX_DETAILED_TASKS or name == "eval/score"):
                points[task, name] += count if count <= _MAX_POINTS else _MAX_POINTS // 2
    figures = len(points) + 2 * num_tasks
    return _PAGE_BYTES + _FIGURE_BYTES * figures + _POINT_BYTES * curves * points.total()


def _is_drawn(name: str) -> bool:
    if name.startswith("plasticity/"):
        return not is_layer_value(name)
    return name.startswith("loss/") or name in ("eval/score", "eval/return", "train/return", "q/bound_ratio")


def _films_bytes(benchmark: Benchmark) -> int:
    """One film of each task and method."""
    if (pictures := benchmark.pictures) is None:
        return 0
    configs = [one.config for one in benchmark.environments if isinstance(one.config, DrawnConfig)]
    shots = sum(pictures.num_steps / max(1, round(1 / (_PICTURES_PER_S * config.step_s))) for config in configs)
    return round(shots * pictures.width * pictures.height * _PIXEL_BYTES) * len(benchmark.methods)
