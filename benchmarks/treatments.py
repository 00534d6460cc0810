"""What each kind costs at an update: its time over that of ``none``, and how long its events take.

    python -m benchmarks.treatments                           # all kinds, about half an hour on an idle core
    python -m benchmarks.treatments --kinds redo muon --repeats 3

DQN with batches of 32 on one thread: an MLP 2x128 with M=1 and M=10 members, and the MinAtar network with M=1. A kind
and ``none`` take turns, so that a busy machine slows both; shown is the median of the ratios of CPU time. What a
kind cannot be without, both have. Prints a table; exits with 1 if a treatment or an optimizer that is no
exception costs more than the limit. Structures make another network of it, so there is no limit for them.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.updates import VECTOR, filled_agent, rate
from plasticbench import plugins
from plasticbench.agents import dqn
from plasticbench.contracts.task import DiscreteActions, EnvSpec
from plasticbench.contracts.treatment import FAMILIES, Part, hooks_of
from plasticbench.learning.networks import minatar_cnn, mlp

LIMIT = 1.5
COMPANIONS = {"plasticity_injection": "injection_heads"}
"""Structures that a kind cannot be without, where that is not ``layer_norm``."""

PLANES = EnvSpec(obs_shape=(4, 10, 10), obs_dtype="float32", actions=DiscreteActions(count=6))
TASKS: dict[str, tuple[Any, EnvSpec, int]] = {
    "MLP M=1": (mlp.Config(hidden=(128, 128)), VECTOR, 1),
    "MLP M=10": (mlp.Config(hidden=(128, 128)), VECTOR, 10),
    "MinAtar M=1": (minatar_cnn.Config(), PLANES, 1),
}
FILLED_STEPS = 400


def part(kind: str) -> Part:
    """A part with the defaults of its kind."""
    family = next(name for name in FAMILIES if name == plugins.find(kind, FAMILIES))
    return Part(family=family, kind=kind, config=plugins.load(family, kind).Config(), id=kind)


def beside(kind: str, task: str) -> list[Part]:
    """What a kind cannot be without, which ``none`` has too."""
    network, spec, _ = TASKS[task]
    try:
        getattr(part(kind).config, "fits", lambda layers: None)(network.layers(spec.obs_shape, spec.actions.count))
    except ValueError:
        return [part(COMPANIONS.get(kind, "layer_norm"))]
    return []


def agent_of(parts: list[Part], task: str) -> dqn.DQN:
    """A population in which every member has the parts, on a replay of chance."""
    network, spec, members = TASKS[task]
    config = dqn.Config(network=network, batch_rows=32, capacity_transitions=1_000)
    return filled_agent(config, spec, members, FILLED_STEPS, [parts] * members)


def cost(kind: str, task: str, repeats: int, seconds: float) -> float:
    """Time of an update over that of ``none``."""
    needed = beside(kind, task)
    treated, plain = (_updating(agent_of(parts, task)) for parts in ([*needed, part(kind)], needed))
    for update in (treated, plain):
        rate(update, seconds)  # the first calls are slow, whatever they do

    def ratio() -> float:
        return rate(plain, seconds, time.process_time) / rate(treated, seconds, time.process_time)

    return statistics.median(ratio() for _ in range(repeats))


def event_ms(kind: str, task: str, repeats: int) -> float | None:
    """Milliseconds of one event of all members, or ``None`` for a kind that has none."""
    chosen = part(kind)
    if chosen.family != "treatments" or "event" not in hooks_of(chosen.config.build()):
        return None
    needed = beside(kind, task)
    agent = agent_of([*needed, chosen], task)
    agent.update(1)
    members, index = list(range(len(agent.streams))), len(needed)
    batch = agent.probe_batch(np.full((len(members), 256), 0.5))
    times = []
    for step in range(2, repeats + 2):
        began = time.perf_counter()
        agent.treat(members, index, step, batch)
        times.append(1_000 * (time.perf_counter() - began))
    return statistics.median(times)


def _updating(agent: dqn.DQN) -> Callable[[], Any]:
    clock = itertools.count(1)
    return lambda: agent.train(next(clock))


def is_exception(kind: str) -> bool:
    """Whether its file says that it costs more than the limit, and why, as ``COSTS``."""
    return hasattr(plugins.load(plugins.find(kind, FAMILIES), kind), "COSTS")


def verdict(kind: str, costs: list[float]) -> str:
    """What the table says beside a kind that costs more than the limit; empty for all others."""
    if max(costs) <= LIMIT or kind in plugins.names("structures"):
        return ""
    return "stated exception" if is_exception(kind) else f"over {LIMIT}"


def rows(kinds: list[str], repeats: int, seconds: float) -> Iterator[tuple[str, list[float], float | None, str]]:
    """Kind, its cost on each task, milliseconds of an event on the first, and what is to be said of it."""
    for kind in kinds:
        costs = [cost(kind, task, repeats, seconds) for task in TASKS]
        yield kind, costs, event_ms(kind, next(iter(TASKS)), repeats), verdict(kind, costs)


def main() -> None:
    """Measures, and prints a row as soon as it is known."""
    known = [name for family in FAMILIES for name in plugins.names(family) if name != "none"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=known, choices=known, metavar="KIND")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each repeat, for the kind and for none")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| kind | {' | '.join(TASKS)} | event, ms | |\n| --- |{' ---: |' * (len(TASKS) + 1)} --- |")
    over = []
    for kind, costs, event, said in rows(args.kinds, args.repeats, args.seconds):
        shown = ["" if event is None else f"{event:.1f}", said]
        print(f"| {kind} | {' | '.join([*(f'{ratio:.2f}' for ratio in costs), *shown])} |", flush=True)
        over += [kind] if said and not is_exception(kind) else []
    if over:
        raise SystemExit(f"More than {LIMIT} times the update of none, and no exception: {', '.join(over)}")


if __name__ == "__main__":
    main()
