"""What the settings of all probes have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import ClassVar, Self

from plasticbench.contracts.network import Shown
from plasticbench.settings import UNHASHED_DEFAULT, PositiveInt, Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeConfig(Settings):
    """Settings that are the whole state of a probe, so that a built probe is its own settings.

    ``bounds``: between which its values lie. ``needs``: what it asks of who is trained, beside layers and features.
    ``every_steps``: a cadence of its own, in place of that of all probes and of their looks around resets.
    """

    bounds: ClassVar[tuple[float, float]] = (0.0, math.inf)
    needs: ClassVar[Shown | None] = None

    every_steps: PositiveInt | None = field(default=None, metadata=UNHASHED_DEFAULT)

    @property
    def label(self) -> str:
        """The kind, followed by each setting that differs from its default: ``dormant_ratio_0.1``."""
        settings = [(getattr(self, own.name), own.default) for own in fields(self) if own.name != "every_steps"]
        changed = [
            f"{value:.12g}" if isinstance(value, int | float) else str(value)
            for value, default in settings
            if value != default
        ]
        return "_".join([type(self).__module__.rpartition(".")[2], *changed])

    def working_bytes(self, weight_bytes: int, pass_bytes: int) -> int:
        """What it takes at most for a member beside its weights and a pass with gradients, each of so many bytes."""
        return 0

    def build(self) -> Self:
        """The probe with these settings."""
        return self
