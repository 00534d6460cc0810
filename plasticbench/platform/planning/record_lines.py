"""Which records the trials of a benchmark will write, and how often: names and counts, before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch

from plasticbench.contracts.network import LayerView, NetworkView
from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.wiring import wiring
from plasticbench.platform.definition.benchmark import Benchmark, Environment
from plasticbench.platform.definition.method import Method

Lines = Counter[str]
"""How many records of each name one trial writes."""

_TRAINING = (
    "train/return",
    "train/length",
    "speed/steps_per_s",
    "system/process_cpu_percentage",
    "system/process_peak_memory_megabytes",
)
_UPDATES = ("q/mean", "q/bound_ratio", "policy/entropy", "policy/temperature")
_EVALUATION = ("eval/return", "eval/score", "eval/length", "eval/episodes")
_LIBRARY_LAYERS = [LayerSpec(f"layer{n}", "encoder", (2, 2)) for n in range(3)]  # of networks that a library builds


def record_lines(benchmark: Benchmark, environment: Environment, method: Method) -> Lines:
    """Of one trial; resets that a probe triggers are not known in advance, and not counted.

    Agents name what their updates report as they like: the names here stand for as many of about that length.
    """
    budget_steps, agent = benchmark.budget_steps, method.agent_config
    stride_steps = method.stride_steps(environment.config.num_envs)

    def times(every_steps: int) -> int:
        return max(1, budget_steps // max(every_steps, stride_steps))

    records, trained = times(benchmark.records.every_steps), agent.trained_networks
    updates = round(records * max(0.0, 1 - agent.learning_starts_steps / budget_steps))
    networks = _networks(environment, method)
    counts = dict.fromkeys(_TRAINING, records) | dict.fromkeys(_EVALUATION, times(benchmark.evaluation.every_steps))
    counts |= dict.fromkeys([f"loss/{network}" for network in trained], updates)
    counts |= dict.fromkeys(_UPDATES[: 1 + len(trained)], updates)
    events = len(method.reset_steps(budget_steps, environment.config.num_envs))
    shown: Collection[str] = getattr(agent, "shows", ())
    for probe in (chosen.config for chosen in benchmark.probes.probes):
        own = getattr(probe, "every_steps", None)
        counts |= dict.fromkeys(
            _probe_names(probe, networks, "plasticity", shown), times(own or benchmark.probes.every_steps)
        )
        for prefix in ("reset/before", "reset/after") if own is None else ():
            counts |= dict.fromkeys(_probe_names(probe, networks, prefix, shown), events)
    return +Lines(counts)


def _networks(environment: Environment, method: Method) -> dict[str, Sequence[LayerSpec]]:
    """The layers of each network that probes see, by the name under which they see it."""
    agent = method.agent_config
    layers: Mapping[str, Sequence[LayerSpec]] = agent.layers(environment.config.spec) or {"": _LIBRARY_LAYERS}
    first = next(iter(layers.values()))
    return {name: layers.get(name.removesuffix("_target"), first) for name in agent.networks}


def _probe_names(
    probe: Any, networks: Mapping[str, Sequence[LayerSpec]], prefix: str, shown: Collection[str]
) -> Iterator[str]:
    """What a probe finds to measure in networks of the same layers that are two units wide.

    One that needs more than layers counts with a total for each network that is trained.
    """
    needs = getattr(probe, "needs", None)
    for network, specs in networks.items():
        if needs is not None:
            yield from [f"{prefix}/{network}/{probe.label}"] if needs in shown and "target" not in network else ()
            continue
        view = _small_view(network, specs, is_after_reset=prefix == "reset/after")
        for layer in probe.build().measure(view):
            yield f"{prefix}/{network}/{probe.label}" + (f"/{layer}" if layer else "")


def _small_view(name: str, specs: Sequence[LayerSpec], is_after_reset: bool) -> NetworkView:
    weight, activation, wires = torch.ones(1, 2, 2), torch.ones(1, 4, 2), wiring(specs)
    of_online = None if name.endswith("target") else weight
    layers = tuple(
        LayerView(
            name=spec.name,
            weight=weight,
            activation=activation if wires[spec.name].active_at is not None else None,
            nonlinearity=wires[spec.name].activation,
            initial_weight=weight,
            previous_weight=of_online if is_after_reset else None,
            weight_gradient=of_online,
            weight_update=of_online,
        )
        for spec in specs
        if not spec.is_norm
    )
    return NetworkView(name=name, layers=layers, features=activation)
