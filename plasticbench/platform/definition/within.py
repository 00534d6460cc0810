"""Settings that have no effect within the budget, with these environments, networks, probes or other parts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from plasticbench.contracts.task import is_restorable
from plasticbench.platform.definition.benchmark import Benchmark, Environment
from plasticbench.platform.definition.effects import Effects, defaults
from plasticbench.platform.definition.feasible_parts import sections
from plasticbench.platform.definition.method import Method, Part, canonical
from plasticbench.schedules import Every, Trigger


def note_effects(benchmark: Benchmark, effects: Effects) -> None:
    """Notes for every setting whether it can change anything; of a feasible benchmark."""
    _note_sections(benchmark, effects)
    for method in benchmark.methods:
        for part, key in keyed_parts(method):
            _note_timing(benchmark, part, key, effects)
    for environment in benchmark.environments:
        for method in benchmark.methods:
            _note_agent(benchmark, environment, method, effects)
            _note_parts(benchmark, environment, method, effects)


def keyed_parts(method: Method) -> list[tuple[Part, str]]:
    """Each part with the dotted key under which its file has it."""
    return [
        (part, method.key if len(method.parts) == 1 else f"{method.key}.{i}") for i, part in enumerate(method.parts)
    ]


def twins(benchmark: Benchmark) -> Iterator[str]:
    """A line for each method that does the same as one before it."""
    first: dict[str, str] = {}
    for method in benchmark.methods:
        settings = canonical([method.settings(), method.schedule_settings(), method.agent.settings()])
        if settings in first:
            yield f"methods: {first[settings]!r} and {method.name!r} have equal settings, so they do the same"
        first.setdefault(settings, method.name)


def _note_sections(benchmark: Benchmark, effects: Effects) -> None:
    budget = f"it lies beyond the budget of {benchmark.budget_steps} steps"
    beyond = {
        name: {"every_steps": budget} if getattr(benchmark, name).every_steps > benchmark.budget_steps else {}
        for name in ("probes", "records")
    }
    for name, inert in beyond.items():
        effects.note("budget", name, ("every_steps",), inert)
    _note_checkpoint(benchmark, effects)
    for index, probe in enumerate(benchmark.probes.probes):
        own = getattr(probe.config, "every_steps", None)
        inert = {"every_steps": budget} if own is not None and own > benchmark.budget_steps else {}
        effects.note("budget", f"probes.kinds.{index}", ("every_steps",), inert)
    _note_execution(benchmark, effects)
    looks = any(
        "event" in part.hooks and hasattr(part.chosen.config, "looks_at")
        for method in benchmark.methods
        for part in method.parts
    )
    if benchmark.probes.probes:
        return
    unmeasured = dict.fromkeys(("every_steps",) if looks else ("every_steps", "batch_rows"), "probes.kinds is empty")
    effects.note("kinds", "probes", (), unmeasured, quiet=unmeasured)
    effects.note("kinds", "tracking", (), {"probes": "probes.kinds is empty"}, quiet=("probes",))


def _note_execution(benchmark: Benchmark, effects: Effects) -> None:
    execution = benchmark.execution
    idle_gpu = {"num_gpus": "the device is cpu"} if execution.device == "cpu" and execution.num_gpus else {}
    idle_gpu |= {"capture": "the device is cpu"} if execution.device == "cpu" and execution.capture != "auto" else {}
    effects.note("device", "execution", ("num_gpus", "capture"), idle_gpu)
    held = {"replay_store": "no agent of this file has a replay of pictures"}
    is_inert = execution.replay_store != "auto" and not _holds_pictures(benchmark)
    effects.note("frames", "execution", ("replay_store",), held if is_inert else {})
    opened = {"opener_threads": "no replay of this file is compressed"}
    is_inert = execution.opener_threads is not None and not _compresses(benchmark)
    effects.note("openers", "execution", ("opener_threads",), opened if is_inert else {})
    made = {"convolutions": "no native network of this file convolves"}
    is_inert = execution.convolutions != "auto" and not _convolves(benchmark)
    effects.note("convolutions", "execution", ("convolutions",), made if is_inert else {})


def _compresses(benchmark: Benchmark) -> bool:
    return any(
        benchmark.compresses(environment, method.agent_config)
        for environment in benchmark.environments
        for method in benchmark.methods_on(environment)
    )


def _convolves(benchmark: Benchmark) -> bool:
    """Whether a network has convolutions that are not a module's own."""
    return any(
        len(layer.weight_shape) == 4
        for environment in benchmark.environments
        for method in benchmark.methods_on(environment)
        for layers in method.agent_config.layers(environment.config.spec).values()
        if not hasattr(layers, "make")
        for layer in layers
    )


