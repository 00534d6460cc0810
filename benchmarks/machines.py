"""The services of ``docker/docker-compose.yml`` on machines of their own, without a container engine.

A machine is a Linux network namespace with an address and a host name, joined to the others by a bridge; nothing is
reachable from outside. It runs the very command of its service. Cutting its power kills all that runs on it at once.
Needs root, and programs that Debian has in iproute2, util-linux and postgresql.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import yaml

COMPOSE_FILE = Path(__file__).parents[1] / "docker" / "docker-compose.yml"
DOCKERFILE = COMPOSE_FILE.with_name("Dockerfile")
_INSIDE = "PLASTICBENCH_OWN_NETWORK"
_NETWORK = "10.77.0"
_POSTGRESQL_PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # Debian keeps them off the PATH


class Service(NamedTuple):
    """What a compose file says about one service; ``health_check`` is a command that succeeds once it can be used."""

    command: list[str]
    environment: dict[str, str]
    health_check: list[str]


def services(settings: Mapping[str, str], file: Path = COMPOSE_FILE) -> dict[str, Service]:
    """All services with ``${NAME:-default}`` and ``${NAME:?message}`` replaced as compose does it.

    Raises ``ValueError`` with the message where a setting without default is missing.
    """
    data = _interpolated(yaml.safe_load(file.read_text())["services"], settings)
    return {
        name: Service(one["command"], one.get("environment", {}), one["healthcheck"]["test"][1:])
        for name, one in data.items()
    }


def _interpolated(node: Any, settings: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _interpolated(value, settings) for key, value in node.items()}
    if isinstance(node, list):
        return [_interpolated(value, settings) for value in node]
    return re.sub(r"\$\{(\w+)(:[-?])([^}]*)\}", partial(_setting, settings), str(node))


def _setting(settings: Mapping[str, str], match: re.Match[str]) -> str:
    name, operator, rest = match.groups()
    if settings.get(name):
        return settings[name]
    if operator == ":?":
        raise ValueError(f"{name} {rest}")
    return str(rest)


def _image_environment() -> dict[str, str]:
    """The variables that the Dockerfile sets, and a path on which the commands are found."""
    (block,) = re.findall(r"^ENV ((?:.*\\\n)*.*)$", DOCKERFILE.read_text(), re.MULTILINE)
    own = dict(word.split("=", 1) for word in shlex.split(block.replace("\\\n", " ")))
    return own | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def missing_programs() -> list[str]:
    """What keeps machines from running here, empty if nothing does."""
    problems = [] if os.geteuid() == 0 else ["root, who alone may make network namespaces"]
    problems += [program for program in ("ip", "unshare", "setpriv", "mount") if shutil.which(program) is None]
    return problems + ([] if _POSTGRESQL_PROGRAMS else ["PostgreSQL's server (Debian: apt-get install postgresql)"])


def enter_own_network(module: str, arguments: Sequence[str]) -> None:
    """Starts ``module`` again as the first process of a world of its own, which ends with it, whatever it started."""
    if os.environ.get(_INSIDE):
        _set_up_network()
        return
    for name in [name for name in os.environ if name.startswith(("RAY_", "MLFLOW_", "PG"))]:
        del os.environ[name]  # what a shell exports for Ray on one machine would keep others from joining
    os.environ[_INSIDE] = "1"
    world = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    os.execvp(world[0], [*world, sys.executable, "-m", module, *arguments])


def _set_up_network() -> None:
    for folder in ("/run/netns", "/etc/netns"):
        Path(folder).mkdir(exist_ok=True)
        _do(f"mount -t tmpfs tmpfs {folder}")
    for command in ("link set lo up", "link add bridge0 type bridge", f"addr add {_NETWORK}.1/24 dev bridge0"):
        _do(f"ip {command}")
    _do("ip link set bridge0 up")


def _do(command: str) -> None:
    subprocess.run(shlex.split(command), check=True)


@dataclass(slots=True)
class Machine:
    """One machine; ``start`` runs its service's command, and ``power_off`` is what a power cut does to it."""

    name: str
    address: str
    service: Service
    folder: Path
    user: str | None = None
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def set_up(self, hosts: str) -> None:
        """Makes the namespace; ``hosts`` is the machine's ``/etc/hosts``."""
        self.folder.mkdir(parents=True)
        files = Path("/etc/netns") / self.name
        files.mkdir()
        (files / "hosts").write_text(f"{hosts}{self.address} {socket.gethostname()}\n")
        (files / "resolv.conf").write_text("nameserver 127.0.0.1\n")  # where nobody answers, so that it fails at once
        _do(f"ip netns add {self.name}")
        number = self.address.rpartition(".")[2]
        _do(f"ip link add port{number} type veth peer name eth0 netns {self.name}")
        _do(f"ip link set port{number} master bridge0 up")
        for command in (
            f"addr add {self.address}/24 dev eth0",
            "link set eth0 up",
            "link set lo up",
            f"route add default via {_NETWORK}.1",
        ):
            _do(f"ip -n {self.name} {command}")

    def start(self) -> None:
        """Runs the command; returns at once."""
        become = [] if self.user is None else ["setpriv", f"--reuid={self.user}", "--clear-groups"]
        # Ray's default folder, of its own for each machine; sockets below a longer path would not be allowed.
        own_temporary_folder = f"mkdir -p /tmp/ray && mount --bind {shlex.quote(str(self.folder))} /tmp/ray"
        with open(self.folder / "log", "ab") as log:
            prepared = ["sh", "-c", f'{own_temporary_folder} && exec "$@"', "sh", *become]
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *prepared, *self.service.command],
                env=self._environment(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )

    @property
    def is_running(self) -> bool:
        """Whether the service's command runs."""
        return self._process is not None and self._process.poll() is None

    def is_healthy(self) -> bool:
        """Whether the service's health check succeeds."""
        command = ["ip", "netns", "exec", self.name, *self.service.health_check]
        return self.is_running and subprocess.run(command, env=self._environment(), capture_output=True).returncode == 0

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **_image_environment(), **self.service.environment}

    def processes(self, title: str = "") -> list[int]:
        """Ids of the processes on this machine whose command line matches a pattern."""
        wanted = os.stat(f"/run/netns/{self.name}").st_ino
        return [pid for pid in _all_processes() if _network(pid) == wanted and re.search(title, _command_line(pid))]

    def power_off(self) -> None:
        """Kills everything on the machine at once."""
        while running := self.processes():
            for pid in running:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        if self._process is not None:
            self._process.wait()


