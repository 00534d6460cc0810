"""What the frames of replays take where they are compressed, by an assumption that ``plan`` states."""

from __future__ import annotations

from typing import Any

from plasticbench.platform.definition.benchmark import Benchmark, Environment

COMPRESSION = 20
"""How many bytes of frames become one: less than `python -m benchmarks.replay_store` finds, as good play shows more."""


def raw_bytes(benchmark: Benchmark, environment: Environment, agent: Any, num_members: int) -> int:
    """What the compressed frames of a population would take raw; 0 where they are raw."""
    if not benchmark.compresses(environment, agent):
        return 0
    size: int = num_members * agent.frame_bytes(environment.config.spec)
    return size


def note(benchmark: Benchmark) -> str:
    """The assumption, for people; empty where it changes nothing."""
    pairs = ((one, method.agent_config) for one in benchmark.environments for method in benchmark.methods)
    if not any(raw_bytes(benchmark, one, agent, 1) for one, agent in pairs):
        return ""
    return f"replays are compressed (execution.replay_store), by assumption to a {COMPRESSION}th"


def saved_bytes(raw: int) -> int:
    """How much less frames take compressed."""
    return raw - raw // COMPRESSION
