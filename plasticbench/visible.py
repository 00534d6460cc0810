"""Text of others as it may be shown and kept: nothing in it steers a terminal, and URIs are without their secrets."""

from __future__ import annotations

import re
import unicodedata

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


def is_control(character: str) -> bool:
    """Whether it would steer a terminal or end a line."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
