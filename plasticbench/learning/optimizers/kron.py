"""Kron: momentum that is whitened by a learned Kronecker-factored preconditioner, the PSGD of Xi-Lin Li.

Source: Li 2015, arXiv 1512.04202, in the form of the public code ``kron_torch`` (github.com/evanatyourservice), with
which Castanyer et al. 2025 (arXiv 2506.15544) train deep networks in RL. A weight ``out x (in kh kw)`` has triangular
factors L and R, and the direction is ``L'L G R'R``. With the momentum G and normal numbers V, the factors follow
``A = L G R'`` and ``B = L^-T V R^-1``: ``L <- L - rate / |AA' + BB'| triu(AA' - BB') L``, and R the same with A'A and
B'B; they stand still where A and B agree, which whitens G. |.| is one step of a power iteration. Sides of more than
``triangular_size`` units, biases and normalisations have diagonal factors. A direction is held to a root mean square of
``clip``, parameter by parameter.

Factors are fitted at a share of the updates: all of the first ``fit_flat_updates``, then a share that falls
exponentially to ``least_fit_share``. That code balances the sizes of L and R by chance at one update in a hundred; here
it is done at every fit, which changes no direction. V comes from each member's own stream.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vector_norm

from plasticbench.learning.network import ParameterSlot
from plasticbench.learning.optimizer import BaseSettings, FlatParameters, completed
from plasticbench.seeding import Streams
from plasticbench.settings import Fraction, HalfOpenFraction, NonNegativeFloat, PositiveFloat, PositiveInt, Settings

_LEAST = 1e-30
_FIT_DECAY = 1e-3  # per update


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``fit_rate``: how far factors go at a fit. A learning rate or weight decay that is left out is the agent's own.

    ``weight_decay`` is decoupled, and of all weights. A third of Adam's learning rate is what the public code advises.
    """

    can_capture: ClassVar[bool] = False
    learning_rate: PositiveFloat | None = None
    momentum: HalfOpenFraction = 0.9
    fit_rate: PositiveFloat = 0.1
    fit_flat_updates: PositiveInt = 500
    least_fit_share: Fraction = 0.03
    triangular_size: PositiveInt = 8192
    clip: PositiveFloat = 1.1
    weight_decay: NonNegativeFloat | None = None

    def build(self, network: FlatParameters, base: BaseSettings) -> PopulationKron:
        """The optimizer of all parameters."""
        return PopulationKron(network, completed(self, base))


COSTS = "5 to 23 times as long as with none, because factors are fitted, later at three updates in a hundred"
PRESETS = {"clean": Config(), "kron_torch": Config(learning_rate=3e-4, weight_decay=0.0)}


class _Block(NamedTuple):
    """A parameter as a matrix ``[M, rows, columns]``, and whether its factors are triangular; one row: no left one."""

    slot: ParameterSlot
    rows: int
    columns: int
    triangular: tuple[bool, bool]

    def view(self, flat: Tensor) -> Tensor:
        return self.slot.view(flat).reshape(self.slot.shape[0], self.rows, self.columns)