def _holds_pictures(benchmark: Benchmark) -> bool:
    can_compress = any(hasattr(method.agent_config, "compresses") for method in benchmark.methods)
    return can_compress and any(one.config.spec.obs_dtype == "uint8" for one in benchmark.environments)


def _note_agent(benchmark: Benchmark, environment: Environment, method: Method, effects: Effects) -> None:
    config: Any = method.agent_config
    is_shared = method.agent == benchmark.methods[0].agent
    key = "agent" if is_shared else f"{method.key}.agent"
    inert: dict[str, str] = {}
    if hasattr(config, "inert_within"):
        inert = config.inert_within(environment.config.num_envs, benchmark.budget_steps)
    effects.note("within", key, _names(config), inert)
    if hasattr(config, "optimizer"):
        others = [part for part in method.parts if part.family == "optimizers"]
        is_replaced = all(
            any(part.for_agent(1, 1).concerns(network) for part in others) for network in config.trained_networks
        )
        inert = {"optimizer": "every method has an optimizer of its own"} if is_replaced else {}
        effects.note("parts", key, ("optimizer",), inert, quiet=inert)


def _names(config: Any) -> Iterator[str]:
    """Fields, and what stands in those that hold another library's settings."""
    for field in dataclasses.fields(config):
        yield field.name
        value = getattr(config, field.name)
        yield from (f"{field.name}.{name}" for name in value) if isinstance(value, Mapping) else ()


def _note_timing(benchmark: Benchmark, part: Part, key: str, effects: Effects) -> None:
    match part.schedule:
        case Every(until=int()) as timed:
            endless = dataclasses.replace(timed, until=None).steps(benchmark.budget_steps)
            inert = {"until": f"no event comes after it within the budget of {benchmark.budget_steps} steps"}
            effects.note("timing", key, ("until",), inert if timed.steps(benchmark.budget_steps) == endless else {})
        case Trigger() as trigger:
            probes = {probe.config.label: probe.config for probe in benchmark.probes.probes}
            name, reason = _bound_of(trigger, probes.get(trigger.probe))
            effects.note("timing", f"{key}.when", (name,), {name: reason} if reason else {})


def _note_checkpoint(benchmark: Benchmark, effects: Effects) -> None:
    """How environments are found again says nothing of data, and how long a replay may last nothing where none is."""
    mode, inert, names = benchmark.checkpoint.environments, {}, ("environments", "max_replay_s")
    acted_in = [one for one in benchmark.environments if not one.is_supervised]
    if not acted_in:
        inert = dict.fromkeys(names, "data have no environments to be found again")
    elif mode in ("exact", "restart"):
        inert = {"max_replay_s": f"nothing is replayed with environments: {mode}"}
    elif mode == "auto" and all(is_restorable(one.config) for one in acted_in):
        inert = {"max_replay_s": "the state of all environments is saved, so nothing is replayed"}
    effects.note("checkpoint", "checkpoint", names, inert, quiet=defaults(benchmark.checkpoint))


def _bound_of(trigger: Trigger, probe: Any) -> tuple[str, str | None]:
    """Which bound a trigger has, and why it is none that the probe can cross."""
    low, high = getattr(probe, "bounds", (-math.inf, math.inf))
    where = f"{trigger.probe} lies in [{low:g}, {high:g}{']' if high < math.inf else ')'}, so it is"
    if trigger.above is not None:
        never, always, word = trigger.above >= high, trigger.above < low, "above"
    else:
        assert trigger.below is not None
        never, always, word = trigger.below <= low, trigger.below > high, "below"
    value = getattr(trigger, word)
    reason = f"{where} {'never' if never else 'always'} {word} {value:g}" if never or always else None
    return word, reason


