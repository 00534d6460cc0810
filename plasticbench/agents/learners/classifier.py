"""A network that is told the right class of every row, or the next token of a text: cross entropy, one update a batch.

The counterpart of agents in supervised tracks. Every phase may begin with a new optimizer, a warm-up of the learning
rate and a cosine fall, as the protocols of FIRE's vision and language benchmarks have it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from plasticbench.agents._learner import PopulationLearner
from plasticbench.agents._settings import AgentSettings
from plasticbench.agents._silence import Silence
from plasticbench.contracts.supervised import Batch, NoReplay, PhaseClock, Source
from plasticbench.contracts.task import DiscreteActions, EnvSpec
from plasticbench.contracts.treatment import Part
from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.networks import gpt, mlp
from plasticbench.learning.optimizers import adam, adamw
from plasticbench.learning.trained import TrainedNetwork
from plasticbench.plugins import PluginField
from plasticbench.seeding import Streams
from plasticbench.settings import Fraction, HalfOpenFraction, NonNegativeFloat, PositiveFloat, PositiveInt

NETWORK = "classifier"


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(AgentSettings):
    """``optimizer``: that of methods whose parts name none. ``weight_decay`` is decoupled, of all weights.

    ``accumulate``: in how many pieces a batch goes through the network, where it is too large for one.

    The learning rate of a phase rises linearly over its first ``warm_up_fraction``, at most ``warm_up_max_updates``,
    and falls along a cosine to ``final_rate_fraction`` of itself at its end. ``optimizer_at_phases``: whether each
    phase after the first begins with a new optimizer state. ``max_gradient_norm``: what the gradient of the loss is
    held to, for each member by itself and before treatments see it.
    """

    learning_starts_steps: ClassVar[int] = 0
    networks: ClassVar[tuple[str, ...]] = ("online",)
    trained_networks: ClassVar[tuple[str, ...]] = (NETWORK,)

    network: Annotated[Any, PluginField("networks")] = field(default_factory=mlp.Config)
    learning_rate: PositiveFloat = 1e-3
    adam_eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0
    batch_rows: PositiveInt = 32
    accumulate: PositiveInt = 1
    max_gradient_norm: PositiveFloat | None = None
    warm_up_fraction: HalfOpenFraction = 0.0
    warm_up_max_updates: PositiveInt | None = None
    final_rate_fraction: Fraction = 1.0
    optimizer_at_phases: Literal["keep", "reset"] = "keep"
    optimizer: Annotated[Any, PluginField("optimizers")] = field(default=adam.Config())

    def __post_init__(self) -> None:
        AgentSettings.__post_init__(self)
        if self.optimizer.learning_rate is not None:
            raise ValueError(
                f"optimizer.learning_rate: the learner's own learning_rate ({self.learning_rate}) holds for it, got "
                f"{self.optimizer.learning_rate}. Remove it, and set learning_rate"
            )
        if self.accumulate > self.batch_rows:
            raise ValueError(f"accumulate: must be at most batch_rows ({self.batch_rows}), got {self.accumulate}")

    def inert(self) -> dict[str, str]:
        """Settings without effect under the current values, and why."""
        inert = {}
        if self.warm_up_fraction == 0 and self.warm_up_max_updates is not None:
            inert["warm_up_max_updates"] = "there is no warm-up"
        if getattr(self.optimizer, "eps", 0.0) is not None:
            inert["adam_eps"] = "the optimizer has an eps of its own, or none"
        if getattr(self.optimizer, "weight_decay", None) is not None:
            inert["weight_decay"] = "the optimizer has a weight_decay of its own"
        return inert

    def num_updates(self, num_envs: int, budget_steps: int) -> int:
        """Each step of the clock is one."""
        return budget_steps

    def layers(self, spec: EnvSpec) -> dict[str, Sequence[LayerSpec]]:
        """The layers of the one trained network."""
        return {NETWORK: _layers(self, spec)}

    def memory_bytes(self, spec: EnvSpec, num_members: int) -> int:
        """Bytes of networks of a population; the data are the task's."""
        return num_members * self.network_bytes(spec)

    disk_bytes = memory_bytes
    device_bytes = memory_bytes

    def network_bytes(self, spec: EnvSpec) -> int:
        """Bytes of one member's network, with first values, gradients and moments."""
        return 24 * sum(int(np.prod(layer.weight_shape)) for layer in _layers(self, spec))

    def rate_factor(self, at: PhaseClock) -> float:
        """What the learning rate is multiplied with at an update."""
        longest = self.warm_up_max_updates or at.updates
        warm_up = min(math.ceil(self.warm_up_fraction * at.updates), longest) if self.warm_up_fraction else 0
        if at.update < warm_up:
            return (at.update + 1) / warm_up
        share = (at.update - warm_up) / max(1, at.updates - 1 - warm_up)
        return self.final_rate_fraction + (1 - self.final_rate_fraction) * 0.5 * (1 + math.cos(math.pi * share))

    def build(
        self,
        *,
        spec: EnvSpec,
        num_envs: int,
        streams: Sequence[Streams],
        budget_steps: int,
        device: torch.device,
        parts: Sequence[Sequence[Part]] = (),
    ) -> Classifier:
        """A population of ``len(streams)`` members, and each one's parts."""
        return Classifier(self, spec, streams, device, parts)


