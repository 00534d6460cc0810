"""Passwords and tokens of URIs are shown nowhere."""

import os
from unittest import mock

import pytest
import yaml
from small_runs import run_all, small
from typer.testing import CliRunner

from plasticbench.platform.cli import app
from plasticbench.platform.tracking.mirror import TrackingUnavailable, check
from plasticbench.platform.tracking.store_uris import accepted
from plasticbench.uris import shown, without_secrets
from plasticbench.visible import visible

SECRET = "S3cret-0f-alice"
runner = CliRunner(env={"COLUMNS": "300"})
DATABASES = [
    f"mysql://alice:{SECRET}@127.0.0.1:9/m",
    f"postgres://alice:{SECRET}@127.0.0.1:9/m",
    f"postgresql://alice:{SECRET}@127.0.0.1:9/m",
    f"postgresql+psycopg://alice:{SECRET}@127.0.0.1:9/m",
    f"postgresql://127.0.0.1:9/m?user=alice&password={SECRET}",
    f"postgresql://127.0.0.1:9/m?sslpassword={SECRET}",
    f"postgresql://127.0.0.1:9/m?passfile=/home/{SECRET}",
    f"postgresql://alice:{SECRET}@127.0.0.1:notaport/m",
]
SERVERS = [
    f"https://alice:{SECRET}@127.0.0.1:9",
    f"http://{SECRET}@127.0.0.1:9",
    f"http://127.0.0.1:9/?token={SECRET}",
    f"http://alice:{SECRET}@[::1",
    f"http://alice:{SECRET}@127.0.0.1:notaport",
]


@pytest.fixture(autouse=True)
def environment():
    with mock.patch.dict(os.environ):
        yield


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("postgresql://alice:S3cret@db/m", "postgresql://***@db/m"),
        ("postgresql://alice:S3@/?#cret@db/m", "postgresql://***@db/m"),
        (
            "postgres://h/m?user=alice&password=S3cret&sslmode=require",
            "postgres://h/m?user=alice&password=***&sslmode=require",
        ),
        ("postgresql://h/m?p%61ssword=S3cret&SSLPassword=S3cret", "postgresql://h/m?p%61ssword=***&SSLPassword=***"),
        (
            "https://token@h:5000/a@b?x=1&api_key=S3cret#access_token=S3cret",
            "https://***@h:5000/a@b?x=1&api_key=***#access_token=***",
        ),
        ("http://a:b@[::1", "http://***@[::1"),
        ("s3://bucket/folder@2", "s3://bucket/folder@2"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("/home/a@b/c?password=x", "/home/a@b/c?password=x"),
        ("runs/a:b@c", "runs/a:b@c"),
    ],
)
def test_a_uri_is_shown_without_its_secrets(uri, text):
    assert shown(uri) == text
    assert visible(f"at '{uri}': no") == f"at '{text}': no"


def test_an_address_without_a_scheme_is_shown_without_its_password():
    assert shown("alice:S3cr@et@db:5432/m") == "***@db:5432/m"
    with pytest.raises(ValueError, match=r"--tracking-uri: must be one of .* got '\*\*\*@db'"):
        accepted("alice:S3cret@db")


def test_passwords_are_hidden_wherever_a_text_repeats_them():
    uri = "postgresql://alice:S3cret%21@h/m"
    assert without_secrets(f"{uri}: S3cret! and S3cret%21 are wrong for alice", uri) == (
        "postgresql://***@h/m: *** and *** are wrong for alice"
    )


def test_the_form_that_hosting_services_hand_out_is_postgresql():
    assert accepted("postgres://u@h/m") == "postgresql://u@h/m"
    assert accepted("postgres+psycopg://u@h/m") == "postgresql+psycopg://u@h/m"
    with pytest.raises(TrackingUnavailable, match="check that the database runs"):
        check("postgres://u@127.0.0.1:9/m")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished")
    (path / "small.yaml").write_text(yaml.safe_dump(small()))
    run_all(path / "run", small())
    return path


@pytest.mark.parametrize("uri", [*DATABASES, *SERVERS])
def test_no_command_prints_a_secret(finished, tmp_path, monkeypatch, uri):
    monkeypatch.chdir(tmp_path)
    config, out = finished / "small.yaml", finished / "run"
    commands = [
        ("--tracking-uri", "run", config, "--out", tmp_path / "new", "--tracking-uri", uri),
        ("--tracking-uri", "resume", out, "--tracking-uri", uri),
        ("--tracking-uri", "report", out, "--tracking-uri", uri),
        ("--address", "submit", config, "--out", "/tmp/x", "--address", uri),
        ("--address", "jobs", "list", "--address", uri),
        ("--address", "jobs", "stop", "x", "--address", uri),
        ("", "report", uri),
        ("", "ui", uri),
        ("", "leaderboard", uri),
        ("", "run", config, "--out", uri),
        ("", "run", uri, "--out", tmp_path / "new"),
        ("", "plan", uri),
        ("", "export", uri, "--to", "csv"),
        ("", "power", uri),
        ("", "clean", uri),
        ("", "status", uri),
    ]
    for option, *arguments in commands:
        result = runner.invoke(app, list(map(str, arguments)))
        said = result.output + result.stderr
        assert result.exit_code == 2, (arguments, said, result.exception)
        assert SECRET not in said, said
        assert option in said
    files = [file for folder in (finished, tmp_path) for file in folder.rglob("*")]
    assert not [
        file for file in files if SECRET in str(file) or (file.is_file() and SECRET in file.read_text("latin-1"))
    ]
