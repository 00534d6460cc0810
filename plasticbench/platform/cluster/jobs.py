"""Benchmarks as jobs of a Ray cluster: package and benchmark file travel along, results go to shared storage."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import aiohttp
from ray.exceptions import RayError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

import plasticbench
from plasticbench.code_commit import COMMIT_VARIABLE, code_commit
from plasticbench.envs._own_modules import unpack
from plasticbench.platform.definition.parsing import BenchmarkError
from plasticbench.uris import URI_VARIABLE, shown, without_secrets

_CONNECT_TIMEOUT_S = 5.0
_RECONNECT_PAUSE_S = 1.0
_URI_FILE = "tracking_uri"
_STOPPED = 130
# Between SIGTERM and SIGKILL: every population commits what it has. Ray's default is 3.
_STOP_WAIT_S = 60


@contextmanager
def job_server(address: str | None) -> Iterator[JobSubmissionClient]:
    """The job server at ``http://HOST:8265``, or at RAY_ADDRESS.

    Raises ``BenchmarkError`` within seconds if nothing answers there, and for whatever the server refuses inside the
    block.
    """
    where = address or os.environ.get("RAY_ADDRESS") or "nothing"
    parts = _parts(where)
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        raise BenchmarkError(
            "--address: must be the cluster's dashboard, http://HOST:8265 (HOST:6379 is what `run --address` takes), "
            f"got {shown(where)}"
        )
    try:
        # Ray itself would wait for as long as the network does.
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        socket.create_connection((parts.hostname, port), timeout=_CONNECT_TIMEOUT_S).close()
        with _overriding_environment(where):
            client = JobSubmissionClient(where)
        yield client
    except (RuntimeError, OSError, RayError, aiohttp.ClientError) as error:
        raise BenchmarkError(
            f"--address: no answer, or a refusal, from Ray's job server at {shown(where)}: "
            f"{without_secrets(str(error), where)}"
        ) from error


def _parts(address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError as error:
        raise BenchmarkError(f"--address: cannot be read: {error}, got {shown(address)}") from None
    return parts


def describe_server(address: str) -> str:
    """Who takes jobs there. Raises ``BenchmarkError`` if nobody does."""
    with job_server(address) as client:
        return f"Ray {client.get_version()} takes jobs at {shown(address)}"


@contextmanager
def _overriding_environment(address: str) -> Iterator[None]:
    """The client prefers RAY_ADDRESS, which may name another cluster, to the address that it is given."""
    name = "RAY_API_SERVER_ADDRESS"
    before = os.environ.get(name)
    os.environ[name] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def submit(
    client: JobSubmissionClient,
    config: Path,
    name: str,
    out: str,
    options: Sequence[str],
    *,
    tracking_uri: str | None = None,
    modules: bytes = b"",
) -> str:
    """Starts ``plasticbench run`` of a checked benchmark file on the cluster; returns the job's id.

    ``modules`` is an archive of those that its environments come from. A ``tracking_uri`` with a secret stands in a
    file that travels with the job, since Ray shows a job's command and variables to whoever sees the dashboard.
    """
    job_id = f"plasticbench-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}-{uuid.uuid4().hex[:8]}"
    arguments = ["run", f"configs/{config.name}", "--address", "auto", "--out", out, *options]
    is_secret = tracking_uri is not None and shown(tracking_uri) != tracking_uri
    if tracking_uri is not None and not is_secret:
        arguments += ["--tracking-uri", tracking_uri]
    with _working_dir(config, modules) as folder:
        command = with_rays_python(["-m", "plasticbench.platform", *arguments])
        if tracking_uri is not None and is_secret:
            (folder / _URI_FILE).write_text(tracking_uri)
            command = f'{URI_VARIABLE}="$(cat {_URI_FILE})"; export {URI_VARIABLE}; {command}'
        client.submit_job(
            entrypoint=command,
            submission_id=job_id,
            runtime_env={
                "working_dir": str(folder),
                "env_vars": {
                    "PYTHONUNBUFFERED": "1",
                    "RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_WAIT_S),
                    COMMIT_VARIABLE: code_commit() or "",
                },
            },
            metadata={"benchmark": name, "out": out},
        )
    return job_id


def with_rays_python(arguments: Sequence[str]) -> str:
    """A shell command that runs Python as Ray's own processes do, wherever the head was started from.

    The environment of the head need not be on its PATH, and Ray tells jobs nowhere which it is: but the shell's parent
    is a process of Ray, which has its library open.
    """
    library = r"s|.* \(/.*\)/lib/python[0-9.]*/site-packages/ray/_raylet.*|\1/bin/python|p"
    find = f"python=$(sed -n {shlex.quote(library)} /proc/$PPID/maps 2>/dev/null | head -n 1)"
    return f'{find}; [ -x "$python" ] || python=python; exec "$python" {shlex.join(arguments)}'


@contextmanager
def _working_dir(config: Path, modules: bytes) -> Iterator[Path]:
    """A folder with the benchmark file, its modules and this package's source, wherever they are, and nothing else."""
    with tempfile.TemporaryDirectory(prefix="plasticbench-job-") as name:
        folder = Path(name)
        source = Path(plasticbench.__file__).parent
        shutil.copytree(source, folder / "plasticbench", ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".*"))
        (folder / "configs").mkdir()
        shutil.copy(config, folder / "configs" / config.name)
        if modules:
            unpack(modules, folder / "configs")
        yield folder


def follow(client: JobSubmissionClient, job_id: str, write: Callable[[str], None]) -> int:
    """Hands on the job's output until it ends; returns its exit code."""
    asyncio.run(_tail(client, job_id, write))
    return exit_code(client.get_job_info(job_id), write)


async def _tail(client: JobSubmissionClient, job_id: str, write: Callable[[str], None]) -> None:
    shown = 0
    while True:
        position = 0
        try:
            async for text in client.tail_job_logs(job_id):  # from the beginning, after a lost connection as well
                write(text[max(0, shown - position) :])
                position += len(text)
                shown = max(shown, position)
        except (RuntimeError, aiohttp.ClientError):
            await asyncio.sleep(_RECONNECT_PAUSE_S)
        if client.get_job_status(job_id).is_terminal():
            return
        await asyncio.sleep(_RECONNECT_PAUSE_S)


def exit_code(job: JobDetails, write: Callable[[str], None]) -> int:
    """The exit code of a job that has ended; says why where its output does not."""
    if job.status == JobStatus.SUCCEEDED:
        return 0
    if job.status == JobStatus.STOPPED:
        return _STOPPED
    if job.driver_exit_code is None and job.message:
        write(f"{job.message}\n")
    return job.driver_exit_code or 1


def describe(job: JobDetails) -> str:
    """One line: id, state, since when, what."""
    start = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.start_time / 1000)) if job.start_time else "-"
    metadata = job.metadata or {}
    what = f"{metadata['benchmark']} in {metadata['out']}" if "out" in metadata else job.entrypoint
    return f"{job.submission_id or job.job_id}  {job.status.value}  {start}  {what}"
