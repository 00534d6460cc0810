"""What a population needs of one node, and whether any node of a cluster has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from plasticbench.platform.definition.parsing import BenchmarkError
from plasticbench.platform.planning.plan import Segment

_GRAIN_BYTES = 256 << 20


class Needs(NamedTuple):
    """Resources of the process that trains a population, all on one node."""

    num_cpus: int
    num_gpus: float
    memory_bytes: int

    def fit(self, node: Mapping[str, float]) -> bool:
        """Whether a node with these Ray resources could hold it, were it empty."""
        return all(wanted <= node.get(name, 0) for name, wanted in self._asked())

    def _asked(self) -> tuple[tuple[str, float], ...]:
        return ("CPU", self.num_cpus), ("GPU", self.num_gpus), ("memory", self.memory_bytes)

    def too_large(self, nodes: Sequence[Mapping[str, float]]) -> list[str]:
        """The resources of which not even the largest node has enough."""
        return [name for name, wanted in self._asked() if all(wanted > node.get(name, 0) for node in nodes)]


def needs(segment: Segment) -> Needs:
    """Memory in whole steps of 256 MiB, so that populations of nearly one size can follow each other in one process."""
    grains = -(-segment.memory_bytes // _GRAIN_BYTES)
    return Needs(segment.num_cpus, segment.num_gpus, grains * _GRAIN_BYTES)


def check_fits(segments: Sequence[Segment], nodes: Sequence[Mapping[str, float]], replay_store: str = "auto") -> None:
    """Raises ``BenchmarkError`` for the first population that no single node can hold: it would wait for ever."""
    is_raw = replay_store == "raw"
    for wanted, segment in {needs(segment): segment for segment in reversed(segments)}.items():
        if not any(wanted.fit(node) for node in nodes):
            raise BenchmarkError(_misfit(segment, wanted, nodes, is_raw))


def _misfit(segment: Segment, wanted: Needs, nodes: Sequence[Mapping[str, float]], is_raw: bool) -> str:
    smaller = ", set execution.replay_store: compressed" if is_raw else ""
    lacking: dict[tuple[str, ...], tuple[str, str]] = {
        ("CPU",): ("execution.num_cpus", "Ask for fewer"),
        ("GPU",): ("execution.num_gpus", "Ask for a smaller share, or set execution.device: cpu and num_gpus: 0"),
        ("memory",): (
            "execution.members_per_population",
            f"It trains {len(segment.members)}: lower the number{smaller}, or agent.capacity_transitions",
        ),
    }
    several = ("execution", "Lower num_cpus, num_gpus or members_per_population until one node has all three")
    key, advice = lacking.get(tuple(wanted.too_large(nodes)), several)
    asked = _resources({"CPU": wanted.num_cpus, "GPU": wanted.num_gpus, "memory": wanted.memory_bytes})
    return (
        f"{key}: population {segment.id} needs one node with {asked}, and no node is that large, so it would wait for "
        f"ever. {advice}, or add a node. Nodes: {describe_nodes(nodes)}"
    )


def describe_nodes(nodes: Sequence[Mapping[str, float]]) -> str:
    """What kinds of nodes there are, and how many of each."""
    kinds = Counter(_resources(node) for node in nodes)
    return "; ".join(f"{count} x {kind}" for kind, count in kinds.items()) or "none"


def _resources(node: Mapping[str, float]) -> str:
    gib = node.get("memory", 0) / 2**30
    return f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs, {gib:.1f} GiB"
