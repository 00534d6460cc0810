"""How long it takes to find environments again late in a run, said before it starts."""

from __future__ import annotations

from dataclasses import dataclass

from plasticbench.contracts.task import is_restorable
from plasticbench.platform.definition.benchmark import Benchmark, Environment
from plasticbench.platform.planning.lineage import Segment
from plasticbench.platform.planning.plan import Plan

_STEPS_PER_S = {
    "atari": 2_300,
    "humanoid": 3_000,
    "minatar": 150_000,
    "mujoco": 4_500,
}
"""Agent steps that one CPU replays in a second, of the slowest task that was measured (``python -m benchmarks.resumes
--speeds``)."""
_CLASSIC_STEP_S, _CLASSIC_ENV_STEP_S = 28e-6, 1.5e-6
"""Of all environments together, and of each on top: few are stepped a third as fast as a hundred."""
_BOX2D_STEPS_PER_S = 50_000
_ALE_STEPS_PER_S = 1_250


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """The longest past that a population would step through again: ``steps`` of each of ``num_members`` members.

    ``seconds`` is ``None`` where the speed of a family is not known.
    """

    task: str
    steps: int
    num_members: int
    seconds: float | None


def longest_replay(benchmark: Benchmark, plan: Plan) -> Replay | None:
    """``None`` where the states of all environments are saved, or where none is found again."""
    found = [_replay(benchmark, plan, s) for s in plan.segments if replays(benchmark, benchmark.environment(s.task))]
    return max(found, key=lambda one: (one.seconds is None, one.seconds or one.steps), default=None)


def replays(benchmark: Benchmark, environment: Environment) -> bool:
    """Whether what goes on from a commit steps through the past of such environments."""
    mode = benchmark.checkpoint.environments
    if environment.is_supervised or mode == "restart":
        return False
    return mode == "replay" or not is_restorable(environment.config)


def _replay(benchmark: Benchmark, plan: Plan, segment: Segment) -> Replay:
    environment, began = benchmark.environment(segment.task), segment
    while began.start is not None and not began.fork:  # whose environments go on where another segment's stopped
        began = plan.segment(began.start)
    steps, num_members = segment.to_step - began.from_step, len(segment.members)
    speed = _speed(environment, max(1, int(segment.num_cpus)), num_members * environment.config.num_envs)
    seconds = None if speed is None else steps * num_members / speed
    return Replay(task=segment.task, steps=steps, num_members=num_members, seconds=seconds)


def _speed(environment: Environment, num_cpus: int, num_envs: int) -> float | None:
    """Agent steps per second; games that are stepped in Python are stepped by one thread."""
    kind, config, num_cpus = environment.family.kind, environment.config, min(num_cpus, num_envs)
    if kind == "classic" and config.task.startswith("LunarLander"):
        return _BOX2D_STEPS_PER_S * num_cpus
    if kind == "classic":
        return num_envs / (_CLASSIC_STEP_S + _CLASSIC_ENV_STEP_S * num_envs / num_cpus)
    if kind == "atari" and getattr(config, "backend", "") == "ale":
        return _ALE_STEPS_PER_S
    if kind == "minatar" or kind not in _STEPS_PER_S:
        return _STEPS_PER_S.get(kind)
    return _STEPS_PER_S[kind] * num_cpus / getattr(config, "action_repeat", 1)


def going_on_text(benchmark: Benchmark, plan: Plan) -> str:
    """One line for people."""
    if benchmark.environments[0].is_supervised:
        return "going on: exactly where the last commit was"
    if benchmark.checkpoint.environments == "restart":
        return "going on: environments begin new episodes, which marks the trials"
    longest = longest_replay(benchmark, plan)
    if longest is None:
        return "going on: the state of all environments is saved"
    return "; ".join(filter(None, [f"going on: {_past(longest)}", refusal(benchmark, plan)]))


def _past(longest: Replay) -> str:
    past = f"a past of up to {longest.steps:,} steps of {longest.num_members} members on {longest.task!r}"
    if longest.seconds is None:
        return f"environments step through {past} again, at a speed that is not known here"
    return f"environments step through {past} again, about {_duration(longest.seconds)} on a CPU as measured"


def refusal(benchmark: Benchmark, plan: Plan) -> str | None:
    """What a run that is interrupted late will be refused, and what helps, while nothing is lost yet."""
    longest, limit_s = longest_replay(benchmark, plan), benchmark.checkpoint.max_replay_s
    if longest is None or longest.seconds is None or longest.seconds <= limit_s:
        return None
    environment = benchmark.environment(longest.task)
    saves = "environments whose state is saved (backend: ale), " if environment.family.kind == "atari" else ""
    return (
        f"more than checkpoint.max_replay_s ({limit_s:g} s) is refused then. Use {saves}"
        "checkpoint.environments: restart, or a higher limit"
    )


def refusal_note(benchmark: Benchmark, plan: Plan) -> str | None:
    """The same for those who start a run."""
    longest, refused = longest_replay(benchmark, plan), refusal(benchmark, plan)
    if longest is None or refused is None:
        return None
    return f"an interruption late in this run could not be gone on from: {_past(longest)}; {refused}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} minutes"
