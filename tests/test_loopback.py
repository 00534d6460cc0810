"""What this machine's neighbours can reach while a benchmark runs or its pages are served: nothing."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest
import yaml
from servers import free_port
from test_rllib_runs import RLLIB, mixed

from plasticbench.platform.cluster.sockets import Listener, listening

ROOT = Path(__file__).parents[1]
COMMAND = ("-m", "plasticbench")
# An agent of RLlib, since it has the most processes: a learner beside the population and the tracker.
TRAINING = mixed(budget_steps=400_000, checkpoint={"every_s": 0.5}, resets=None, agent=RLLIB) | {
    "methods": {"none": {"kind": "none"}}
}
PROGRAMS = ("gcs_server", "raylet", "ray::SegmentWorker", "ray::Tracker", "ray::_WrappedExecutable")
API = """
import sys
from pathlib import Path
from rich.console import Console
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform import session
session.execute(RunDirectory(Path(sys.argv[1])), Console(), address=None, tracking_uri=None, quiet=True)
"""
EXPOSED = """
from plasticbench.platform.cluster.connection import start_own_node
try:
    start_own_node(include_dashboard=True, dashboard_host="0.0.0.0")
finally:
    import ray
    from plasticbench.platform.cluster.sockets import listening
    assert not ray.is_initialized()
    assert not listening()
"""
TOO_LATE = """
import os, ray
from plasticbench.platform.cluster.connection import start_own_node
try:
    start_own_node()
finally:
    assert not ray.is_initialized()
    assert "RAY_AUTH_MODE" not in os.environ
"""


@contextmanager
def _started(home: Path, *arguments: str | Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A Python with nothing in its environment that would help it; it and all below it end with the block."""
    given = {"PATH": os.environ["PATH"], "HOME": str(home)} | environment
    command = ["env", "-i", *(f"{name}={value}" for name, value in given.items()), sys.executable]
    with subprocess.Popen(
        [*command, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            left = _family(process) if process.poll() is None else []
            for member in left:
                with suppress(psutil.NoSuchProcess):
                    member.kill()


def _family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    ancestor = psutil.Process(process.pid)
    return [ancestor, *ancestor.children(recursive=True)]


def _reachable_at(process: subprocess.Popen[str]) -> dict[str, set[str]]:
    """The addresses on which a process and all below it listen, by command."""
    addresses: dict[str, set[str]] = {}
    for member in _family(process):
        with suppress(psutil.NoSuchProcess):
            # the command line is empty where a process is just about to end, its name never
            name = Path(" ".join([*member.cmdline(), member.name()]).split()[0]).name
            found = [one.laddr.ip for one in member.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
            addresses.setdefault(name, set()).update(ip.removeprefix("::ffff:") for ip in found)
    return addresses


def _wait_until(condition: Callable[[], object], process: subprocess.Popen[str], timeout_s: float = 240) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.2)


def _addresses_while_training(out: Path, home: Path, *arguments: str | Path) -> dict[str, set[str]]:
    """What is listened on once a population has committed anew, upon which the run is interrupted."""
    known = set(out.glob("checkpoints/*/commit-*.json"))
    with _started(home, *arguments) as process:
        _wait_until(lambda: set(out.glob("checkpoints/*/commit-*.json")) - known, process)
        addresses = _reachable_at(process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=240)
    return addresses


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.ray
@pytest.mark.slow
def test_runs_and_their_pages_listen_on_loopback_alone_in_an_empty_environment(tmp_path):
    config, out, home = tmp_path / "long.yaml", tmp_path / "run", tmp_path / "home"
    config.write_text(yaml.safe_dump(TRAINING))
    home.mkdir()
    for arguments in [(*COMMAND, "run", config, "--out", out), (*COMMAND, "resume", out), ("-c", API, out)]:
        addresses = _addresses_while_training(out, home, *arguments)
        for program in PROGRAMS:
            assert any(found for name, found in addresses.items() if name.startswith(program)), (program, addresses)
        assert set().union(*addresses.values()) <= {"127.0.0.1", "::1"}, addresses
    assert not (home / ".ray").exists()  # no token was made, since nobody else can reach Ray

    port = free_port()
    with _started(home, *COMMAND, "ui", out, "--port", str(port)) as pages:
        _wait_until(lambda: _answers(port), pages)
        assert set().union(*_reachable_at(pages).values()) == {"127.0.0.1"}


@pytest.mark.ray
@pytest.mark.slow
def test_a_ray_that_other_machines_could_reach_is_stopped_and_named(tmp_path):
    with _started(tmp_path, "-c", EXPOSED, RAY_AUTH_MODE="token") as process:
        output, _ = process.communicate(timeout=240)
    last = output.splitlines()[-1]
    assert "BenchmarkError: Ray must keep to 127.0.0.1, but other machines could reach" in last
    assert "on 0.0.0.0 port" in last


@pytest.mark.ray
def test_a_ray_that_was_imported_too_early_is_never_started(tmp_path):
    with _started(tmp_path, "-c", TOO_LATE) as process:
        output, _ = process.communicate(timeout=120)
    last = output.splitlines()[-1]
    assert "BenchmarkError: Ray must keep to 127.0.0.1, but it would listen on" in last
    assert "Before the first `import ray` call prepare_environment" in last


@pytest.mark.parametrize(
    ("ip", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("::ffff:0.0.0.0", False),
        ("192.0.2.2", False),
        ("fe80::1%eth0", False),
    ],
)
def test_loopback_is_told_from_what_others_can_reach(ip, is_loopback):
    assert Listener(1, "raylet", ip, 1024).is_loopback == is_loopback


def test_sockets_of_children_are_seen_and_connected_ones_are_not():
    script = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        port = int(child.stdout.readline())
        with socket.create_connection(("127.0.0.1", port)):
            (found,) = (one for one in listening() if one.port == port)
            assert (found.pid, ip_address(found.ip).is_loopback) == (child.pid, True)
        child.stdin.close()
