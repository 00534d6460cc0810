"""FIRE: weights move to the nearest isometry, the least change that makes them perfectly conditioned again.

Source: Frobenius-Isometry Reinitialization, Han et al., ICLR 2026, arXiv 2602.08040. ``fire_paper_dqn`` is what the
authors' DQN code does: convolutions projected with 10 Newton-Schulz steps, linear layers rewound to their first
initialisation, Adam's state kept. ``fire_paper_sac`` is their SAC code: all linear layers projected, heads included,
optimizers and temperature new. The defaults instead project all hidden layers exactly and rewind nothing. Their vision
code projects every linear layer and convolution, of a ViT queries and keys alone (``layers: "*.to_[qk]"``); their
language code takes 5 steps and projects token embeddings that are the output layer as well (``fire_paper_language``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, OptimizerRule, Report, State, TargetRule, TemperatureRule
from plasticbench.learning.treatments._selection import inert_rest, reinitialize, split
from plasticbench.learning.treatments._settings import (
    NO_REST,
    NOTHING_DRAWN,
    InitSource,
    Rest,
    Scale,
    Solver,
)
from plasticbench.settings import UNHASHED_DEFAULT, PositiveInt, Settings

if TYPE_CHECKING:
    from plasticbench.learning.layers import LayerSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """Weights of ``layers`` (encoder, head, hidden, all, or a glob pattern on layer names) are projected.

    Biases and normalisations are never touched, nor embeddings, but with ``tables: tied`` those that another layer uses
    as its weight. A convolution is projected at each kernel position by
    itself, and its scale is divided by their number. ``scale``: muon is sqrt(out / in), norm_preserving gives each
    layer the Frobenius norm that it had, none leaves singular values of 1. ``iterations`` are steps of Newton-Schulz.
    ``rest``: the other layers.
    """

    solver: Solver = "svd"
    iterations: PositiveInt = 10
    scale: Scale = "muon"
    layers: str = "hidden"
    rest: Rest = "keep"
    init_source: InitSource = "fresh"
    optimizer: OptimizerRule = "reset_touched"
    target: TargetRule = "sync"
    temperature: TemperatureRule = "keep"
    tables: Literal["keep", "tied"] = field(default="keep", metadata=UNHASHED_DEFAULT)

    def inert(self) -> dict[str, str]:
        """Settings without effect under the current values, and why."""
        inert = {"iterations": "the solver is svd"} if self.solver == "svd" else {}
        if self.layers == "all":
            inert["rest"] = NO_REST
        if self.rest == "keep" or self.layers == "all":
            inert["init_source"] = NOTHING_DRAWN
        return inert

    def inert_on(self, specs: Sequence[LayerSpec]) -> dict[str, str]:
        """Settings without effect on such a network, and why."""
        inert = inert_rest(specs, self.layers)
        has_tied = any(getattr(part, "also", ()) for part in getattr(specs, "parts", ()))
        return inert if has_tied else inert | {"tables": "the network has no embedding that another layer uses"}

    def build(self) -> Fire:
        """The treatment."""
        return Fire(self)


PRESETS = {
    "clean": Config(),
    "fire_paper_dqn": Config(
        solver="newton_schulz",
        layers="encoder",
        rest="reset",
        init_source="original",
        optimizer="keep",
        target="sync_touched",
    ),
    "fire_paper_sac": Config(solver="newton_schulz", layers="all", optimizer="reset", temperature="reset"),
    "fire_paper_vision": Config(solver="newton_schulz", layers="all", optimizer="reset"),
    "fire_paper_language": Config(solver="newton_schulz", iterations=5, layers="all", optimizer="reset", tables="tied"),
}


class Fire:
    """Projects the selected layers, and re-initialises or keeps the rest."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def on_event(self, net: NetworkState, state: State, look: Look) -> Report:
        """Writes scaled isometries into the selected weights ``[m, out, in]`` and ``[m, out, in, kh, kw]``.

        Measures, as sums over layers ``[m]``: ``sfe``, the squared change of all weights; ``dfi_before`` and
        ``dfi_after``, the projected weights' squared deviation from an isometry of the scale they received.
        """
        import torch

        from plasticbench.learning.treatments._polar import deviation, project_

        config = self.config
        selected, rest = split(net, config.layers, matrices_alone=True)
        if config.tables == "tied":
            selected += [layer for layer in net.layers if layer.is_table and layer.also]
        # Row by row, so that sums over them do not depend on how the population lies in memory.
        before = {layer.name: layer.weight.value.clone(memory_format=torch.contiguous_format) for layer in net.layers}
        touched = reinitialize(rest, config.init_source) if config.rest == "reset" else set()
        scales = project_(
            [layer.weight.value for layer in selected],
            solver=config.solver,
            iterations=config.iterations,
            scale=config.scale,
        )
        sfe = [(layer.weight.value - before[layer.name]).float().square().flatten(1).sum(1) for layer in net.layers]
        scaled = list(zip(selected, scales, strict=True))
        return Report(
            touched=touched | {f"{layer.name}.weight" for layer in selected},
            measurements={
                "sfe": torch.stack(sfe).sum(0),
                "dfi_before": torch.stack([deviation(before[layer.name], s) for layer, s in scaled]).sum(0),
                "dfi_after": torch.stack([deviation(layer.weight.value.contiguous(), s) for layer, s in scaled]).sum(0),
            },
        )
