"""Picks the wanted records out of a record file's bytes without parsing the rest.

Most lines of a record file are probes of single layers, which no report shows. One regular expression over the bytes,
in the form in which ``Record.to_json`` writes them, passes over those several times as fast as a JSON parser.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

_SPECIAL = {b"null": math.nan, b'"inf"': math.inf, b'"-inf"': -math.inf}


class Columns(NamedTuple):
    """Wanted records in the order of the file; names as bytes."""

    steps: Sequence[int]
    names: Sequence[bytes]
    values: Sequence[float]


@functools.cache
def _line(names: str) -> re.Pattern[bytes]:
    return re.compile(rb'"step":(\d+),"name":"(%s)","value":([^,]+),"time":' % names.encode())


def scan(data: bytes, names: str) -> Columns | None:
    r"""Records whose whole name matches the regular expression ``names``; a last line without its end is left out.

    ``names`` must not match a quote: say ``[^"]`` for any character. ``None`` if ``data`` may hold anything else than
    one record per line as ``Record.to_json`` writes it (a backslash may be an escaped character of a name).
    """
    data = data[: data.rfind(b"\n") + 1]
    if b"\\" in data or data.count(b',"name":"') != data.count(b"\n"):
        return None
    steps, keys, values = zip(*found, strict=True) if (found := _line(names).findall(data)) else ((), (), ())
    try:
        return Columns(list(map(int, steps)), keys, _numbers(values))
    except ValueError:
        return None


def _numbers(values: Sequence[bytes]) -> list[float]:
    try:
        return list(map(float, values))
    except ValueError:
        return [_SPECIAL[value] if value in _SPECIAL else float(value) for value in values]
