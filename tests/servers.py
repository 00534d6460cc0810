"""Real servers on loopback for tests and benchmarks, which may kill them and start them again in the same place.

PostgreSQL comes from Debian's package and refuses root, so root starts it as the user ``postgres`` or ``nobody``.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_START_TIMEOUT_S = 300.0  # at most: a busy machine takes minutes to load MLflow


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


class Server:
    """One server process with its children; ``start`` returns once it answers."""

    def __init__(
        self,
        command: Sequence[str | Path],
        answers: Callable[[], bool],
        log: Path,
        *,
        uri: str,
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.uri, self.log = uri, log
        self._command, self._answers, self._user = list(map(str, command)), answers, user
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process that was started."""
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> None:
        """Starts the server and waits until it answers. Raises ``RuntimeError`` with the end of its log if not."""
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd="/",
                env=self._environment,
                user=self._user,
                extra_groups=None if self._user is None else [],
                start_new_session=True,
            )
        end = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise RuntimeError(f"{self._command[0]} does not run: {self.log.read_text()[-2000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL to the server and all its children at once, as when a machine dies."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Asks the server to end, and kills what is left after half a minute."""
        if self._process is not None:
            # SIGINT is PostgreSQL's fast shutdown: SIGTERM would wait for its clients to leave.
            self._process.send_signal(signal.SIGINT if self._user else signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(30)
            self._end(signal.SIGKILL)

    def _end(self, kind: signal.Signals) -> None:
        if self._process is None:
            return
        members = family(self._process.pid) if self._process.poll() is None else []
        for pid in members:
            with suppress(ProcessLookupError):
                os.kill(pid, kind)
        self._process.wait(30)
        while any(map(_parent, members)):  # PostgreSQL refuses to start beside a child of its predecessor
            time.sleep(0.01)


def _parent(pid: int) -> int | None:
    """The parent of a living process; none for one that has ended, whether or not its parent has noticed."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else int(parent)


def family(pid: int) -> list[int]:
    """A process and those below it, parents first."""
    parents = {int(folder.name): _parent(int(folder.name)) for folder in Path("/proc").glob("[0-9]*")}
    members = [pid]
    for member in members:
        members += [child for child, parent in parents.items() if parent == member]
    return members


@contextmanager
def postgresql(user: str = "mlflow") -> Iterator[Server]:
    """A new PostgreSQL; ``uri`` names its empty database ``postgres``. Its files go when the block ends."""
    initdb = _postgresql_program("initdb")
    owner = _unprivileged_user()
    # Not below pytest's folders, which are closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    if owner is not None:
        account = pwd.getpwnam(owner)
        os.chown(folder, account.pw_uid, account.pw_gid)
    data, port = folder / "data", free_port()
    create = [initdb, "-D", data, "-U", user, "--auth=trust", "--no-locale", "--encoding=UTF8", "--no-sync"]
    subprocess.run(
        create, user=owner, extra_groups=None if owner is None else [], cwd="/", check=True, stdout=subprocess.DEVNULL
    )
    uri = f"postgresql://{user}@127.0.0.1:{port}/postgres"
    listen = ["-c", "listen_addresses=127.0.0.1", "-c", f"port={port}", "-c", f"unix_socket_directories={folder}"]
    command = [_postgresql_program("postgres"), "-D", data, *listen]
    server = Server(command, lambda: _database_answers(uri), folder / "log", uri=uri, user=owner)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@contextmanager
def mlflow_server(
    database_uri: str,
    folder: Path,
    *,
    workers: int = 1,
    port: int | None = None,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """An MLflow server before a database, with artifacts and log below ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    uri = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", database_uri, "--artifacts-destination", str((folder / "artifacts").resolve())]
    # Job execution is for hosted evaluations; without it the server is there in 5 s instead of 13.
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command += ["--workers", str(workers), *options]
    quiet |= environment or {}
    server = Server(command, lambda: _page_answers(f"{uri}/health"), folder / "log", uri=uri, environment=quiet)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _unprivileged_user() -> str | None:
    """Who runs PostgreSQL: nobody else if we are not root."""
    if os.geteuid() != 0:
        return None
    known = {account.pw_name for account in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _postgresql_program(name: str) -> str:
    """Debian keeps the server's programs off the PATH."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = shutil.which(name) or (str(places[-1]) if places else None)
    if found is None:
        raise RuntimeError(f"{name} is missing: install PostgreSQL's server (Debian: apt-get install postgresql)")
    return found


def _database_answers(uri: str) -> bool:
    import psycopg

    try:
        psycopg.connect(uri, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _page_answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:
        return False
    return True
