"""Corrections of the core that concern a trial: they stand in its id, so that older results are not taken for its own.

Where a fault is mended that changed the results of some trials, those and no others get an entry here, a name and a
number. Everything else keeps the id that it had.
"""

from __future__ import annotations

from plasticbench.contracts.task import Scenario
from plasticbench.platform.definition.benchmark import Benchmark, Environment
from plasticbench.platform.definition.method import Method

_NATIVE = ("dqn", "sac")


def corrections(benchmark: Benchmark, environment: Environment, method: Method, scenario: Scenario) -> dict[str, int]:
    """Names and numbers of the corrections without which the trials of a method on a task had other results."""
    found: dict[str, int] = {}
    if method.agent.kind in _NATIVE and _changes_within_episodes(benchmark, environment, method, scenario):
        found["ended_episodes"] = 1
    if environment.config.num_envs > 1 and getattr(method.agent_config, "exploration", None) == "shared":
        found["shared_exploration"] = 1  # environments that explored did the same as well
    return found


def _changes_within_episodes(
    benchmark: Benchmark, environment: Environment, method: Method, scenario: Scenario
) -> bool:
    """Whether the task changes where the environments go on, so that an episode may just have ended.

    Its last observation and the first of the next episode were stored as a transition then.
    """
    fork_step = method.fork_step(benchmark.budget_steps, environment.config.num_envs)
    envs = [scenario.env(environment.config, phase) for phase in range(len(scenario.change_steps) + 1)]
    return any(
        step != fork_step and before == after
        for step, before, after in zip(scenario.change_steps, envs, envs[1:], strict=False)
    )
