"""Shrink and perturb: weights and biases become ``keep`` times the old plus ``noise`` times initial ones.

Source: Ash & Adams, NeurIPS 2020, arXiv 1910.08475. The defaults follow SR-SPR (D'Oro et al., ICLR 2023): 0.8 and 0.2
with fresh draws in the encoder, everything else fresh. FIRE's DQN code (Han et al., ICLR 2026, arXiv 2602.08040) keeps
0.2 and adds 0.8 of the first initialisation, for the target network with the target's own weights; their SAC code does
so with all parameters, normalisations included, copies them to the target and starts optimizers and temperature anew.
``sr_spr`` and ``bbf`` (Schwarzer et al., ICML 2023, arXiv 2305.19452) are the factors of the two Atari agents in the
code of the latter, with the rule applied to the target's own weights; there, online and target draw apart, encoders
keep Adam's moments while all counts begin anew, and BBF anneals its horizon and discount after each reset. FIRE's
vision and language code (``fire_paper_vision``, ``fire_paper_language``) blends all parameters, and no running
statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, OptimizerRule, Report, State, TargetRule, TemperatureRule
from plasticbench.learning.treatments._selection import inert_rest, initial_values, reinitialize, split
from plasticbench.learning.treatments._settings import (
    NO_REST,
    NOTHING_DRAWN,
    InitSource,
    Rest,
)
from plasticbench.settings import Fraction, Settings

if TYPE_CHECKING:
    from plasticbench.learning.layers import LayerSpec

Norms = Literal["keep", "blend", "blend_trained"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``keep`` and ``noise``: factors in [0, 1] of the old and of the initial value; they need not add up to 1.

    ``layers``: encoder, head, hidden, all, or a glob pattern on layer names; ``rest``: what the other layers do.
    ``norms``: what normalisations do, whatever layer they belong to; blend is the same as the selected layers,
    blend_trained leaves running statistics out.
    """

    keep: Fraction = 0.8
    noise: Fraction = 0.2
    layers: str = "encoder"
    rest: Rest = "reset"
    norms: Norms = "keep"
    init_source: InitSource = "fresh"
    optimizer: OptimizerRule = "reset_touched"
    target: TargetRule = "sync"
    temperature: TemperatureRule = "keep"

    def inert(self) -> dict[str, str]:
        """Settings without effect under the current values, and why."""
        inert = {"rest": NO_REST} if self.layers == "all" else {}
        if self.noise == 0.0 and (self.rest == "keep" or inert):
            inert["init_source"] = NOTHING_DRAWN
        return inert

    def inert_on(self, specs: Sequence[LayerSpec]) -> dict[str, str]:
        """Settings without effect on such a network, and why."""
        inert = inert_rest(specs, self.layers)
        return inert if any(spec.is_norm for spec in specs) else inert | {"norms": "the network has no normalisation"}

    def build(self) -> ShrinkPerturb:
        """The treatment."""
        return ShrinkPerturb(self)


PRESETS = {
    "clean": Config(),
    "fire_paper_dqn": Config(keep=0.2, noise=0.8, init_source="original", optimizer="keep", target="same_operation"),
    "fire_paper_sac": Config(
        keep=0.2,
        noise=0.8,
        layers="all",
        norms="blend",
        init_source="original",
        optimizer="reset",
        temperature="reset",
    ),
    "fire_paper_vision": Config(
        keep=0.2, noise=0.8, layers="all", norms="blend_trained", init_source="original", optimizer="reset"
    ),
    "fire_paper_language": Config(
        keep=0.5, noise=0.5, layers="all", norms="blend_trained", init_source="original", optimizer="reset"
    ),
    "sr_spr": Config(target="same_operation"),
    "bbf": Config(keep=0.5, noise=0.5, target="same_operation"),
}


class ShrinkPerturb:
    """Shrinks and perturbs the selected layers, and re-initialises or keeps the rest."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def on_event(self, net: NetworkState, state: State, look: Look) -> Report:
        """Writes ``keep * value + noise * initial`` into weights and biases ``[m, ...]`` of the selected layers."""
        config = self.config
        selected, rest = split(net, config.layers)
        if config.norms != "keep":
            selected += [norm for norm in net.norms if config.norms == "blend" or not norm.is_statistic]
        initial = initial_values(selected, config.init_source) if config.noise else {}
        touched = reinitialize(rest, config.init_source) if config.rest == "reset" else set()
        for layer in selected:
            for name, parameter in layer.parameters.items():
                parameter.value.mul_(config.keep)
                if initial:
                    parameter.value.add_(initial[name], alpha=config.noise)
                touched.add(name)
        return Report(touched=touched)
