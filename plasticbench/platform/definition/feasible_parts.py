"""Parts of methods that are right one by one and impossible together, or with this agent, budget or schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plasticbench.contracts.treatment import Family, Hook, hooks_of
from plasticbench.learning.blueprint import Blueprint
from plasticbench.learning.treatments._selection import require_selection
from plasticbench.platform.definition.benchmark import Benchmark, Environment
from plasticbench.platform.definition.method import Method, Part
from plasticbench.platform.definition.parsing import Problems
from plasticbench.plugins import did_you_mean
from plasticbench.schedules import At, Boundaries, Every, Trigger


def check_events(benchmark: Benchmark, environment: Environment, method: Method, problems: Problems) -> None:
    """Notes events, and beginnings of parts, that do not fit the clock of a task."""
    for part, key in _keyed(method):
        _check_known_events(benchmark, environment, method, part, key, problems)
    _check_begins(benchmark, environment, method, problems)


def check_structures(environment: Environment, method: Method, problems: Problems) -> None:
    """Notes structures, and treatments that say what they need, which do not fit the networks of an agent."""
    built = method.agent_config.layers(environment.config.spec)
    for part, key in _keyed(method):
        if part.family != "treatments" and built and not any(_concerns(part, network) for network in built):
            whole = " or ".join(("all", *built))
            problems.add(
                f"{key}.networks",
                f"{part.kind!r} is what a whole network is built with, and {part.networks!r} is a part of one. Say "
                f"{whole}",
            )
    for network, layers in {**built, **sections(method, environment)}.items():
        for part, key in _keyed(method):
            if part.family == "structures" and _concerns(part, network):
                if isinstance(layers, Blueprint):
                    problems.add(
                        f"{key}.kind", f"{part.kind!r} rewrites layers, and this network is a module that comes built"
                    )
                    continue
                with problems.caught(key):
                    layers = part.chosen.config.layers(layers)
        for part, key in _keyed(method):
            is_elsewhere = network not in built and any(_concerns(part, whole) for whole in built)
            if part.family == "treatments" and _concerns(part, network) and not is_elsewhere:
                with problems.caught(key):
                    getattr(part.chosen.config, "fits", lambda layers: None)(layers)
                    if isinstance(selector := getattr(part.chosen.config, "layers", None), str):
                        require_selection(layers, selector)
                    _require_units(part, layers)


def _require_units(part: Part, layers: Sequence[Any]) -> None:
    """Of a module's units more is known once it is built."""
    exchanges = getattr(part.chosen.config, "exchanges_units", False) and not isinstance(layers, Blueprint)
    if exchanges and all(layer.role == "head" for layer in layers):
        named = ", ".join(layer.name for layer in layers)
        raise ValueError(
            f"networks: {part.kind!r} exchanges hidden units, and what it is placed on ({named}) has none. Place it on "
            "the whole network"
        )


def sections(method: Method, environment: Environment) -> Mapping[str, Sequence[Any]]:
    """Layers of an agent's networks on which treatments may be placed alone, by name."""
    agent: Any = method.agent_config
    return agent.sections(environment.config.spec) if hasattr(agent, "sections") else {}


def check_parts(benchmark: Benchmark, method: Method, problems: Problems) -> None:
    """Notes what a part can never do, whatever the task."""
    _check_agent_offers(method, problems)
    _check_exclusions(method, problems)
    for part, key in _keyed(method):
        _check_networks(method, part, key, problems)
        _check_schedule(benchmark, method, part, key, problems)


def _keyed(method: Method) -> list[tuple[Part, str]]:
    key = f"methods.{method.name}"
    return [(part, key if len(method.parts) == 1 else f"{key}.{i}") for i, part in enumerate(method.parts)]


def _concerns(part: Part, network: str) -> bool:
    return part.for_agent(1, 1).concerns(network)


def _concerned(method: Method, part: Part) -> set[str]:
    return {network for network in method.agent_config.trained_networks if _concerns(part, network)}


def _check_agent_offers(method: Method, problems: Problems) -> None:
    offered, unseen = method.agent_config.hooks, getattr(method.agent_config, "unseen", ())
    for part, key in _keyed(method):
        if reason := why_not_offered(part.family, part.kind, part.chosen.config, method.agent.kind, offered, unseen):
            problems.add(f"{key}.kind", reason)


