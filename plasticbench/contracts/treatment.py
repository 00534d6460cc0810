"""What keeps a network plastic, and the rules that a reset event carries out for it.

Shape legend: ``M`` members of a population, ``m`` members that one treatment concerns, ``E`` environments per member,
``N`` rows of a probe batch, ``B`` rows of an update batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

from plasticbench.contracts.network import NetworkState
from plasticbench.seeding import Streams


class ProbeBatch(NamedTuple):
    """Replay observations for data-dependent policies: ``[m, N, *obs_shape]``."""

    obs: Tensor


@dataclass(slots=True)
class ResetReport:
    """What a policy did: full names of the parameters it rewrote, and measurements ``[m]`` by name."""

    touched: set[str] = field(default_factory=set)
    measurements: dict[str, Tensor] = field(default_factory=dict)


class ResetPolicy(Protocol):
    """Rewrites the networks of chosen members: ``agents/reset_policies/<kind>.py``."""

    def apply(self, net: NetworkState, streams: Sequence[Streams], data: ProbeBatch | None) -> ResetReport:
        """Changes ``net`` in place; ``streams`` holds the random streams of the m members."""
        ...


OptimizerRule = Literal["keep", "reset", "reset_touched"]
TargetRule = Literal["sync", "sync_touched", "keep", "same_operation"]
"""What a reset does to the target network: copy all of the online network, copy only the rewritten parameters,
leave it alone, or apply the same policy to the target's own weights."""
TemperatureRule = Literal["keep", "reset"]
"""What a reset does to an entropy temperature: leave it alone, or back to its start with a new optimizer state."""
