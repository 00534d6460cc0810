"""Whether a database is one that the installed MLflow can use, without importing it, which takes seconds."""

from __future__ import annotations

import re
import shlex
import sqlite3
from collections.abc import Collection
from contextlib import closing
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_REVISION = re.compile(r"^(revision|down_revision)\b[^=]*=\s*(.*)$", re.MULTILINE)
_MLFLOW_TABLES = {"experiments", "runs", "metrics"}
_ALEMBIC_TABLE = "alembic_version"
VERSION_QUERY = f"SELECT version_num FROM {_ALEMBIC_TABLE}"


def has_version(tables: Collection[str]) -> bool:
    """Whether ``VERSION_QUERY`` can be asked."""
    return _ALEMBIC_TABLE in tables


def schema_problem(shown_uri: str, tables: Collection[str], version: str | None) -> str | None:
    """What is wrong with a database, and what to do; ``None`` if MLflow can use it or fill it.

    ``shown_uri`` has no password. ``version`` is the schema's that the database tells.
    """
    if version is None and (_MLFLOW_TABLES & set(tables) or not shown_uri.startswith("sqlite")):
        return None  # being made; or a PostgreSQL, where extensions have tables of their own
    known, newest = _revisions()
    if version == newest or not tables:
        return None
    if version in known:
        needed = f"has the schema {version} of an older MLflow, and {newest} is needed"
        return f"{shown_uri} {needed}. Copy it, then: mlflow db upgrade {shlex.quote(shown_uri)}"
    if _MLFLOW_TABLES <= set(tables):
        unknown = f"was written by a newer MLflow (its schema {version} is unknown here)"
        return f"{shown_uri} {unknown}. Install that MLflow, or name another store"
    some = ", ".join(sorted(set(tables) - {_ALEMBIC_TABLE})[:3])
    return f"{shown_uri} is the database of another program (it has {some or 'a schema of its own'}). Name another one"


def file_problem(file: Path) -> str | None:
    """The same of an SQLite file that is there."""
    uri = f"sqlite:///{file}"
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            row = database.execute(VERSION_QUERY).fetchone() if has_version(tables) else None
    except sqlite3.OperationalError:
        return None  # locked, or without permission: that may change until it is used
    except sqlite3.DatabaseError as error:
        return f"{uri} is no database ({error}). Move it away, and the next run makes a new one"
    return schema_problem(uri, tables, row[0] if row else None)


@cache
def _revisions() -> tuple[frozenset[str], str]:
    """All schema versions of the installed MLflow, and the newest; as its files of migrations say."""
    spec = find_spec("mlflow")
    assert spec is not None
    assert spec.origin is not None
    texts = (path.read_text() for path in Path(spec.origin).parent.glob("store/db_migrations/versions/*.py"))
    found = [(name, re.findall(r"[\"'](\w+)[\"']", value)) for text in texts for name, value in _REVISION.findall(text)]
    own, earlier = (
        {one for name, ones in found if name == kind for one in ones} for kind in ("revision", "down_revision")
    )
    (newest,) = own - earlier
    return frozenset(own), newest
