"""What keeps a network plastic: treatments with their seven hooks, and the rules that a reset event carries out.

Shape legend: ``m`` members that a treatment concerns, ``N`` rows of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from plasticbench.contracts.network import NetworkState

if TYPE_CHECKING:  # treatments are listed without torch
    from torch import Tensor

Hook = Literal["event", "pass", "backward", "gradient", "update", "turn"]
Family = Literal["treatments", "structures", "optimizers"]
FAMILIES: tuple[Family, ...] = ("treatments", "structures", "optimizers")
"""Groups of plug-ins that a method's parts come from; a kind is unique across them."""

State = dict[str, "Tensor"]
"""What a treatment keeps: named tensors ``[m, ...]``, which the machinery forks, saves and restores."""

OptimizerRule = Literal["keep", "reset", "reset_touched", "reset_touched_steps"]
"""What a reset does to the optimizer's state: leave it alone, start it anew, for the rewritten parameters alone, or
only count the updates of those anew."""
TargetRule = Literal["sync", "sync_touched", "keep", "same_operation"]
"""What a reset does to the target network: copy all of the online network, copy only the rewritten parameters,
leave it alone, or apply the same operation to the target's own weights."""
TemperatureRule = Literal["keep", "reset"]
"""What a reset does to an entropy temperature: leave it alone, or back to its start with a new optimizer state."""


@dataclass(slots=True)
class Report:
    """What an event did: full names of the parameters it rewrote, and measurements ``[m]`` by name.

    ``is_new``: whether the network is as a new one, so that what else it keeps starts anew as well.
    """

    touched: set[str] = field(default_factory=set)
    measurements: dict[str, Tensor] = field(default_factory=dict)
    is_new: bool = False


class Look(Protocol):
    """What a treatment may look at besides the network; lazy, so that nothing is computed that nobody reads.

    Plain modules and the networks of other libraries offer neither activations nor gradients. A treatment whose events
    need them names them in its ``Config`` (``looks_at: ClassVar[tuple[str, ...]]``), so that it is refused beforehand.
    """

    @property
    def step(self) -> int:
        """The clock: agent steps of a trial."""
        ...

    @property
    def inputs(self) -> Tensor:
        """What this network reads ``[m, N, ...]``: of the latest update, or at an event of a replay sample."""
        ...

    @property
    def next_inputs(self) -> Tensor | None:
        """What a target network reads ``[m, N, ...]`` for the rows of the latest update; ``None`` where there is none.

        Agents with a replay show it. A treatment that needs it names it in ``looks_at``.
        """
        ...

    @property
    def activations(self) -> Mapping[str, Tensor]:
        """What the units of hidden layers pass on ``[m, N, units]`` or ``[m, N, units, h, w]``, by layer."""
        ...

    @property
    def gradients(self) -> Mapping[str, Tensor]:
        """Of the agent's loss, by parameter ``[m, ...]``: of the latest update, or at an event of the sample."""
        ...

    def evaluate(self, parameters: Mapping[str, Tensor], inputs: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Outputs ``[m, N, outputs]`` and activations by layer of this network with other weights, or on other inputs.

        Differentiable, for penalties that are about what a network does.
        """
        ...

    def rng(self, member: int) -> np.random.Generator:
        """The treatment's own stream of one of the m members, ``treatment/<network>/<kind>``, saved with the trial."""
        ...


class Treatment(Protocol):
    """``learning/treatments/<kind>.py``. A class has those of the seven hooks that it needs, as named here.

    Each concerns m members by views ``[m, ...]`` and writes in place. ``init`` is asked for the state when the
    treatment first acts. A ``Config`` builds the treatment; its settings marked ``PerMember`` then are tensors ``[m]``.
    A ``Config`` may have ``fits(layers)``: it raises ``ValueError`` for a network (``LayerSpec``) that lacks something.
    """

    def init(self, net: NetworkState) -> State:
        """The state to begin with."""
        ...

    def on_event(self, net: NetworkState, state: State, look: Look) -> Report:
        """At a reset event."""
        ...

    def on_pass(self, net: NetworkState, state: State, look: Look) -> None:
        """Before the pass that is trained on; there are no rows to look at yet."""
        ...

    def on_backward(self, net: NetworkState, state: State, look: Look) -> Mapping[str, Tensor]:
        """Before the pass backward: the gradients of a penalty on what hidden layers pass on, ``[m, N, ...]`` by layer.

        They go back to the weights with those of the agent's loss, but are not clipped with them.
        """
        ...

    def on_gradient(self, net: NetworkState, state: State, look: Look) -> None:
        """Between backward and the optimizer's step."""
        ...

    def on_update(self, net: NetworkState, state: State, look: Look) -> None:
        """After the optimizer's step."""
        ...

    def on_turn(self, net: NetworkState, state: State, look: Look) -> None:
        """Before the turn of what it keeps: an update that the agent makes for its state in the network's place.

        The state then has the names of ``net.whole()``. Nothing else acts in such a turn.
        """
        ...


def hooks_of(treatment: object) -> tuple[Hook, ...]:
    """At which moments a treatment acts."""
    hooks: tuple[Hook, ...] = ("event", "pass", "backward", "gradient", "update", "turn")
    return tuple(hook for hook in hooks if hasattr(treatment, f"on_{hook}"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One ingredient of a member's method as its agent is given it; ``config`` is that of a plug-in of ``family``.

    ``id`` is equal for equal settings: by it a state is found again in a checkpoint. A treatment acts once the clock
    has passed ``begin_step``; with ``every_steps`` at the first update in each such period.
    """

    family: Family
    kind: str
    config: Any
    id: str
    networks: str = "all"
    begin_step: int = 0
    every_steps: int | None = None

    def concerns(self, network: str) -> bool:
        """Whether it acts on the trained network of this name."""
        return self.networks in ("all", network) or (self.networks == "critics" and network.startswith("critic"))
