"""An MLflow store through the few calls that the mirror needs: the only file that imports mlflow.

Written against MLflow 3.17, whose names and limits are quoted where they matter.
"""

from __future__ import annotations

import getpass
import logging
import os
import re
import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from posixpath import normpath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from plasticbench.platform.tracking.landing_page import EXPERIMENT_TAGS
from plasticbench.platform.tracking.report_run import experiment_note, is_ours
from plasticbench.platform.tracking.run_specs import NOTE, RunSpec
from plasticbench.platform.tracking.schema import VERSION_QUERY, has_version, schema_problem
from plasticbench.platform.tracking.store_uris import accepted, database_uri, scheme
from plasticbench.records import Record
from plasticbench.uris import without_secrets

if TYPE_CHECKING:
    from mlflow import MlflowClient

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]

_MAX_METRICS_PER_BATCH = 1000
_MAX_NAME_CHARACTERS = 250
_PARENT = "mlflow.parentRunId"
_MAX_VALUE_CHARACTERS = 6000
_CONNECT_TIMEOUT_S = 5
_SQLALCHEMY_PREFACE = "(raised as a result of Query-invoked autoflush"
_RUN_DIRECTORY_TAG = "plasticbench.run"

# A value that the user has exported wins over these.
_CLIENT_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",  # seconds; a batch of 1000 metrics takes about 0.2
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the mirror's next pump looks first at what the lost request has done
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # and asking the server for it, at the end of every run
    # Of MLflow's own experiment "Default", which nothing is put into: what its servers say. It would be a folder of the
    # current one else, whose name goes unquoted into SQL.
    "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
}


class TrackingUnavailable(RuntimeError):
    """The tracking store cannot be used now; nothing is lost, and the next pump continues where this one stopped."""


class _NoPlace(RuntimeError):
    """A database file cannot be made where it should be."""


def check(tracking_uri: str) -> None:
    """Returns within seconds if the store answers.

    Raises ``ValueError`` for a URI of the wrong kind and ``TrackingUnavailable`` for a store that does not answer.
    """
    tracking_uri = accepted(tracking_uri)
    quick = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(_CONNECT_TIMEOUT_S)}
    kind = scheme(tracking_uri)
    with session(tracking_uri, quick):
        if kind == "http":
            from mlflow import MlflowClient

            # Not /health: it also answers where the server refuses every other request for its host name.
            MlflowClient(tracking_uri).search_experiments(max_results=1)
        else:
            _check_database(tracking_uri, kind)


def _check_database(tracking_uri: str, kind: Literal["sqlite", "postgresql"]) -> None:
    # MLflow itself would repeat a failing connection 15 times with doubling pauses: hours.
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.pool import NullPool

    if kind == "postgresql":
        arguments, probe = {"connect_timeout": _CONNECT_TIMEOUT_S}, "SELECT 1"
    else:
        arguments, probe = {}, "PRAGMA schema_version"  # reads the header, so a foreign file is noticed
        file = _database_file(tracking_uri)
        if not file.exists():
            with _folder_beside(file):
                return  # it can be made there
    with create_engine(tracking_uri, poolclass=NullPool, connect_args=arguments).connect() as connection:
        connection.exec_driver_sql(probe)
        tables = inspect(connection).get_table_names()
        version = connection.exec_driver_sql(VERSION_QUERY).scalar() if has_version(tables) else None
    if problem := schema_problem(masked(tracking_uri, tracking_uri), tables, version):
        raise TrackingUnavailable(f"MLflow store {problem}")


def _database_file(tracking_uri: str) -> Path:
    from sqlalchemy.engine import make_url

    return Path(make_url(tracking_uri).database or "")


def _make_database(file: Path) -> None:
    """Puts a complete MLflow database in its place: one that was cut off while it was made could never be used."""
    if file.exists():
        return
    from mlflow import MlflowClient

    with _folder_beside(file) as folder:
        made = folder / file.name
        MlflowClient(database_uri(made)).search_experiments(max_results=1)
        with suppress(OSError):  # another process was quicker; or no hard links here, and MLflow makes it in its place
            file.hardlink_to(made)


@contextmanager
def _folder_beside(file: Path) -> Iterator[Path]:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        folder = TemporaryDirectory(prefix=f".{file.name}-", dir=file.parent)
    except OSError as error:
        raise _NoPlace(f"{error.strerror}: {file}") from error
    with folder as path:
        yield Path(path)


