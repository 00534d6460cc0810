"""URIs as they may be shown: without users, passwords and tokens."""

from __future__ import annotations

import re
from urllib.parse import unquote

URI_VARIABLE = "PLASTICBENCH_TRACKING_URI"
"""Instead of ``--tracking-uri``, where a shell's history or a list of processes must not show a password."""

_HIDDEN = "***"
_URI = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"`<>]*")
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*)://")
_BARE = re.compile(r"^\s*[^/@\s]*:[^/\s]*@")
_SECRET = re.compile(r"passw|pwd|passfile|token|secret|credential|signature|api.?key", re.IGNORECASE)
_LOCAL = {"file", "sqlite"}
_PATHS_IN_AUTHORITY = {"http", "https", "s3", "s3a", "gs", "gcs", "memory", "ray"}
_SHORTEST_SECRET = 4  # what is shorter stands in many texts by chance


def shown(uri: str) -> str:
    """``uri`` with what stands before its host, and the secrets of its query, as ``***``; other text as it stands.

    ``USER:PASSWORD@HOST`` without a scheme is a URI that somebody wrote in part.
    """
    match = _SCHEME.match(uri)
    if match is None:
        return _BARE.sub(f"{_HIDDEN}@", uri)
    start, end = _user(uri, match)
    head, mark, query = ((uri[:start] + _HIDDEN + uri[end:]) if end else uri).partition("?")
    return head + mark + "".join(_shown_setting(piece) for piece in re.split(r"([&;#])", query))


def _user(uri: str, scheme: re.Match[str]) -> tuple[int, int]:
    """Where user and password begin and end; 0, 0 without them. A database's password may hold any character."""
    kind = scheme[1].lower().partition("+")[0]
    if kind in _LOCAL:
        return 0, 0
    rest = uri[scheme.end() :]
    within = re.split(r"[/?#]", rest, maxsplit=1)[0] if kind in _PATHS_IN_AUTHORITY else rest
    at = within.rfind("@")
    return (scheme.end(), scheme.end() + at) if at >= 0 else (0, 0)


def _shown_setting(piece: str) -> str:
    name, equals, _ = piece.partition("=")
    return name + equals + _HIDDEN if equals and _SECRET.search(unquote(name)) else piece


def without_secrets(text: str, *uris: str | None) -> str:
    """``text`` with every URI in it as ``shown``, and the passwords of ``uris`` hidden wherever they stand."""
    for uri in filter(None, uris):
        text = text.replace(uri, shown(uri))
        for secret in sorted(_secrets(uri), key=len, reverse=True):
            if len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, _HIDDEN)
    return _URI.sub(lambda match: shown(match[0]), text)


def _secrets(uri: str) -> set[str]:
    """Passwords, a user without one, which is a token, and secrets of the query, as they stand and decoded."""
    match = _SCHEME.match(uri)
    if match is None:
        return set()
    start, end = _user(uri, match)
    user, _, password = uri[start:end].partition(":")
    found = {password or user}
    for piece in re.split(r"[&;#]", uri.partition("?")[2]):
        name, _, value = piece.partition("=")
        found |= {value} if _SECRET.search(unquote(name)) else set()
    return {form for secret in found if secret for form in (secret, unquote(secret))}
