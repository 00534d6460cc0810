"""What every command shares: the consoles, exit codes, and errors as people should read them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.text import Text

from plasticbench.platform.literal import LiteralConsole
from plasticbench.visible import visible

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
out, err = LiteralConsole(), LiteralConsole(stderr=True)


@contextmanager
def people_errors() -> Iterator[None]:
    """One clear message and exit code 2 for what the user can mend."""
    try:
        yield
    except (ValueError, OSError) as error:
        from plasticbench.storage import StorageAway  # takes long to import, and nothing may be wrong

        is_away = isinstance(error, StorageAway)
        advice = ". Resume when it is back" if is_away else ""
        err.print(styled("Error:", "bold red", f" {error}{advice}"), highlight=False, soft_wrap=True)
        raise typer.Exit(FAILED if is_away else BAD_INPUT) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def warn(message: str) -> None:
    """Says on standard error what is odd and not wrong."""
    err.print(styled("Warning:", "yellow", f" {message}"), highlight=False, soft_wrap=True)


def no_warning(message: str) -> None:
    """What ``--quiet`` asks for."""


def styled(text: str, style: str, rest: str) -> Text:
    """Text in a style, and the rest as it stands."""
    return Text.assemble((visible(text), style), visible(rest))
