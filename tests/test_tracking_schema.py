"""Databases of other versions of MLflow and of other programs are told before anything is trained."""

import re
import sqlite3
from pathlib import Path

import pytest
from mlflow.store.db.utils import _get_latest_schema_revision
from small_runs import prepare, small
from typer.testing import CliRunner

from plasticbench.platform.cli import app
from plasticbench.platform.tracking.mirror import TrackingUnavailable, check
from plasticbench.platform.tracking.mlflow_store import _make_database, session
from plasticbench.platform.tracking.schema import _revisions, file_problem, schema_problem

FIRST_SCHEMA = "451aebb31d03"  # of MLflow 1.0


@pytest.fixture(scope="module")
def current(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("current") / "mlflow.db"
    with session(f"sqlite:///{file}"):
        _make_database(file)
    return file


@pytest.fixture
def database(current: Path, tmp_path: Path) -> Path:
    file = tmp_path / "mlflow.db"
    file.write_bytes(current.read_bytes())
    return file


def _execute(file: Path, *statements: str) -> None:
    with sqlite3.connect(file) as opened:
        for statement in statements:
            opened.execute(statement)


def _told(file: Path) -> str:
    """The problem, which a store that is named and the run's own have in common."""
    with pytest.raises(TrackingUnavailable) as told:
        check(f"sqlite:///{file}")
    problem = file_problem(file)
    assert problem is not None
    assert str(told.value) == f"MLflow store {problem}"
    return problem


def test_the_newest_schema_is_the_one_that_mlflow_itself_asks_for():
    known, newest = _revisions()
    assert newest == _get_latest_schema_revision()
    assert FIRST_SCHEMA in known
    assert len(known) > 60


def test_a_database_of_this_mlflow_and_an_empty_one_have_no_problem(database, tmp_path):
    check(f"sqlite:///{database}")
    assert file_problem(database) is None
    sqlite3.connect(tmp_path / "empty.db").close()
    (tmp_path / "empty.db").touch()
    check(f"sqlite:///{tmp_path}/empty.db")


def test_an_older_schema_is_told_with_the_command_that_upgrades_it(database):
    _execute(database, f"UPDATE alembic_version SET version_num = '{FIRST_SCHEMA}'")
    assert f"Copy it, then: mlflow db upgrade sqlite:///{database}" in _told(database)


def test_a_newer_schema_is_told_with_what_to_install(database):
    _execute(database, "UPDATE alembic_version SET version_num = 'fffffffffff0'")
    assert "was written by a newer MLflow (its schema fffffffffff0 is unknown here). Install that MLflow" in _told(
        database
    )


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE users (name)"],
        ["CREATE TABLE users (name)", "CREATE TABLE alembic_version (version_num)"],
        [
            "CREATE TABLE users (name)",
            "CREATE TABLE alembic_version (version_num)",
            "INSERT INTO alembic_version VALUES ('abc')",
        ],
    ],
)
def test_the_database_of_another_program_is_told_and_left_alone(tmp_path, statements):
    file = tmp_path / "other.db"
    _execute(file, *statements)
    before = file.read_bytes()
    assert "is the database of another program (it has users). Name another one" in _told(file)
    assert file.read_bytes() == before


def test_a_postgresql_may_hold_tables_of_its_extensions_and_no_other_alembic_schema():
    uri = "postgresql://u:***@h/d"
    assert schema_problem(uri, ["spatial_ref_sys"], None) is None
    assert "another program" in (schema_problem(uri, ["users", "alembic_version"], "abc") or "")


def test_resume_says_it_before_anything_starts(database, tmp_path):
    prepare(tmp_path / "run", small())
    own = tmp_path / "run" / "mlflow.db"
    own.write_bytes(database.read_bytes())
    _execute(own, f"UPDATE alembic_version SET version_num = '{FIRST_SCHEMA}'")
    result = CliRunner().invoke(app, ["resume", str(tmp_path / "run")])
    assert result.exit_code == 2
    assert re.search(r"older MLflow.* mlflow db upgrade sqlite:///", result.output)
    assert not list((tmp_path / "run").glob("records/*"))
