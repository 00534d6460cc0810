"""Types and checks of the settings that the policies share."""

from __future__ import annotations

from typing import Any, Literal, Protocol, get_args

from plasticbench.contracts.treatment import OptimizerRule, TargetRule, TemperatureRule

InitSource = Literal["fresh", "original"]
"""Where initial weights come from: a new draw of the initialiser, or the network's first initialisation."""

Rest = Literal["keep", "reset"]
"""What happens to the layers that were not selected."""

Solver = Literal["newton_schulz", "svd"]
"""How the nearest isometry is found: by the authors' iteration, or exactly."""

Scale = Literal["muon", "norm_preserving", "none"]
"""What an isometry is multiplied by."""

NOTHING_DRAWN = "no layer takes initial weights"
NO_REST = "all layers are selected"


class Rules(Protocol):
    """The settings of every policy that rewrites weights."""

    @property
    def init_source(self) -> InitSource:
        """Where initial weights come from."""
        ...

    @property
    def optimizer(self) -> OptimizerRule:
        """What happens to the optimizer's state."""
        ...

    @property
    def target(self) -> TargetRule:
        """What happens to the target network."""
        ...

    @property
    def temperature(self) -> TemperatureRule:
        """What happens to an entropy temperature."""
        ...


def require_choice(setting: str, value: object, choices: Any) -> None:
    """Raises ``ValueError`` unless ``value`` is one of a ``Literal``'s."""
    if value not in get_args(choices):
        raise ValueError(f"{setting}: must be one of {', '.join(get_args(choices))}, got {value!r}")


def require_rules(config: Rules) -> None:
    """Raises ``ValueError`` for an unknown init source, optimizer, target or temperature rule."""
    require_choice("init_source", config.init_source, InitSource)
    require_choice("optimizer", config.optimizer, OptimizerRule)
    require_choice("target", config.target, TargetRule)
    require_choice("temperature", config.temperature, TemperatureRule)