class PopulationKron:
    """Its moment is the momentum; factors, and the updates that they have seen, are kept member by member."""

    second_moments: frozenset[str] = frozenset()

    def __init__(self, network: FlatParameters, config: Config) -> None:
        self.network, self.config = network, config
        self.moments = {"exp_avg": torch.zeros_like(network.flat)}
        members, device = network.num_members, network.flat.device
        self.steps = torch.zeros(len(network.slots), members, dtype=torch.int64)
        self._blocks = [_block(slot, config.triangular_size) for slot in network.slots]
        self.member_state = {
            "updates": torch.zeros(members, dtype=torch.float64, device=device),
            "owed": torch.zeros(members, dtype=torch.float64, device=device),
        }
        for block in self._blocks:
            for side, units, is_triangular in zip(("left", "right"), block[1:3], block.triangular, strict=True):
                shape = (members, units, units) if is_triangular else (members, units)
                self.member_state[f"{block.slot.name}.{side}"] = torch.empty(shape, device=device)
        self._streams: Sequence[Streams] = ()
        self._stream = ""
        self.restart(slice(None))

    def draw_from(self, streams: Sequence[Streams], stream: str) -> None:
        """V of member m comes from ``streams[m][stream]``; must be called before the first step."""
        self._streams, self._stream = streams, stream

    def restart(self, members: slice) -> None:
        """Factors of these members become identities, which are fitted at every update again."""
        for name in ("updates", "owed"):
            self.member_state[name][members] = 0.0
        for block in self._blocks:
            self._begin(members, block.slot.name)

    def _begin(self, members: slice, parameter: str) -> None:
        for side in ("left", "right"):
            own = self.member_state[f"{parameter}.{side}"][members]
            own.zero_()
            (own.diagonal(dim1=1, dim2=2) if own.ndim == 3 else own).fill_(1.0)

    def rebuild(self) -> None:
        """Factors of parameters whose updates are counted anew become identities; follows every change of the steps."""
        for block, counts in zip(self._blocks, self.steps.tolist(), strict=True):
            for member in (member for member, count in enumerate(counts) if count == 0):
                self._begin(slice(member, member + 1), block.slot.name)

    def step(self) -> None:
        """One update from the gradients in ``network.flat_grad``."""
        self.steps += 1
        rngs = [streams[self._stream] for streams in self._streams]
        self._update(self.network.flat, self.network.flat_grad, self.moments["exp_avg"], self.member_state, rngs)

    def preview(self, gradients: Tensor) -> Tensor:
        """The change (flat) that a step with these flat gradients would make; nothing is modified."""
        weights, momentum = self.network.flat.clone(), self.moments["exp_avg"].clone()
        state = {name: value.clone() for name, value in self.member_state.items()}
        rngs = [copy.deepcopy(streams[self._stream]) for streams in self._streams]
        self._update(weights, gradients, momentum, state, rngs, ahead=1)
        return weights - self.network.flat

    @torch.no_grad()
    def _update(
        self,
        weights: Tensor,
        gradients: Tensor,
        momentum: Tensor,
        state: Mapping[str, Tensor],
        rngs: Sequence[np.random.Generator],
        ahead: int = 0,
    ) -> None:
        config = self.config
        assert config.learning_rate is not None
        momentum.lerp_(gradients, 1 - config.momentum)
        if config.weight_decay:
            weights.mul_(1 - config.learning_rate * config.weight_decay)
        due = self._due(state)
        corrections = 1 / (1 - config.momentum ** (self.steps + ahead).double())
        for block, correction in zip(self._blocks, corrections.float().to(weights.device), strict=True):
            left, right = (state[f"{block.slot.name}.{side}"] for side in ("left", "right"))
            direction = block.view(momentum) * correction.view(-1, 1, 1)
            if due:
                self._fit(left[due], right[due], direction[due], [rngs[member] for member in due], (left, right), due)
            direction = _precondition(left, _precondition(right, direction.mT).mT)
            size = direction.square().mean(dim=(1, 2), keepdim=True).sqrt_().clamp_min_(_LEAST)
            direction.mul_((config.clip / size).clamp_(max=1.0))
            block.slot.view(weights).sub_(direction.view(block.slot.shape), alpha=config.learning_rate)

    def _due(self, state: Mapping[str, Tensor]) -> list[int]:
        """Members whose factors are fitted now: what their shares of an update have added up to."""
        updates, owed = state["updates"], state["owed"]
        since = (updates - self.config.fit_flat_updates).clamp_min(0)
        owed += (-_FIT_DECAY * since).exp_().clamp_min_(self.config.least_fit_share)
        updates += 1
        is_due = owed >= 1 - 1e-9
        owed -= is_due.double()
        found: list[int] = is_due.nonzero().flatten().tolist()
        return found

    def _fit(
        self,
        left: Tensor,
        right: Tensor,
        momentum: Tensor,
        rngs: Sequence[np.random.Generator],
        whole: tuple[Tensor, Tensor],
        members: Sequence[int],
    ) -> None:
        """One step of the factors of these members towards whitening ``momentum``."""
        drawn = np.stack([rng.standard_normal(momentum.shape[1:], dtype=np.float32) for rng in rngs])
        noise = torch.from_numpy(drawn).to(momentum.device)
        whitened = _times(left, _times(right, momentum.mT).mT)
        inverse = _solved(left, _solved(right, noise.mT).mT)
        if momentum.shape[1] > 1:
            left = _moved(left, whitened, inverse, self.config.fit_rate)
        right = _moved(right, whitened.mT, inverse.mT, self.config.fit_rate)
        if momentum.shape[1] > 1:
            left, right = _balanced(left, right)
        for state, new in zip(whole, (left, right), strict=True):
            state[members] = new


