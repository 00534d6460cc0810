"""MLflow's pages for the store in a run directory, on this machine alone."""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from plasticbench import storage
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.tracking.landing_page import page
from plasticbench.platform.tracking.store_uris import database_uri
from plasticbench.storage import Location

_POLL_S = 0.2


def ui_command(run_dir: Location, port: int) -> list[str]:
    """The command that serves MLflow's pages for the store in ``run_dir`` on 127.0.0.1."""
    database = run_dir / "mlflow.db"
    if not (isinstance(database, Path) and database.exists()):
        raise ValueError(f"{run_dir}: holds no mlflow.db; open the store that --tracking-uri named when it ran")
    # Job execution is for MLflow's hosted evaluations; without it the pages are there in 5 s instead of 13.
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    server = ["env", *(f"{name}={value}" for name, value in quiet.items() if name not in os.environ)]
    # The current folder, where uvicorn looks as well, may hold a file of the user's own that is named mlflow.py.
    server += ["PYTHONSAFEPATH=1", sys.executable, "-m", "mlflow"]
    options = f"--log-level warning --app-dir {shlex.quote(str(database.parent.resolve()))}"  # a line per request else
    server += ["server", "--uvicorn-opts", options]
    server += ["--backend-store-uri", database_uri(database)]
    return [*server, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]


def serve(directory: RunDirectory, port: int, tell: Callable[[str], None]) -> NoReturn:
    """Becomes MLflow's server, after leaving somebody behind who tells the address once it answers.

    Raises ``ValueError`` where the run has no store of its own, and if the port is taken.
    """
    command = ui_command(directory.path, port)
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            free.bind(("127.0.0.1", port))
        except OSError as error:
            raise ValueError(
                f"--port: 127.0.0.1:{port} cannot be used: {error.strerror}. Choose another one"
            ) from error
    if os.fork() == 0:
        _tell_address(directory, port, tell, shlex.join(command))
    os.execvp(command[0], command)


def _tell_address(directory: RunDirectory, port: int, tell: Callable[[str], None], command: str) -> NoReturn:
    server = os.getppid()
    while os.getppid() == server:  # it may end instead, and say why
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            name = json.loads(storage.read(directory.plan_file))["name"]
            database = directory.path / "mlflow.db"
            assert isinstance(database, Path)
            tell(f"MLflow: {page(f'http://127.0.0.1:{port}', database, name)}   ({command})")
            break
        time.sleep(_POLL_S)
    os._exit(0)
