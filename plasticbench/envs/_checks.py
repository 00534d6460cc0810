"""Checks that every environment family makes of its settings, with one wording."""

from __future__ import annotations

from collections.abc import Collection

from plasticbench.plugins import did_you_mean


def check_choice(setting: str, value: str, known: Collection[str]) -> None:
    """Raises ``ValueError`` with the nearest name if ``value`` is not in ``known``."""
    if value not in known:
        raise ValueError(
            f"{setting}: must be one of {len(known)} known names, got {value!r}. {did_you_mean(value, known)}"
        )


def check_at_least(setting: str, value: int, least: int) -> None:
    """Raises ``ValueError`` if a count is too small."""
    if value < least:
        raise ValueError(f"{setting}: must be at least {least}, got {value}")


def check_probability(setting: str, value: float) -> None:
    """Raises ``ValueError`` outside [0, 1)."""
    if not 0.0 <= value < 1.0:
        raise ValueError(f"{setting}: must lie in [0, 1), got {value}")
