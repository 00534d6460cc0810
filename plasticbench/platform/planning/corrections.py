"""Corrections of the core that concern a trial: they stand in its id, so that older results are not taken for its own.

Where a fault is mended that changed the results of some trials, those and no others get an entry here, a name and a
number. Everything else keeps the id that it had.
"""

from __future__ import annotations

from typing import Any

from plasticbench.contracts.task import Scenario
from plasticbench.platform.definition.benchmark import Benchmark, Environment
from plasticbench.platform.definition.method import Method, Part
from plasticbench.plugins import inert

_NATIVE = ("dqn", "sac")
_GRADIENT_PROBES = ("gradient_norm", "update_ratio")


def corrections(benchmark: Benchmark, environment: Environment, method: Method, scenario: Scenario) -> dict[str, int]:
    """Names and numbers of the corrections without which the trials of a method on a task had other results."""
    found: dict[str, int] = {}
    if method.agent.kind in _NATIVE and _changes_within_episodes(benchmark, environment, method, scenario):
        found["ended_episodes"] = 1
    if method.agent.kind in _NATIVE and _updates_began_early(environment, method, scenario):
        found["first_update_after_clear"] = 1
    if environment.config.num_envs > 1 and getattr(method.agent_config, "exploration", None) == "shared":
        found["shared_exploration"] = 1  # environments that explored did the same as well
    if any(_draws_for_targets(method, part) for part in method.parts):
        found["same_operation"] = 1
    if _probed_one_step_targets(benchmark, method):
        found["probe_targets"] = 1
    return found | getattr(environment.config, "corrections", {})


def _updates_began_early(environment: Environment, method: Method, scenario: Scenario) -> bool:
    """Whether updates went on before ``batch_rows`` steps were stored in a replay that had been cleared.

    The rows that a course begins with, one for each further frame of a stack, were counted as steps; and the first step
    may lead out of an episode that is over, so that there may be nothing to sample before the second.
    """
    num_envs, agent = environment.config.num_envs, method.agent.config
    steps = -(-agent.batch_rows // num_envs)
    before, now = max(1, steps - environment.config.spec.frame_stack + 1), max(2, steps)
    are_due = any(step + now * num_envs > agent.learning_starts_steps for step in scenario.change_steps)
    return scenario.clears_replay and before != now and are_due


def _draws_for_targets(method: Method, part: Part) -> bool:
    """Whether a part's events put fresh weights into target networks, which were drawn anew for them."""
    config, agent = part.chosen.config, method.agent_config
    is_fresh = getattr(config, "init_source", None) == "fresh" and "init_source" not in inert(config)
    has_target = any(
        part.for_agent(1, 1).concerns(name) and (name == "q" or f"{name}_target" in agent.networks)
        for name in agent.trained_networks
    )
    return is_fresh and getattr(config, "target", None) == "same_operation" and has_target


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


def _probed_one_step_targets(benchmark: Benchmark, method: Method) -> bool:
    """Whether gradients were measured on targets over one step that training takes over several."""
    config: Any = method.agent_config
    steps = config.config.get("n_step", 1) if method.agent.kind == "rllib" else 1
    return steps > 1 and any(probe.kind in _GRADIENT_PROBES for probe in benchmark.probes.probes)
