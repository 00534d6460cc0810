"""The compose file's services as real containers, of a project of their own, whose first processes can be killed."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray_nodes import free_port

REPOSITORY = Path(__file__).parents[1]
COMPOSE_FILE = REPOSITORY / "docker" / "docker-compose.yml"
IMAGE, BASE_IMAGE = "plasticbench:compose-test", "python:3.11-slim-bookworm"
_START_TIMEOUT_S = 600.0


def missing() -> str:
    """Why the services cannot run here, empty if they can."""
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except FileNotFoundError:
            return "docker is not installed"
        if done.returncode:
            return f"{shlex.join(command)}: {(done.stderr.strip() or done.stdout.strip()).splitlines()[-1]}"
    return "" if os.geteuid() == 0 else "only root may kill what runs in containers"


def build() -> int:
    """Builds the image; returns how many bytes it adds to its base. ``DOCKER_BUILD`` replaces ``docker build``."""
    command = shlex.split(os.environ.get("DOCKER_BUILD", "docker build"))
    where = [f"--file={COMPOSE_FILE.with_name('Dockerfile')}", f"--tag={IMAGE}", str(REPOSITORY)]
    subprocess.run([*command, *where], check=True, stdout=sys.stderr)
    return _bytes(IMAGE) - _bytes(BASE_IMAGE)


def _bytes(image: str) -> int:
    asked = ["docker", "image", "inspect", "--format={{.Size}}", image]
    return int(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)


class ComposeCluster:
    """Two workers, a head, MLflow and PostgreSQL; ``dashboard`` and ``mlflow`` are what a laptop may reach."""

    def __init__(self, project: str) -> None:
        """Nothing runs yet."""
        ports = {"RAY_PORT": free_port(), "MLFLOW_PORT": free_port()}
        self.project, self.token = project, secrets.token_hex(16)
        self.dashboard = f"http://127.0.0.1:{ports['RAY_PORT']}"
        self.mlflow = f"http://127.0.0.1:{ports['MLFLOW_PORT']}"
        own = {"PLASTICBENCH_IMAGE": IMAGE, "WORKER_CPUS": "1", "WORKER_MEMORY": "4g"}
        own |= {"POSTGRES_PASSWORD": secrets.token_hex(16), "RAY_AUTH_TOKEN": self.token}
        self._environment = {**os.environ, **own, **{name: str(port) for name, port in ports.items()}}

    def compose(self, *arguments: str) -> str:
        """What ``docker compose`` prints, errors as well. Raises ``RuntimeError`` with it where the command fails."""
        command = ["docker", "compose", "--project-name", self.project, "--file", str(COMPOSE_FILE), *arguments]
        code, output = _run(command, self._environment, _START_TIMEOUT_S)
        if code:
            raise RuntimeError(f"{shlex.join(command)}: {output[-3000:]}")
        return output

    def start(self) -> None:
        """Returns when all services are healthy. Raises ``RuntimeError`` with what they said if one does not get so."""
        try:
            self.compose("up", "--detach", "--no-build", "--scale", "ray-worker=2", "--wait")
        except RuntimeError as error:
            raise RuntimeError(self.compose("logs", "--tail", "20")) from error

    def services(self) -> list[dict[str, Any]]:
        """What compose tells of each container."""
        return [json.loads(line) for line in self.compose("ps", "--all", "--format", "json").splitlines()]

    def is_healthy(self) -> bool:
        """Whether all five containers are."""
        return [one["Health"] for one in self.services()] == ["healthy"] * 5

    def kill(self, name: str) -> None:
        """Kills the first process of a container, with which all others in it go; it is to come back by itself."""
        container = f"{self.project}-{name}"
        os.kill(pid := _first_process(container), signal.SIGKILL)
        wait_for(f"{container} has another first process", lambda: _first_process(container) not in (0, pid))

    def plasticbench(self, *arguments: str, token: str | None = None, timeout_s: float = 900) -> tuple[int, str]:
        """Exit status and output of the command on the laptop, with the cluster's token or another."""
        environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token or self.token}
        code, output = _run([sys.executable, "-m", "plasticbench", *arguments], environment, timeout_s)
        return code, " ".join(output.split())

    def leftovers(self) -> list[str]:
        """Containers, volumes and networks of the project."""
        found = []
        for kind in (["ps", "--all"], ["volume", "ls"], ["network", "ls"]):
            asked = ["docker", *kind, "--quiet", f"--filter=label=com.docker.compose.project={self.project}"]
            found += subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()
        return found


def _run(command: list[str], environment: dict[str, str], timeout_s: float) -> tuple[int, str]:
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, env=environment, timeout=timeout_s, **streams)
    return done.returncode, done.stdout


def _first_process(container: str) -> int:
    asked = ["docker", "inspect", "--format={{.State.Pid}}", container]
    return int(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)


def wait_for(what: str, holds: Callable[[], object], timeout_s: float = _START_TIMEOUT_S) -> None:
    """Raises ``TimeoutError`` if it does not come about."""
    end = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.5)


@contextmanager
def compose_cluster() -> Iterator[ComposeCluster]:
    """A running cluster; nothing of it is left afterwards."""
    cluster = ComposeCluster(f"plasticbench-test-{os.getpid()}")
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.compose("down", "--volumes", "--timeout", "5")