def _all_processes() -> Iterator[int]:
    return (int(folder.name) for folder in Path("/proc").glob("[0-9]*"))


def _network(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:  # it ended meanwhile
        return None


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def machines(folder: Path, settings: Mapping[str, str], num_workers: int) -> dict[str, Machine]:
    """One machine per service, and ``num_workers`` of ``ray-worker``; in the order in which they should start."""
    found = services(settings)
    kinds = ["postgres", "mlflow", "ray-head", *["ray-worker"] * num_workers]
    made: dict[str, Machine] = {}
    for number, kind in enumerate(kinds, start=2):
        name = kind if kind != "ray-worker" else f"{kind}-{number - 4}"
        place = folder / name
        command = [word.replace("/mlartifacts", str(folder / "mlartifacts")) for word in found[kind].command]
        made[name] = Machine(name, f"{_NETWORK}.{number}", found[kind]._replace(command=command), place)
    hosts = "".join(f"{machine.address} {name}\n" for name, machine in made.items())
    hosts = f"127.0.0.1 localhost\n{_NETWORK}.1 laptop\n{hosts}"
    for machine in made.values():
        machine.set_up(hosts)
    (folder / "hosts").write_text(hosts)
    _do(f"mount --bind {shlex.quote(str(folder / 'hosts'))} /etc/hosts")
    _prepare_postgresql(made["postgres"])
    return made


def _prepare_postgresql(machine: Machine) -> None:
    """Does what the entry point of the PostgreSQL image does, as an ordinary user since PostgreSQL refuses root."""
    known = {account.pw_name for account in pwd.getpwall()}
    machine.user = "postgres" if "postgres" in known else "nobody"
    data, programs = machine.folder / "data", _POSTGRESQL_PROGRAMS[-1]
    environment: dict[str, Any] = machine.service.environment
    password_file = machine.folder / "password"
    password_file.write_text(environment["POSTGRES_PASSWORD"])
    for path in (machine.folder, password_file):
        shutil.chown(path, machine.user)
    create = [programs / "initdb", "-D", data, "-U", environment["POSTGRES_USER"], "--pwfile", password_file]
    create += ["--auth-local=trust", "--auth-host=scram-sha-256", "--no-locale", "--encoding=UTF8", "--no-sync"]
    as_user: dict[str, Any] = {"user": machine.user, "extra_groups": [], "cwd": "/", "check": True}
    subprocess.run(create, **as_user, stdout=subprocess.DEVNULL)
    with open(data / "pg_hba.conf", "a") as access:
        access.write("host all all all scram-sha-256\n")
    single = [programs / "postgres", "--single", "-D", data, "postgres"]
    statement = f"CREATE DATABASE {environment['POSTGRES_DB']}\n".encode()
    subprocess.run(single, **as_user, input=statement, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    program, *rest = machine.service.command
    command = [str(programs / program), *rest, "-D", str(data)]
    command += ["-c", "listen_addresses=*", "-c", f"unix_socket_directories={machine.folder}"]
    environment["PGHOST"] = str(machine.folder)  # where the health check looks
    machine.service = machine.service._replace(command=command)