@contextmanager
def session(tracking_uri: str, settings: Mapping[str, str] | None = None) -> Iterator[None]:
    """Quiet, quick MLflow settings inside the block alone, and its many errors as ``TrackingUnavailable``.

    ``settings`` are environment variables that hold in the block whatever the user has exported.
    """
    defaults = {name: value for name, value in _CLIENT_SETTINGS.items() if name not in os.environ}
    with _environment({**defaults, **(settings or {})}):
        from mlflow.exceptions import MlflowException
        from requests.exceptions import RequestException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with _errors_only("mlflow", "alembic"), warnings.catch_warnings():
                for category in (DeprecationWarning, FutureWarning):  # MLflow's own business with its libraries
                    warnings.simplefilter("ignore", category)
                yield
        except (MlflowException, RequestException, SQLAlchemyError, ModuleNotFoundError, _NoPlace) as error:
            raise TrackingUnavailable(_advice(tracking_uri, error)) from error


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _errors_only(*names: str) -> Iterator[None]:
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _advice(tracking_uri: str, error: Exception) -> str:
    kind = scheme(tracking_uri)
    match error, kind:
        case ModuleNotFoundError(), _:
            advice = f"its database driver is missing: pip install {error.name}, or write postgresql:// for psycopg 3"
        case _, "http" if "error code 401" in str(error):  # 403 is also the answer to a host name that is not allowed
            advice = "it wants MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD of a user who may, on every node"
        case _, "http":
            advice = "start or restart the MLflow server, and check the address and its --allowed-hosts"
        case _, "postgresql":
            advice = "check that the database runs and that user and password are right"
        case _:
            advice = "check that the file is an MLflow database and that its folder is writable and not full"
    lines = (str(error).strip() or repr(error)).splitlines()
    cause = next((line for line in lines if not line.startswith(_SQLALCHEMY_PREFACE)), lines[0])
    return masked(f"MLflow store {tracking_uri} cannot be used: {advice}. Cause: {cause}", tracking_uri)


def _how_to_restore(tracking_uri: str, experiment: str, experiment_id: str) -> str:
    return (
        f"the experiment {experiment!r} was deleted in MLflow, which keeps its name. Restore it: MLFLOW_TRACKING_URI="
        f"{shlex.quote(masked(tracking_uri, tracking_uri))} mlflow experiments restore --experiment-id {experiment_id}"
        "; or give the benchmark another name, and run it into another directory"
    )


def masked(text: str, tracking_uri: str) -> str:
    """The text without the secrets of the URI."""
    return without_secrets(text, tracking_uri)


@lru_cache(maxsize=4096)
def legal_name(name: str) -> str:
    """The name with what MLflow refuses replaced: other characters, empty path parts, more than 250 characters."""
    return normpath(re.sub(r"[^/\w.\- :]", "_", name)).lstrip("/.")[:_MAX_NAME_CHARACTERS] or "_"