def why_not_offered(
    family: Family, kind: str, config: Any, agent: str, offered: Sequence[Hook], unseen: Sequence[str]
) -> str | None:
    """What a part needs that agents of a kind do not offer, or ``None``."""
    needed = hooks_of(config.build()) if family == "treatments" else ("gradient", "update")
    if missing := [hook for hook in needed if hook not in offered]:
        when = "turn of a twin" if missing[0] == "turn" else missing[0]
        what = f"acts at each {when}" if family == "treatments" else "changes how networks are built"
        return f"{kind!r} {what}, which agent kind {agent!r} does not offer (it offers: {', '.join(offered)})"
    looks_at = getattr(config, "looks_at", ())
    if looks_at and ("update" not in offered or set(looks_at) & set(unseen)):
        return f"{kind!r} looks at {' and '.join(looks_at)}, which agent kind {agent!r} does not show"
    return None


def _check_exclusions(method: Method, problems: Problems) -> None:
    keyed = _keyed(method)
    for index, (part, key) in enumerate(keyed):
        for other, _ in keyed[:index]:
            if not _concerned(method, part) & _concerned(method, other):
                continue
            if part.kind == other.kind:
                problems.add(f"{key}.kind", f"each part may act once on a network, got {part.kind!r} repeatedly")
            elif reason := _why_not_both(part, other):
                problems.add(f"{key}.kind", f"{part.kind!r} and {other.kind!r} exclude each other: {reason}")


def _why_not_both(part: Part, other: Part) -> str | None:
    if part.family == other.family == "optimizers":
        return "a network has one optimizer"
    return _excluded(part, other) or _excluded(other, part)


def _excluded(part: Part, other: Part) -> str | None:
    config = part.chosen.config
    by_kind, by_family = getattr(config, "excludes", {}), getattr(config, "excludes_families", {})
    reason: str | None = by_kind.get(other.kind) or by_family.get(other.family)
    return reason


def _check_networks(method: Method, part: Part, key: str, problems: Problems) -> None:
    if part.networks != "all" and getattr(part.chosen.config, "is_for_agents", False):
        problems.add(f"{key}.networks", f"{part.kind!r} acts on all networks of an agent, got {part.networks!r}")
        return
    if part.networks == "actor" and "next_inputs" in getattr(part.chosen.config, "looks_at", ()):
        problems.add(f"{key}.networks", f"{part.kind!r} is about values, which an actor does not have, got 'actor'")
        return
    if not _concerned(method, part):
        known = method.agent_config.trained_networks
        groups = ["critics"] if any(name.startswith("critic") for name in known) else []
        problems.add(
            f"{key}.networks",
            f"must name networks of agent kind {method.agent.kind!r}, got {part.networks!r}. "
            f"{did_you_mean(part.networks, ['all', *groups, *known])}",
        )


def _check_known_events(
    benchmark: Benchmark, environment: Environment, method: Method, part: Part, key: str, problems: Problems
) -> None:
    starts, budget_steps = method.agent_config.learning_starts_steps, benchmark.budget_steps
    known = part.event_steps(budget_steps, method.stride_steps(environment.config.num_envs))
    where = f"{key}.{'at' if isinstance(part.schedule, At | Boundaries) else 'every'}"
    if known and known[0] <= starts < budget_steps:
        problems.add(where, f"the first reset must come after learning starts (step {starts}), got step {known[0]}")
    if isinstance(part.schedule, Boundaries) and "event" in part.hooks and part.kind != "none" and not known:
        problems.add(where, f"{environment.name!r} never changes, so there are no boundaries. Choose another schedule")
    most = getattr(part.chosen.config, "most_events", None)
    if most is not None and len(known) > most:
        problems.add(where, f"{part.kind!r} acts at {most} event at most, got {len(known)}. Give it one with 'at'")
    if getattr(part.chosen.config, "is_reference", False):
        _check_reference(benchmark, environment, method, part, where, problems)
    if isinstance(part.schedule, At) and "event" in part.hooks and len(known) < len(part.schedule.at):
        got = list(part.schedule.at)
        problems.add(where, f"each reset must fall on a step of its own inside the budget of {budget_steps}, got {got}")


