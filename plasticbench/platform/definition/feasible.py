"""Values that are right one by one and impossible together."""

from __future__ import annotations

import dataclasses
from typing import Any

from plasticbench import plugins
from plasticbench.contracts.task import DrawnConfig, is_restorable
from plasticbench.learning.blueprint import Blueprint
from plasticbench.platform.definition.benchmark import Benchmark, Environment
from plasticbench.platform.definition.feasible_parts import check_events, check_parts, check_structures
from plasticbench.platform.definition.method import Method, Part
from plasticbench.platform.definition.parsing import Problems
from plasticbench.platform.definition.start import stored
from plasticbench.platform.definition.within import note_effects
from plasticbench.schedules import At, Boundaries, Schedule


def check_feasible(benchmark: Benchmark, problems: Problems) -> None:
    """Notes everything that would fail, or do nothing, after the start."""
    _check_evaluation(benchmark, problems)
    _check_probes(benchmark, problems)
    for index, environment in enumerate(benchmark.environments):
        fits = _check_environment(benchmark, environment, f"environments.{index}", problems)
        _check_clocks(benchmark, environment, f"environments.{index}", problems)
        if fits:
            _check_boundaries(benchmark, environment, f"environments.{index}", problems)
        for method in benchmark.methods_on(environment) if fits else benchmark.methods:
            shared = method.agent == benchmark.methods[0].agent
            agent_key = "agent" if shared else f"methods.{method.name}.agent"
            if _check_agent(benchmark, environment, method, agent_key, problems):
                _check_start(environment, method, agent_key, problems)
                check_structures(environment, method, problems)
            _check_demands(benchmark, environment, method, f"environments.{index}", problems)
            if fits or not method.follows_changes:
                check_events(benchmark, environment, method, problems)
    _check_going_on(benchmark, problems)
    for method in benchmark.methods:
        check_parts(benchmark, method, problems)
    if not len(problems):
        _check_nonlinearities(benchmark, problems)
    if not len(problems):
        note_effects(benchmark, problems.effects)
    if benchmark.pictures is not None:
        _check_pictures(benchmark, problems)


def _check_going_on(benchmark: Benchmark, problems: Problems) -> None:
    """Whether all environments can be found again as ``checkpoint`` says."""
    if benchmark.checkpoint.environments != "exact":
        return
    for environment in benchmark.environments:
        if not environment.is_supervised and not is_restorable(environment.config):
            backend = getattr(environment.config, "backend", "")
            other = "backend: ale can. " if environment.family.kind == "atari" else ""
            problems.add(
                "checkpoint.environments",
                f"exact needs environments whose state can be saved, and {environment.name!r} of the family "
                f"{environment.family.kind!r}{f' with backend {backend!r}' if backend else ''} has none: {other}"
                "Use 'auto' or 'replay', which step through its past, or 'restart'",
            )


def _check_evaluation(benchmark: Benchmark, problems: Problems) -> None:
    evaluation, budget_steps = benchmark.evaluation, benchmark.budget_steps
    if evaluation.every_steps > budget_steps:
        problems.add(
            "evaluation.every_steps",
            f"must be at most the budget of {budget_steps} steps, got {evaluation.every_steps}",
        )
    steps = getattr(evaluation, "steps", None)
    if steps is not None and steps > budget_steps:
        problems.add("evaluation.steps", f"one evaluation must not outlast the budget of {budget_steps}, got {steps}")


def _check_probes(benchmark: Benchmark, problems: Problems) -> None:
    """What one of several agents cannot show is measured of the others."""
    shown = {m.agent.kind: frozenset(getattr(m.agent_config, "shows", ())) for m in benchmark.methods}
    for index, probe in enumerate(benchmark.probes.probes):
        needs = getattr(probe.config, "needs", None)
        if needs is not None and not any(needs in shows for shows in shown.values()):
            words = needs.replace("_", " ")
            problems.add(
                f"probes.kinds.{index}",
                f"{probe.kind!r} looks at {words}, which {' and '.join(shown)} cannot show it. Remove it",
            )