def _block(slot: ParameterSlot, triangular_size: int) -> _Block:
    _, *shape = slot.shape
    rows, columns = (1, shape[0]) if len(shape) == 1 else (shape[0], int(np.prod(shape[1:])))
    triangular = [len(shape) > 1 and 1 < units <= triangular_size for units in (rows, columns)]
    return _Block(slot, rows, columns, (triangular[0], triangular[1]))


def _times(factor: Tensor, x: Tensor) -> Tensor:
    """Q X of a factor ``[m, n, n]`` or its diagonal ``[m, n]``, and ``[m, n, k]``."""
    return factor @ x if factor.ndim == 3 else factor.unsqueeze(2) * x


def _precondition(factor: Tensor, x: Tensor) -> Tensor:
    """Q'Q X."""
    return factor.mT @ (factor @ x) if factor.ndim == 3 else factor.square().unsqueeze(2) * x


def _solved(factor: Tensor, x: Tensor) -> Tensor:
    """Q^-T X of an upper triangular factor, or of its diagonal."""
    if factor.ndim == 2:
        return x / factor.unsqueeze(2)
    solution: Tensor = torch.linalg.solve_triangular(factor.mT, x, upper=False)
    return solution


def _moved(factor: Tensor, whitened: Tensor, inverse: Tensor, rate: float) -> Tensor:
    """The factor of the rows of both, one step nearer to where they agree."""
    if factor.ndim == 2:
        first, second = whitened.square().sum(2), inverse.square().sum(2)
        size = (first + second).amax(1, keepdim=True).clamp_min_(_LEAST)
        return factor - rate / size * (first - second) * factor
    first, second = whitened @ whitened.mT, inverse @ inverse.mT
    size = _norm_bound(first + second).view(-1, 1, 1).clamp_min_(_LEAST)
    return factor - rate / size * ((first - second).triu_() @ factor)


def _norm_bound(symmetric: Tensor) -> Tensor:
    """From below, the largest eigenvalue of positive matrices ``[m, n, n]``: a power step from the largest column."""
    largest = symmetric.diagonal(dim1=1, dim2=2).argmax(dim=1)
    column = symmetric.gather(2, largest.view(-1, 1, 1).expand(-1, symmetric.shape[1], 1))
    size = vector_norm(column, dim=1, keepdim=True).clamp_min_(_LEAST)
    bound: Tensor = vector_norm(symmetric @ (column / size), dim=(1, 2))
    return bound


def _balanced(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Both with the same largest magnitude, and the same product."""
    sizes = [factor.flatten(1).abs().amax(1).clamp_min(_LEAST) for factor in (left, right)]
    ratio = (sizes[1] / sizes[0]).sqrt_()
    return left * ratio.view(-1, *(1,) * (left.ndim - 1)), right / ratio.view(-1, *(1,) * (right.ndim - 1))
