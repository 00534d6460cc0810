"""Text of others on a terminal: names, paths and exceptions are printed as they stand and steer nothing."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from plasticbench.visible import visible


class LiteralConsole(Console):
    """A console to which square brackets, colons and control characters are text; style comes with ``Text`` alone."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Whatever Rich is given as a ``str`` passes here."""
        return super().render_str(visible(text), **options)