def _check_nonlinearities(benchmark: Benchmark, problems: Problems) -> None:
    """Of networks whose layers are known; of modules that come built they are seen when they are measured."""
    built = [
        specs
        for environment in benchmark.environments
        for method in benchmark.methods_on(environment)
        for specs in method.agent_config.layers(environment.config.spec).values()
    ]
    used = {spec.activation for specs in built for spec in specs}
    for index, probe in enumerate(benchmark.probes.probes):
        wanted = getattr(probe.config, "nonlinearities", None)
        if wanted and used and used.isdisjoint(wanted) and not any(isinstance(specs, Blueprint) for specs in built):
            problems.add(
                f"probes.kinds.{index}",
                f"{probe.kind!r} looks at layers with {' or '.join(sorted(wanted))}, and no network here has one. "
                "Remove it",
            )


def _check_environment(benchmark: Benchmark, environment: Environment, key: str, problems: Problems) -> bool:
    """Whether its changes fit into the budget."""
    before = len(problems)
    budget_steps, num_envs = benchmark.budget_steps, environment.config.num_envs
    if budget_steps % num_envs:
        problems.add(
            "budget_steps",
            f"must be a multiple of {key}.num_envs ({num_envs}), which step together, got {budget_steps}",
        )
    with problems.caught(f"{key}.{'stream' if environment.is_supervised else 'scenario'}"):
        environment.changes(benchmark.seeds[:1], budget_steps, num_envs)
    return len(problems) == before


def _check_clocks(benchmark: Benchmark, environment: Environment, key: str, problems: Problems) -> None:
    """Agents that look up at different steps may share a file, but not see the task change at different steps."""
    if environment.is_supervised:
        return  # one stride is one update
    seeds, budget_steps = benchmark.seeds[:1], benchmark.budget_steps
    strides = sorted({method.stride_steps(environment.config.num_envs) for method in benchmark.methods})
    with problems.caught(f"{key}.scenario"):
        scenarios = [environment.changes(seeds, budget_steps, stride) for stride in strides]
        changes = {tuple(scenario.change_steps) for scenario in scenarios}
        if len(changes) > 1:
            problems.add(
                f"{key}.scenario",
                f"must change at steps that are multiples of {' and of '.join(map(str, strides))}, which the agents of "
                f"this file take at once, got {', '.join(str(list(steps)) for steps in sorted(changes))}",
            )


def _check_boundaries(benchmark: Benchmark, environment: Environment, key: str, problems: Problems) -> None:
    """Notes what would tell methods of changes that the environment hides; references may know."""
    if environment.boundaries == "known":
        return
    changes = environment.changes(benchmark.seeds[:1], benchmark.budget_steps, environment.config.num_envs)
    if not changes.change_steps:
        problems.add(f"{key}.boundaries", f"{environment.name!r} never changes, so nothing is hidden. Remove it")
    if changes.clears_replay:
        problems.add(
            f"{key}.scenario.replay", "must be 'keep' with 'boundaries: hidden': who clears a replay knows why"
        )
    advice = "Use 'every', 'when', or 'boundaries: known'"
    for method in benchmark.methods_on(environment):
        for where, schedule in _schedules(method):
            if _tells(schedule, changes.change_steps, benchmark.budget_steps):
                problems.add(where, f"acts at the changes of {environment.name!r}, which hides them. {advice}")


def _schedules(method: Method) -> list[tuple[str, Schedule | None]]:
    """When a method acts, and when environments start anew for it, by key."""
    if any(_is_reference(part) for part in method.parts):
        return []
    own = [(f"methods.{method.name}.at", part.schedule) for part in method.parts if "event" in part.hooks]
    return [*own, ("resets.at", method.restarts)]


def _is_reference(part: Part) -> bool:
    return bool(getattr(part.chosen.config, "is_reference", False))


def _tells(schedule: Schedule | None, changes: tuple[int, ...], budget_steps: int) -> bool:
    if isinstance(schedule, Boundaries):
        return True
    return isinstance(schedule, At) and not set(changes).isdisjoint(schedule.steps(budget_steps))


def _check_agent(benchmark: Benchmark, environment: Environment, method: Method, key: str, problems: Problems) -> bool:
    """Whether the agent can act in the task at all."""
    fits = True
    config: Any = method.agent_config
    shown = "tokens" if environment.config.spec.obs_dtype == "int64" else "numbers"
    for field in dataclasses.fields(config):
        network = getattr(config, field.name)
        reads = getattr(network, "inputs", "numbers")
        if callable(getattr(network, "layers", None)) and reads != shown:
            problems.add(
                f"{key}.{field.name}", f"reads {reads}, and {environment.name!r} shows {shown}. Choose another"
            )
            return False
    check = getattr(plugins.load(benchmark.clock.group, method.agent.kind), "check", None)
    if check is not None:
        try:
            check(method.agent.config, environment.config.spec)
        except ValueError as error:
            fits = False
            problems.add(key, f"does not fit {environment.name!r}: {error}")
    if hasattr(method.agent_config, "fits"):
        with problems.caught(key):
            method.agent_config.fits(environment.config.num_envs, benchmark.budget_steps)
    elif (starts := method.agent_config.learning_starts_steps) >= benchmark.budget_steps:
        problems.add(
            f"{key}.learning_starts_steps",
            f"must be less than the budget of {benchmark.budget_steps} steps, got {starts}",
        )
    return fits


