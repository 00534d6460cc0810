"""Which stores the mirror takes, and what it says of those that do not answer."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from servers import mlflow_server

from plasticbench.platform.tracking.mirror import Mirror, TrackingUnavailable, check
from plasticbench.platform.tracking.pages import ui_command


def test_a_missing_database_driver_is_told_with_the_one_that_is_there() -> None:
    with pytest.raises(TrackingUnavailable, match=r"pip install psycopg2, or write postgresql://"):
        check("postgresql+psycopg2://u@127.0.0.1:9/d")


@pytest.mark.parametrize("uri", ["mlruns", "file:///x", "mysql://h/db", "sqlite://", "http://"])
def test_a_store_of_the_wrong_kind_is_refused_with_the_accepted_ones(tmp_path: Path, uri: str) -> None:
    for use in (check, lambda wrong: Mirror(tmp_path, wrong)):
        with pytest.raises(ValueError, match=r"sqlite:///FILE, postgresql://.*, got"):
            use(uri)


@pytest.mark.parametrize(
    ("uri", "advice"),
    [("http://u:secret@127.0.0.1:9", "server"), ("postgresql://u:secret@127.0.0.1:9/d", "psycopg|user")],
)
def test_a_store_that_is_down_is_told_within_seconds_and_without_its_password(uri: str, advice: str) -> None:
    began = time.monotonic()
    with pytest.raises(TrackingUnavailable, match=advice) as told:
        check(uri)
    assert "127.0.0.1:9" in str(told.value)
    assert "secret" not in str(told.value)
    assert time.monotonic() - began < 5


def test_check_accepts_a_new_database_and_refuses_a_foreign_file(tmp_path: Path) -> None:
    check(f"sqlite:///{tmp_path}/new/mlflow.db")
    (tmp_path / "notes.db").write_text("shopping list " * 50)
    with pytest.raises(TrackingUnavailable, match=r"notes\.db cannot be used.*not a database"):
        check(f"sqlite:///{tmp_path}/notes.db")


def test_a_place_where_no_database_can_be_made_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        TrackingUnavailable, match=r"folder is writable.*Not a directory|folder is writable.*File exists"
    ):
        check(f"sqlite:///{tmp_path}/file/mlflow.db")


def test_the_pages_of_a_directory_without_a_store_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no mlflow\.db"):
        ui_command(tmp_path, 5000)


@pytest.mark.slow
def test_a_server_with_logins_is_used_with_one_and_asks_for_it_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "auth.ini"  # without it the logins would be kept where the server runs
    settings.write_text(
        f"[mlflow]\ndatabase_uri = sqlite:///{tmp_path}/logins.db\ndefault_permission = READ\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "secret",
        "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
        "MLFLOW_AUTH_ADMIN_PASSWORD": "a-long-password",
    }
    options = ["--app-name", "basic-auth"]
    database = f"sqlite:///{tmp_path}/mlflow.db"
    with mlflow_server(database, tmp_path / "server", options=options, environment=environment) as server:
        with pytest.raises(TrackingUnavailable, match="MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"):
            check(server.uri)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a-long-password")
        check(server.uri)


@pytest.mark.slow
def test_a_server_that_refuses_our_name_for_it_is_told_by_the_option_that_lets_it_in(tmp_path: Path) -> None:
    options = ["--allowed-hosts", "mlflow.example.org"]
    with mlflow_server(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "server", options=options) as server:
        with pytest.raises(TrackingUnavailable, match=r"its --allowed-hosts\. Cause: .*403"):
            check(server.uri)