def _check_reference(
    benchmark: Benchmark, environment: Environment, method: Method, part: Part, where: str, problems: Problems
) -> None:
    """A reference says what could be reached on each task, so it acts where tasks change and at no other step."""
    budget_steps, stride_steps = benchmark.budget_steps, method.stride_steps(environment.config.num_envs)
    changes = environment.changes(benchmark.seeds[:1], budget_steps, stride_steps)
    if part.networks != "all" or part.begin:
        problems.add(where, f"the reference {part.kind!r} is about whole agents. Remove 'networks' and 'from'")
    if (known := part.event_steps(budget_steps, stride_steps)) != changes.change_steps or not known:
        got = list(known) or "none"
        problems.add(
            where, f"{part.kind!r} must act at all changes of {environment.name!r}, got {got}: 'at: boundaries'"
        )
    elif part.kind == "oracle" and hasattr(method.agent_config, "capacity_transitions") and not changes.clears_replay:
        problems.add(where, "an oracle begins with an empty replay: give the scenario 'replay: clear'")


def _check_begins(benchmark: Benchmark, environment: Environment, method: Method, problems: Problems) -> None:
    """A part starts at an event, so that it leaves what it shares with others where they fork."""
    budget_steps, num_envs = benchmark.budget_steps, environment.config.num_envs
    events = _event_fractions(benchmark, method, num_envs)
    for part, key in _keyed(method):
        if not part.begin:
            continue
        if not 0 < part.begin < 1:
            problems.add(f"{key}.from", f"must be a fraction of the budget between 0 and 1, got {part.begin}")
        elif not events:
            problems.add(
                f"{key}.from",
                f"needs an event to start at, and this method has none. Give the file 'resets: {{at: [{part.begin}]}}'",
            )
        elif part.begin_step(budget_steps, method.stride_steps(num_envs)) not in events:
            known = ", ".join(f"{step / budget_steps:g}" for step in sorted(events))
            problems.add(f"{key}.from", f"must be the fraction of an event ({known}), got {part.begin}")


def _event_fractions(benchmark: Benchmark, method: Method, num_envs: int) -> set[int]:
    fork = method.fork_step(benchmark.budget_steps, num_envs)
    return {*method.reset_steps(benchmark.budget_steps, num_envs), *({fork} if fork is not None else ())}


def _check_schedule(benchmark: Benchmark, method: Method, part: Part, key: str, problems: Problems) -> None:
    budget_steps, is_for_events = benchmark.budget_steps, getattr(part.chosen.config, "is_for_events", False)
    is_for_events |= getattr(part.chosen.config, "is_reference", False)
    if part.every_steps is not None and part.every_steps >= budget_steps:
        problems.add(f"{key}.every", f"must be less than the budget of {budget_steps} steps, got {part.every_steps}")
    match part.schedule:
        case None if (part.hooks == ("event",) or is_for_events) and part.kind != "none":
            problems.add(key, "would never act: give it 'at', 'every' or 'when', or give all methods 'resets'")
        case Every(every=every) if every >= budget_steps:
            problems.add(f"{key}.every", f"must be less than the budget of {budget_steps} steps, got {every}")
        case Trigger():
            _check_trigger(benchmark, part.schedule, method.agent_config.networks, f"{key}.when", problems)


def _check_trigger(
    benchmark: Benchmark, trigger: Trigger, networks: Sequence[str], key: str, problems: Problems
) -> None:
    if trigger.probe not in (labels := benchmark.probes.labels):
        answer = did_you_mean(trigger.probe, labels) if labels else "None is measured."
        problems.add(f"{key}.probe", f"must be one of the measurements in 'probes', got {trigger.probe!r}. {answer}")
    if trigger.network not in networks:
        problems.add(f"{key}.network", f"must be one of {', '.join(networks)}, got {trigger.network!r}")
    if trigger.at_most_every >= benchmark.budget_steps:
        problems.add(
            f"{key}.at_most_every",
            f"must be less than the budget of {benchmark.budget_steps} steps, got {trigger.at_most_every}",
        )