def _note_parts(benchmark: Benchmark, environment: Environment, method: Method, effects: Effects) -> None:
    placed = {**method.agent_config.layers(environment.config.spec), **sections(method, environment)}
    layers = {name: list(specs) for name, specs in placed.items()}
    for part, key in keyed_parts(method):
        if part.family == "structures":
            own = [specs for name, specs in layers.items() if part.for_agent(1, 1).concerns(name)]
            effects.note(
                "networks", key, _names(part.chosen.config), _on_networks(part, own), defaults(part.chosen.config)
            )
            for name, specs in layers.items():
                if part.for_agent(1, 1).concerns(name):
                    layers[name] = part.chosen.config.layers(specs)
    for part, key in keyed_parts(method):
        if part.family != "structures":
            own = [specs for name, specs in layers.items() if part.for_agent(1, 1).concerns(name)]
            inert = _on_networks(part, own) | _without_targets(method, part) | _paced(environment, method, part)
            names = (*_names(part.chosen.config), *(("every",) if part.every_steps is not None else ()))
            effects.note("networks", key, names, inert, quiet=defaults(part.chosen.config))
            if hasattr(part.chosen.config, "inert_within"):
                updates = _updates(benchmark, environment, method, part)
                inert = part.chosen.config.inert_within(updates) if updates is not None else {}
                effects.note("within", key, _names(part.chosen.config), inert)


def _on_networks(part: Part, networks: Sequence[Sequence[Any]]) -> dict[str, str]:
    """What has no effect on any of the networks that a part concerns."""
    if not networks or not hasattr(part.chosen.config, "inert_on"):
        return {}
    found: list[Mapping[str, str]] = [part.chosen.config.inert_on(specs) for specs in networks]
    return {name: reason for name, reason in found[0].items() if all(name in other for other in found)}


def _without_targets(method: Method, part: Part) -> dict[str, str]:
    """Rules for what the agent has not, or for networks without targets."""
    agent, config = method.agent_config, part.chosen.config
    concerned = [name for name in agent.trained_networks if part.for_agent(1, 1).concerns(name)]
    has_target = any(name == "q" or f"{name}_target" in agent.networks for name in concerned)
    inert = {} if has_target else {"target": f"{' and '.join(concerned)} has no target network"}
    inert |= {} if agent.has_temperature else {"temperature": f"{method.agent.kind!r} has no temperature"}
    rules = {field.name for field in dataclasses.fields(config)}
    return {name: reason for name, reason in inert.items() if name in rules}


def _paced(environment: Environment, method: Method, part: Part) -> dict[str, str]:
    """Whether each of a part's periods has at most one update anyway."""
    agent: Any = method.agent_config
    if part.every_steps is None or not hasattr(agent, "replay_ratio"):
        return {}
    stride = max(environment.config.num_envs, agent.update_period_steps)
    gap = max(stride, math.floor(1 / agent.replay_ratio))
    is_single = agent.replay_ratio * stride <= 1
    return {"every": "there is no more than one update in each period"} if is_single and part.every_steps <= gap else {}


def _updates(benchmark: Benchmark, environment: Environment, method: Method, part: Part) -> int | None:
    """At how many updates a part acts at most; ``None`` where the agent does not say how many it makes."""
    count = getattr(method.agent_config, "num_updates", None)
    if count is None:
        return None
    budget_steps, num_envs = benchmark.budget_steps, environment.config.num_envs
    begin = part.begin_step(budget_steps, method.stride_steps(num_envs))
    updates = int(count(num_envs, budget_steps)) - (int(count(num_envs, begin)) if begin else 0)
    periods = -(-(budget_steps - begin) // part.every_steps) + 1 if part.every_steps else updates
    return min(updates, periods)