def _check_start(environment: Environment, method: Method, key: str, problems: Problems) -> None:
    """Whether stored weights fit; those of networks that structures rewrite are looked at when training begins."""
    start = method.agent.start
    if start is None or not start.run or any(part.family == "structures" for part in method.parts):
        return
    found = stored(start)
    tensors = found.tensors
    num_envs = environment.config.num_envs if found.replay is None else len(found.replay["ended"][0])
    if num_envs != environment.config.num_envs:
        problems.add(
            f"{key}.start.replay", f"was filled by num_envs {num_envs}, here it is {environment.config.num_envs}"
        )
    for network, layers in method.agent_config.layers(environment.config.spec).items():
        for layer in layers:
            name, shape = f"{network}/online/{layer.name}.weight", tuple(layer.weight_shape)
            if name not in tensors or tensors[name].shape != shape:
                there = list(tensors[name].shape) if name in tensors else "nothing"
                problems.add(
                    f"{key}.start",
                    f"{start.trial} does not fit {environment.name!r}: {name} has the shape {list(shape)} here, and "
                    f"there {there}. Begin from a run with the same network",
                )
                return


def _check_demands(
    benchmark: Benchmark, environment: Environment, method: Method, key: str, problems: Problems
) -> None:
    demands, num_envs = method.agent_config.demands, environment.config.num_envs
    if demands.max_envs is not None and num_envs > demands.max_envs:
        problems.add(
            f"{key}.num_envs",
            f"must be at most {demands.max_envs} for agent kind {method.agent.kind!r}, got {num_envs}",
        )
    if benchmark.execution.device not in demands.devices:
        known = " or ".join(demands.devices)
        problems.add(
            "execution.device",
            f"must be {known} for agent kind {method.agent.kind!r}, got {benchmark.execution.device}",
        )
    if benchmark.execution.capture == "always" and (reason := _not_captured(method)) is not None:
        problems.add("execution.capture", f"updates of {method.name!r} cannot be recorded, since {reason}. Choose auto")
    if demands.round_steps > 1 and benchmark.budget_steps % (stride_steps := method.stride_steps(num_envs)):
        problems.add(
            "budget_steps",
            f"must be a multiple of the {stride_steps} steps that the agent of {method.name!r} takes at once, got "
            f"{benchmark.budget_steps}",
        )


def _not_captured(method: Method) -> str | None:
    if not getattr(method.agent_config, "can_capture", False):
        return f"{method.agent.kind!r} has no replay"
    if getattr(method.agent_config, "adaptive_ratio", None) is not None:
        return "its adaptive_ratio depends on what networks pass on"
    acting = [part.kind for part in method.parts if part.family == "treatments" and set(part.hooks) - {"event"}]
    acting += [part.kind for part in method.parts if part.kind == "batch_norm"]  # its statistics follow them
    if acting:
        return f"{' and '.join(acting)} takes part in them"
    deciding = [part.kind for part in method.parts if not getattr(part.chosen.config, "can_capture", True)]
    return f"{deciding[0]} decides on the host" if deciding else None


def _check_pictures(benchmark: Benchmark, problems: Problems) -> None:
    unseen = {one.family.kind: None for one in benchmark.environments if not isinstance(one.config, DrawnConfig)}
    if unseen:
        drawn = [kind for kind in plugins.names("envs") if hasattr(plugins.load("envs", kind).Config, "render")]
        problems.add(
            "pictures",
            f"every environment must be of a kind that can be drawn ({', '.join(drawn)}), got {', '.join(unseen)}. "
            "Remove 'pictures', or give the other kinds a file of their own",
        )
    for index, environment in enumerate(benchmark.environments):
        if isinstance(environment.config, DrawnConfig):
            with problems.caught(f"environments.{index}"):
                try:
                    environment.config.check_pictures()
                except RuntimeError as error:
                    problems.add("pictures", f"{error}, or remove 'pictures'")