class Store:
    """The runs that one run directory has in one experiment of an MLflow store. Use inside ``session``."""

    def __init__(self, client: MlflowClient, experiment_id: str, run_directory: str) -> None:
        """``run_directory`` is the directory's unique id; its runs are found by it."""
        self._client = client
        self._experiment_id = experiment_id
        self._run_directory = run_directory
        self._run_ids: dict[tuple[str, str], str] = {}
        self._num_params: dict[str, int] = {}
        self._statuses: dict[str, str] = {}
        self._seeds: dict[str, str] = {}  # of which a method's means are
        self._parents: dict[str, str] = {}

    @classmethod
    def open(cls, tracking_uri: str, experiment: str, note: str, artifacts: str, run_directory: str) -> Store:
        """Connects, creates schema and experiment where they are missing, and finds the directory's runs.

        The URI ``artifacts`` is used for databases alone; a server has its own place.
        """
        from mlflow import MlflowClient

        check(tracking_uri)
        if scheme(tracking_uri) == "sqlite":
            _make_database(_database_file(tracking_uri))
        client = MlflowClient(tracking_uri)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            location = None if scheme(tracking_uri) == "http" else artifacts
            tags = {NOTE: note[:_MAX_VALUE_CHARACTERS]} if note else {}
            experiment_id = client.create_experiment(experiment, location, tags | EXPERIMENT_TAGS)
        elif found.lifecycle_stage == "deleted":
            raise TrackingUnavailable(_how_to_restore(tracking_uri, experiment, found.experiment_id))
        else:
            experiment_id = found.experiment_id
            for name, value in EXPERIMENT_TAGS.items() - found.tags.items():
                client.set_experiment_tag(experiment_id, name, value)
        store = cls(client, experiment_id, run_directory)
        store._find_runs()
        return store

    def _find_runs(self) -> None:
        # All at once: looking each trial up would cost a request per trial at every start.
        condition = f"tags.`{_RUN_DIRECTORY_TAG}` = '{self._run_directory}'"
        token: str | None = ""
        while token is not None:
            page = self._client.search_runs(
                [self._experiment_id], condition, order_by=["attributes.start_time ASC"], page_token=token or None
            )
            for run in page:
                self._note(run.info.run_id, run.info.status, run.data.params, run.data.tags)
            token = page.token or None

    def _note(self, run_id: str, status: str, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        keys = [item for item in tags.items() if item[0].startswith("plasticbench.") and item[0] != _RUN_DIRECTORY_TAG]
        if any(key in self._run_ids for key in keys):
            # Created by a request whose answer never came, after we had asked again.
            self._client.delete_run(run_id)
            return
        self._run_ids |= dict.fromkeys(keys, run_id)
        self._num_params[run_id] = len(params)
        self._statuses[run_id] = status
        self._seeds |= {run_id: params["seeds"]} if "seeds" in params else {}
        self._parents |= {run_id: tags[_PARENT]} if _PARENT in tags else {}

    def _known(self, spec: RunSpec) -> str | None:
        """The run that there is, unless its method has other seeds now: MLflow takes no mean and no parameter back."""
        run_id = self._run_ids.get(spec.key)
        if run_id is None:
            return None
        seeds = spec.params.get("seeds")
        if seeds is not None and self._seeds.get(run_id, seeds) != seeds[:_MAX_VALUE_CHARACTERS]:
            self._client.delete_run(run_id)
            return None
        if spec.parent and self._parents.get(run_id, spec.parent) != spec.parent:
            self.tag(run_id, _PARENT, spec.parent)
            self._parents[run_id] = spec.parent
        return run_id

    def run(self, spec: RunSpec) -> str:
        """The run's id; creates the run, or completes one whose creation was interrupted."""
        from mlflow.entities import Param

        run_id = self._known(spec)
        if run_id is None:
            tags = {**spec.tags, spec.key[0]: spec.key[1], _RUN_DIRECTORY_TAG: self._run_directory}
            tags |= {_PARENT: spec.parent} if spec.parent else {}
            tags |= {"mlflow.user": _user()}
            tags = {name: value[:_MAX_VALUE_CHARACTERS] for name, value in tags.items()}
            run_id = self._client.create_run(self._experiment_id, tags=tags, run_name=spec.name).info.run_id
            self._run_ids[spec.key] = run_id
            self._statuses[run_id] = "RUNNING"
        params = {legal_name(name): value[:_MAX_VALUE_CHARACTERS] for name, value in spec.params.items()}
        if self._num_params.get(run_id, 0) < len(params):
            # Splits into the 100 that one request may hold; those that are there already stay as they are.
            self._client.log_batch(run_id, params=[Param(name, value) for name, value in params.items()])
            self._num_params[run_id] = len(params)
        return run_id

    def log(self, run_id: str, records: Sequence[Record]) -> None:
        """Sends records as metrics with their own times, so that sending one again changes nothing.

        MLflow's key is run, name, time in ms, step and value (``SqlMetric`` in mlflow/store/tracking/dbmodels).
        """
        from mlflow.entities import Metric

        for first in range(0, len(records), _MAX_METRICS_PER_BATCH):
            batch = records[first : first + _MAX_METRICS_PER_BATCH]
            metrics = [Metric(legal_name(item.name), item.value, int(item.time * 1000), item.step) for item in batch]
            self._client.log_batch(run_id, metrics=metrics)

    def tag(self, run_id: str, name: str, value: str) -> None:
        """Sets a tag of a run."""
        self._client.set_tag(run_id, name, value[:_MAX_VALUE_CHARACTERS])

    def describe(self, description: str, report_run: str) -> None:
        """Links the report from the experiment's note, unless somebody has written another one."""
        note = self._client.get_experiment(self._experiment_id).tags.get(NOTE, "")
        if is_ours(note, description[:_MAX_VALUE_CHARACTERS]):
            text = experiment_note(description[: _MAX_VALUE_CHARACTERS // 2], self._experiment_id, report_run)
            self._client.set_experiment_tag(self._experiment_id, NOTE, text)

    def reopen(self, run_id: str) -> None:
        """Shows a resumed run as running again."""
        if self._statuses[run_id] != "RUNNING":
            self._client.update_run(run_id, status="RUNNING")
            self._statuses[run_id] = "RUNNING"

    def end(self, run_id: str, status: RunStatus) -> None:
        """Ends a run, unless it has ended this way already."""
        if self._statuses[run_id] != status:
            self._client.set_terminated(run_id, status)
            self._statuses[run_id] = status

    def status(self, run_id: str) -> str:
        """A run's status as we left it: ``RUNNING`` or how it ended."""
        return self._statuses[run_id]

    def log_folder(self, run_id: str, folder: Path, name: str) -> None:
        """Copies a folder's files into the run's artifacts under ``name``."""
        self._client.log_artifacts(run_id, str(folder), name)

    def log_file(self, run_id: str, file: Path, name: str) -> None:
        """Copies a file into the run's artifacts, below the folder ``name`` if that is not empty."""
        self._client.log_artifact(run_id, str(file), name or None)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for its user
        return "unknown"
