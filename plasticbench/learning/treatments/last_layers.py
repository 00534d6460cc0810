"""Last-layers reset: the head returns to initial weights, the encoder stays.

Source: Nikishin et al., ICML 2022, arXiv 2205.07802. With ``init_source: original`` it is also the control that FIRE's
DQN experiment (Han et al., ICLR 2026, arXiv 2602.08040) lacks, whose FIRE rewinds all linear layers beside projecting
the convolutions: preset ``fire_paper_dqn`` does that rewinding alone. ``fire_paper_sac`` resets the heads under the
rules of their SAC code. Normalisations stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, OptimizerRule, Report, State, TargetRule, TemperatureRule
from plasticbench.learning.treatments._selection import reinitialize, split
from plasticbench.learning.treatments._settings import InitSource
from plasticbench.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """By default a fresh head, its optimizer state zeroed, and the target's head copied from the online network.

    ``layers``: encoder, head, hidden, all, or a glob pattern on layer names.
    """

    layers: str = "head"
    init_source: InitSource = "fresh"
    optimizer: OptimizerRule = "reset_touched"
    target: TargetRule = "sync_touched"
    temperature: TemperatureRule = "keep"

    def build(self) -> LastLayers:
        """The treatment."""
        return LastLayers(self)


PRESETS = {
    "clean": Config(),
    "fire_paper_dqn": Config(init_source="original", optimizer="keep", target="sync_touched"),
    "fire_paper_sac": Config(init_source="original", optimizer="reset", target="sync", temperature="reset"),
}


class LastLayers:
    """Re-initialises the selected layers."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def on_event(self, net: NetworkState, state: State, look: Look) -> Report:
        """Copies initial weights and biases ``[m, ...]`` into the selected layers."""
        selected, _ = split(net, self.config.layers)
        return Report(touched=reinitialize(selected, self.config.init_source))
