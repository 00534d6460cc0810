"""What the settings of all probes have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import ClassVar, Self

from plasticbench.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeConfig(Settings):
    """Settings that are the whole state of a probe, so that a built probe is its own settings.

    ``bounds``: between which its values lie.
    """

    bounds: ClassVar[tuple[float, float]] = (0.0, math.inf)

    @property
    def label(self) -> str:
        """The kind, followed by each setting that differs from its default: ``dormant_ratio_0.1``."""
        settings = [(getattr(self, field.name), field.default) for field in fields(self)]
        changed = [
            f"{value:.12g}" if isinstance(value, int | float) else str(value)
            for value, default in settings
            if value != default
        ]
        return "_".join([type(self).__module__.rpartition(".")[2], *changed])

    def build(self) -> Self:
        """The probe with these settings."""
        return self