PRESETS = {
    # isaac7778/FIRE vision/: constants in section 1 of the protocol's description in docs/supervised.md.
    "fire_paper_vision": Config(
        batch_rows=256,
        learning_rate=1e-3,
        max_gradient_norm=0.5,
        warm_up_fraction=0.1,
        optimizer_at_phases="reset",
    ),
    # isaac7778/FIRE language/, from nanoGPT; there decay is of matrices alone, and floats are of 16 bits.
    "fire_paper_language": Config(
        network=gpt.Config(num_blocks=12, num_heads=12, width=768),
        optimizer=adamw.Config(beta2=0.95, weight_decay=0.1),
        batch_rows=480,
        accumulate=40,
        learning_rate=6e-4,
        max_gradient_norm=1.0,
        warm_up_fraction=0.1,
        warm_up_max_updates=2_000,
        final_rate_fraction=0.1,
        optimizer_at_phases="reset",
    ),
}


def _layers(config: Config, spec: EnvSpec) -> Any:
    assert isinstance(spec.actions, DiscreteActions)  # tasks of learners have nothing else
    return config.network.layers(spec.obs_shape, spec.actions.count)


def check(config: Config, spec: EnvSpec) -> None:
    """Raises ``ValueError`` if the network does not fit the data."""
    _layers(config, spec)


class Classifier(PopulationLearner[Batch]):
    """M members, each with a batch of its own: inputs ``[M, B, ...]``, labels ``[M, B]`` or ``[M, B, T]``."""

    def __init__(
        self,
        config: Config,
        spec: EnvSpec,
        streams: Sequence[Streams],
        device: torch.device,
        parts: Sequence[Sequence[Part]] = (),
    ) -> None:
        self.config, self.spec, self.streams, self.parts = config, spec, streams, parts
        self.replay, self.silent = NoReplay(), Silence(spec)
        base = adam.Config(learning_rate=config.learning_rate, eps=config.adam_eps, weight_decay=config.weight_decay)
        self.classifier = TrainedNetwork.build(
            NETWORK,
            _layers(config, spec),
            base,
            streams,
            device,
            target="none",
            parts=parts,
            max_gradient_norm=config.max_gradient_norm,
            optimizer=config.optimizer,
            precision=config.precision,
        )
        self._source: Source | None = None

    @property
    def trained(self) -> tuple[TrainedNetwork, ...]:
        """The networks that resets and probes concern."""
        return (self.classifier,)

    def view_name(self, network: str) -> str:
        """There is one network."""
        return "online"

    def meet(self, source: Source) -> None:
        """Further probes look at rows of this source."""
        self._source = source

    def begin_phase(self) -> None:
        """A new optimizer, where each phase has one."""
        if self.config.optimizer_at_phases == "reset":
            self.classifier.clear_moments(slice(0, len(self.streams), 1), None)

    def probe_batch(self, uniforms: np.ndarray) -> Batch | None:
        """Training rows of the phase, chosen by uniforms ``[M, N]``."""
        return self._source.sample(uniforms) if self._source is not None else None

    def update(self, batch: Batch, step: int, at: PhaseClock) -> dict[str, Tensor]:
        """One gradient step of every member on a batch of its own, at clock ``step``."""
        told: list[tuple[Tensor, Tensor]] = []
        self.classifier.begin(step)
        self.classifier.descend_through(self._losses_of_pieces(batch, told), step, self.config.rate_factor(at))
        self.updates_made += 1
        self._hold()
        loss, right = (parts[0] if len(parts) == 1 else torch.stack(parts).sum(0) for parts in zip(*told, strict=True))
        return {"loss/cross_entropy": loss, "online/accuracy": right}

    def _losses_of_pieces(self, batch: Batch, told: list[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
        """The share of each piece of the batch in its loss ``[M]``; ``told`` gets these and that of right answers."""
        pieces = self.config.accumulate
        parts = (
            zip(batch.inputs.chunk(pieces, 1), batch.labels.chunk(pieces, 1), strict=True) if pieces > 1 else [batch]
        )
        for inputs, labels in parts:
            share = inputs.shape[1] / batch.inputs.shape[1]
            logits = self.classifier.forward(inputs)
            loss = cross_entropy(logits, labels).mean(1)
            loss = loss * share if pieces > 1 else loss
            told.append((loss.detach(), accuracy(logits.detach(), labels).mean(1) * share))
            yield loss

    @torch.no_grad()
    def judge(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Whether each row ``[M, B]`` is told right, and its loss; of sequences the means over their positions."""
        logits = self.classifier.online.forward(batch.inputs)
        return accuracy(logits, batch.labels), cross_entropy(logits, batch.labels)

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """The rows as the network reads them."""
        return {NETWORK: batch.inputs}

    def losses(self, batch: Batch) -> list[Tensor]:
        """The network's loss ``[M]``."""
        return [cross_entropy(self.classifier.online.forward(batch.inputs), batch.labels).mean(1)]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """``-log softmax(logits)[label]`` of each row ``[M, B]``: logits ``[M, B, (T,) classes]``, labels ``[M, B, (T)]``.

    Of sequences it is the mean over their positions.
    """
    flat = functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), reduction="none")
    return flat.view(*labels.shape[:2], -1).mean(2) if labels.ndim > 2 else flat.view(labels.shape)


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """1 where the largest logit is the label's, else 0, of each row ``[M, B]``; of sequences the mean."""
    is_right = (logits.argmax(-1) == labels).float()
    return is_right.flatten(2).mean(2) if labels.ndim > 2 else is_right
