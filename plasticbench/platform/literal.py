"""Text of others on a terminal: names, paths and exceptions are printed as they stand and steer nothing."""

from __future__ import annotations

import re
from typing import Any

from rich.console import Console
from rich.text import Text

from plasticbench.platform.definition.names import is_control
from plasticbench.uris import without_secrets

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # Ray puts them into its exceptions


def visible(text: str) -> str:
    """``text`` with control characters as Python writes them, except line ends and tabs; colours are left out.

    URIs are without their secrets.
    """
    text = without_secrets(_COLOURS.sub("", text.replace("\r\n", "\n")))
    if text.isprintable():
        return text
    return "".join(c.encode("unicode_escape").decode() if is_control(c) and c not in "\n\t" else c for c in text)


class LiteralConsole(Console):
    """A console to which square brackets, colons and control characters are text; style comes with ``Text`` alone."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Whatever Rich is given as a ``str`` passes here."""
        return super().render_str(visible(text), **options)
