"""Which stores the mirror takes, by their URIs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit

from plasticbench.uris import shown, without_secrets


def database_uri(path: Path) -> str:
    """The URI of an SQLite file, whatever its folders are called."""
    name = str(path.resolve())
    if not re.search(r"[%?]", name):
        return f"sqlite:///{name}"  # also where SQLAlchemy would take it quoted: where a mirror stands is kept under it
    # With the driver's name, as MLflow makes the folder of a plain sqlite:/// without undoing the quotes.
    return f"sqlite+pysqlite:///{quote(name)}"


def scheme(tracking_uri: str) -> Literal["sqlite", "postgresql", "http"]:
    """The kind of store. Raises ``ValueError`` for any that the mirror does not support."""
    match re.split(r"[+:]", tracking_uri, maxsplit=1)[0]:
        case "http" | "https" if _has_host(tracking_uri):
            return "http"
        case "postgres" | "postgresql":
            return "postgresql"
        case "sqlite" if len(tracking_uri) > len("sqlite:///"):
            return "sqlite"
    forms = "sqlite:///FILE, postgresql://USER@HOST/DATABASE, http://HOST:PORT or https://HOST"
    raise ValueError(f"--tracking-uri: must be one of {forms}, got {shown(tracking_uri)!r}")


def _has_host(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a port that is no number, or an address with one bracket
        return False


def accepted(tracking_uri: str) -> str:
    """The URI as SQLAlchemy wants it: hosting services hand out ``postgres://``.

    Raises ``ValueError`` that names the option for what cannot be taken apart, a port that is no number for one.
    """
    uri = re.sub(r"^postgres(?=[+:])", "postgresql", tracking_uri)
    if scheme(uri) != "http":
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError

        try:
            make_url(uri)
        except (ArgumentError, ValueError) as error:
            reason = without_secrets(str(error), uri)
            raise ValueError(f"--tracking-uri: cannot be read: {reason}, got {shown(tracking_uri)!r}") from error
    return uri
