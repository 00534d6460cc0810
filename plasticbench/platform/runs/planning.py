"""``plasticbench plan``: what a benchmark file comes to, before anything starts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from plasticbench.cpus import usable_cpus
from plasticbench.platform.definition.clock import UPDATES
from plasticbench.platform.runs.options import AsJson, Config, Overrides
from plasticbench.platform.terminal import err, out, people_errors, warn

if TYPE_CHECKING:
    from plasticbench.platform.definition.benchmark import Benchmark
    from plasticbench.platform.planning.disk import DiskUse
    from plasticbench.platform.planning.going_on import Replay
    from plasticbench.platform.planning.plan import Plan
    from plasticbench.platform.training.timing import TimeEstimate

_LABELS = {
    "memory_bytes": "memory of the largest population",
    "gpu_memory_bytes": "GPU memory of the largest population",
    "memory_side_by_side_bytes": "memory of all that can run side by side",
    "gpu_memory_side_by_side_bytes": "GPU memory of all that can run side by side",
}


def plan(
    config: Config,
    set_: Overrides = None,
    timed: Annotated[bool, typer.Option("--time", help="Measure for some seconds how long it takes here.")] = False,
    as_json: AsJson = False,
) -> None:
    """Shows trials, populations, segments and shared prefixes of a benchmark file, and what they cost."""
    with people_errors():
        from plasticbench.platform.definition.reading import load
        from plasticbench.platform.planning.disk import disk_use
        from plasticbench.platform.planning.frames import note
        from plasticbench.platform.planning.going_on import going_on_text, longest_replay
        from plasticbench.platform.planning.plan import make_plan, summary

        benchmark = load(config, set_ or [], warn)
        made = make_plan(benchmark)
        facts, disk, taken = summary(made), disk_use(benchmark, made), None
        if timed:
            taken = _measured(benchmark, made)
    if as_json:
        typer.echo(_as_json(made, facts, disk, taken, longest_replay(benchmark, made)))
        return
    out.print(_table(made))
    costs = (*_costs(facts, disk, note(benchmark)), going_on_text(benchmark, made))
    for line in (*_counts(made, facts), *costs, *(_times(taken, made, benchmark) if taken else ())):
        out.print(line, highlight=False, markup=False, soft_wrap=True)
    if raw := dict.fromkeys(trial.task for trial in made.trials if not trial.has_references):
        out.print("ranked by raw return, without reference returns:", ", ".join(raw), highlight=False, markup=False)


def _measured(benchmark: Benchmark, made: Plan) -> TimeEstimate:
    """Inside a Ray of its own where an agent can be built nowhere else."""
    from plasticbench.platform.cluster.connection import own_node
    from plasticbench.platform.training.timing import estimate

    needs_ray = any(method.agent_config.demands.inside_ray for method in benchmark.methods)
    with own_node() if needs_ray else nullcontext():
        return estimate(benchmark, made, usable_cpus(), lambda text: err.print(text, highlight=False))


def _as_json(
    made: Plan, facts: Mapping[str, Any], disk: DiskUse, taken: TimeEstimate | None, replay: Replay | None
) -> str:
    data = json.loads(made.to_json())
    for shown, segment in zip(data["segments"], made.segments, strict=True):
        shown["gpu_memory_bytes"] = segment.gpu_memory_bytes
    left = {"disk_bytes": disk.total_bytes, "disk_parts_bytes": dict(disk.parts), "records_note": disk.records_note}
    time = (
        {} if taken is None else {"time": asdict(taken) | {"costs": {k: v._asdict() for k, v in taken.costs.items()}}}
    )
    again = {"longest_replay": None if replay is None else asdict(replay)}
    return json.dumps(data | {"summary": {**facts, **left, **again, **time}}, indent=1)


def _table(made: Plan) -> Table:
    heads = ("#", "population", "members", "starts from", "CPUs", "GPUs", "memory", "GPU memory")
    table = Table(*heads, box=None, title=f"{made.name}: segments")
    table.columns[1].overflow = "fold"
    number = {segment.id: str(index) for index, segment in enumerate(made.segments, start=1)}
    for segment in made.segments:
        start = f"{_one(made.clock)} 0" if segment.start is None else f"#{number[segment.start]}"
        sizes = (_size(segment.memory_bytes), _size(segment.gpu_memory_bytes))
        resources = (f"{segment.num_cpus:g}", f"{segment.num_gpus:g}", *sizes)
        table.add_row(number[segment.id], segment.id, str(len(segment.members)), start, *resources)
    return table


def _one(clock: str) -> str:
    """Of ``agent steps`` or ``updates``."""
    return clock.rpartition(" ")[2].removesuffix("s")


def _counts(made: Plan, facts: Mapping[str, Any]) -> Iterator[str]:
    tasks, methods = (len({getattr(trial, name) for trial in made.trials}) for name in ("task", "method"))
    seeds = {trial.seed for trial in made.trials}
    yield f"trials: {facts['trials']:,} ({_of(tasks, 'task')}, {_of(methods, 'method')}, {_of(len(seeds), 'seed')})"
    yield f"segments: {facts['segments']:,}"
    yield f"populations side by side: {facts['populations_side_by_side']:,}"
    unit = f"member {_one(made.clock)}s"
    yield f"{unit}: {facts['member_steps']:,}"
    yield f"{unit} without forks: {facts['member_steps_without_forks']:,}"
    yield f"saved by forks: {facts['saved_by_forks']:.1%}"


def _of(count: int, name: str) -> str:
    return f"{count:,} {name}{'s' * (count != 1)}"


def _costs(facts: Mapping[str, Any], disk: DiskUse, assumed: str) -> Iterator[str]:
    yield from (f"{label}: {_size(facts[name])}" for name, label in _LABELS.items())
    yield f"CPUs that can be used here: {usable_cpus()}"
    yield f"disk: about {_size(disk.total_bytes)}: " + ", ".join(f"{k} {_size(v)}" for k, v in disk.parts.items())
    yield from (f"    {line}" for line in (disk.records_note, assumed) if line)


def _times(taken: TimeEstimate, made: Plan, benchmark: Benchmark) -> Iterator[str]:
    from plasticbench.platform.heartbeat import duration

    many = f", {taken.side_by_side} populations at a time" if taken.side_by_side > 1 else ""
    yield f"time: about {duration(taken.seconds)} here, as busy as it is now{many}; start-up and commits come on top"
    agents = {segment.id: segment.agent_method for segment in made.segments}
    for segment, costs in taken.costs.items():
        round_steps = benchmark.method(agents[segment]).agent_config.demands.round_steps
        what = "a step of all environments" if round_steps == 1 else f"{round_steps:,} steps of all environments"
        what = "an update of all members" if made.clock == UPDATES.unit else what
        parts = {what: costs.stride_s, "an evaluation": costs.evaluation_s, "all probes": costs.probes_s}
        yield f"    {segment}: " + ", ".join(f"{_milliseconds(seconds)} {part}" for part, seconds in parts.items())


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.3g} ms" if seconds < 1 else f"{seconds:,.1f} s"


def _size(num_bytes: int) -> str:
    if not num_bytes:
        return "none"
    return f"{num_bytes / 2**20:,.1f} MiB" if num_bytes < 10 * 2**20 else f"{num_bytes / 2**20:,.0f} MiB"
