"""Values that are right one by one and impossible together."""

from __future__ import annotations

from plasticbench import plugins
from plasticbench.contracts.task import DrawnConfig
from plasticbench.platform.definition.benchmark import Benchmark, Environment, Method
from plasticbench.platform.definition.parsing import Problems
from plasticbench.plugins import did_you_mean
from plasticbench.schedules import At, Every, Trigger


def check_feasible(benchmark: Benchmark, problems: Problems) -> None:
    """Notes everything that would fail, or do nothing, after the start."""
    _check_evaluation(benchmark, problems)
    for index, environment in enumerate(benchmark.environments):
        _check_environment(benchmark, environment, f"environments.{index}", problems)
        _check_clocks(benchmark, environment, f"environments.{index}", problems)
        for method in benchmark.methods:
            shared = method.agent == benchmark.methods[0].agent
            agent_key = "agent" if shared else f"methods.{method.name}.agent"
            _check_agent(benchmark, environment, method, agent_key, problems)
            _check_demands(benchmark, environment, method, f"environments.{index}", problems)
            _check_known_resets(benchmark, environment, method, problems)
    for method in benchmark.methods:
        _check_schedule(benchmark, method, problems)
    if benchmark.pictures is not None:
        _check_pictures(benchmark, problems)


def _check_evaluation(benchmark: Benchmark, problems: Problems) -> None:
    evaluation, budget_steps = benchmark.evaluation, benchmark.budget_steps
    if evaluation.every_steps > budget_steps:
        problems.add(
            "evaluation.every_steps",
            f"must be at most the budget of {budget_steps} steps, got {evaluation.every_steps}",
        )
    if evaluation.steps is not None and evaluation.steps > budget_steps:
        problems.add(
            "evaluation.steps", f"one evaluation must not outlast the budget of {budget_steps}, got {evaluation.steps}"
        )


def _check_environment(benchmark: Benchmark, environment: Environment, key: str, problems: Problems) -> None:
    budget_steps, num_envs = benchmark.budget_steps, environment.config.num_envs
    if budget_steps % num_envs:
        problems.add(
            "budget_steps",
            f"must be a multiple of {key}.num_envs ({num_envs}), which step together, got {budget_steps}",
        )
    with problems.caught(f"{key}.scenario"):
        environment.scenario.build(environment.config.spec, benchmark.seeds[:1], budget_steps, num_envs)


def _check_clocks(benchmark: Benchmark, environment: Environment, key: str, problems: Problems) -> None:
    """Agents that look up at different steps may share a file, but not see the task change at different steps."""
    config, seeds, budget_steps = environment.config, benchmark.seeds[:1], benchmark.budget_steps
    strides = sorted({method.stride_steps(config.num_envs) for method in benchmark.methods})
    with problems.caught(f"{key}.scenario"):
        scenarios = [environment.scenario.build(config.spec, seeds, budget_steps, stride) for stride in strides]
        changes = {tuple(scenario.change_steps) for scenario in scenarios}
        if len(changes) > 1:
            problems.add(
                f"{key}.scenario",
                f"must change at steps that are multiples of {' and of '.join(map(str, strides))}, which the agents of "
                f"this file take at once, got {', '.join(str(list(steps)) for steps in sorted(changes))}",
            )


def _check_agent(benchmark: Benchmark, environment: Environment, method: Method, key: str, problems: Problems) -> None:
    check = getattr(plugins.load("agents", method.agent_kind), "check", None)
    if check is not None:
        try:
            check(method.agent, environment.config.spec)
        except ValueError as error:
            problems.add(key, f"does not fit {environment.name!r}: {error}")
    if (starts := _learning_starts(method)) >= benchmark.budget_steps:
        problems.add(
            f"{key}.learning_starts_steps",
            f"must be less than the budget of {benchmark.budget_steps} steps, got {starts}",
        )


def _check_demands(
    benchmark: Benchmark, environment: Environment, method: Method, key: str, problems: Problems
) -> None:
    demands, num_envs = method.demands, environment.config.num_envs
    if demands.max_envs is not None and num_envs > demands.max_envs:
        problems.add(
            f"{key}.num_envs",
            f"must be at most {demands.max_envs} for agent kind {method.agent_kind!r}, got {num_envs}",
        )
    if benchmark.execution.device not in demands.devices:
        known = " or ".join(demands.devices)
        problems.add(
            "execution.device",
            f"must be {known} for agent kind {method.agent_kind!r}, got {benchmark.execution.device}",
        )
    if demands.round_steps > 1 and benchmark.budget_steps % (stride_steps := method.stride_steps(num_envs)):
        problems.add(
            "budget_steps",
            f"must be a multiple of the {stride_steps} steps that the agent of {method.name!r} takes at once, got "
            f"{benchmark.budget_steps}",
        )


def _learning_starts(method: Method) -> int:
    starts: int = getattr(method.agent, "learning_starts_steps", 0)
    return starts


def _check_known_resets(benchmark: Benchmark, environment: Environment, method: Method, problems: Problems) -> None:
    key = f"methods.{method.name}.{'at' if isinstance(method.schedule, At) else 'every'}"
    starts, budget_steps = _learning_starts(method), benchmark.budget_steps
    known = method.reset_steps(budget_steps, environment.config.num_envs)
    if known and known[0] <= starts < budget_steps:
        problems.add(key, f"the first reset must come after learning starts (step {starts}), got step {known[0]}")
    if isinstance(method.schedule, At) and len(known) < len(method.schedule.at):
        got = list(method.schedule.at)
        problems.add(key, f"each reset must fall on a step of its own inside the budget of {budget_steps}, got {got}")


def _check_schedule(benchmark: Benchmark, method: Method, problems: Problems) -> None:
    key, budget_steps = f"methods.{method.name}", benchmark.budget_steps
    match method.schedule:
        case None if method.kind != "none":
            problems.add(key, "would never act: give it 'at', 'every' or 'when', or give all methods 'resets'")
        case Every(every=every) if every >= budget_steps:
            problems.add(f"{key}.every", f"must be less than the budget of {budget_steps} steps, got {every}")
        case Trigger():
            _check_trigger(benchmark, method.schedule, method.agent.networks, f"{key}.when", problems)


def _check_trigger(
    benchmark: Benchmark, trigger: Trigger, networks: tuple[str, ...], key: str, problems: Problems
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


def _check_pictures(benchmark: Benchmark, problems: Problems) -> None:
    unseen = {one.kind: None for one in benchmark.environments if not isinstance(one.config, DrawnConfig)}
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
