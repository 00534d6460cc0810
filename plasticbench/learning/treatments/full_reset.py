"""Full reset: every parameter, those of normalisations included, returns to an initial value.

Source: Nikishin et al., ICML 2022, arXiv 2205.07802 (fresh weights, new optimizer). FIRE's DQN code, Han et al., ICLR
2026, arXiv 2602.08040, rewinds online and target network to their first initialisation and keeps Adam's state; their
SAC code rewinds too, and starts optimizers and temperature anew. So do ``sr_sac`` (D'Oro et al., ICLR 2023) every 2.56
million updates, and ``bro`` (Nauman et al., NeurIPS 2024, arXiv 2405.16158) at agent steps 15,001, 50,001, 250,001,
500,001 and so on: their codes build the agent again from its first seed. ``nikishin_sac`` draws another one. FIRE's
vision code rewinds parameters and running statistics.
"""

from __future__ import annotations

from dataclasses import dataclass

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, OptimizerRule, Report, State, TargetRule, TemperatureRule
from plasticbench.learning.treatments._selection import reinitialize
from plasticbench.learning.treatments._settings import InitSource
from plasticbench.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """By default fresh weights, a target network equal to them, a new optimizer state and a new temperature."""

    init_source: InitSource = "fresh"
    optimizer: OptimizerRule = "reset"
    target: TargetRule = "sync"
    temperature: TemperatureRule = "reset"

    def build(self) -> FullReset:
        """The treatment."""
        return FullReset(self)


PRESETS = {
    "clean": Config(),
    "fire_paper_dqn": Config(init_source="original", optimizer="keep", target="same_operation"),
    "fire_paper_sac": Config(init_source="original"),
    "fire_paper_vision": Config(init_source="original"),
    "sr_sac": Config(init_source="original"),
    "bro": Config(init_source="original"),
    "nikishin_sac": Config(),
}


class FullReset:
    """Re-initialises all layers and normalisations."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def on_event(self, net: NetworkState, state: State, look: Look) -> Report:
        """Copies initial weights and biases ``[m, ...]`` into every layer."""
        return Report(touched=reinitialize((*net.layers, *net.norms), self.config.init_source), is_new=True)
