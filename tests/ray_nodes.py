"""Real Ray nodes on loopback, each a `ray start` of its own that may be killed."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_START_TIMEOUT_S = 600.0
_PROGRAMS = Path(sys.executable).parent
GIB = 2**30
_WORKER = """
import json, sys, threading
from ray._private.node import Node
from ray._private.parameter import RayParams
Node(RayParams(node_ip_address="127.0.0.1", **json.loads(sys.argv[1])), head=False, spawn_reaper=False)
threading.Event().wait()
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class RayNodes:
    """A head and workers, each with resources of its own; ``address`` is for drivers, ``dashboard`` for jobs."""

    def __init__(self, folder: Path) -> None:
        self.folder, port, dashboard_port = folder, free_port(), free_port()
        self.address, self.dashboard = f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard_port}"
        self._head = ["--head", "--port", str(port), "--dashboard-host", "127.0.0.1"]
        self._head += ["--dashboard-port", str(dashboard_port), "--temp-dir", str(folder)]
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "disabled",
            "RAY_worker_niceness": "0",
            "OMP_NUM_THREADS": "1",
            "PATH": f"{_PROGRAMS}:{os.environ['PATH']}",
        }
        # What is tested must be what travelled with the job, not what the tests themselves import.
        self.environment.pop("PYTHONPATH", None)
        self._nodes: list[subprocess.Popen[bytes]] = []

    def add(self, *, num_cpus: int, memory_gib: float, num_gpus: int = 0) -> subprocess.Popen[bytes]:
        """Starts a node, the head first."""
        resources = {"num_cpus": num_cpus, "num_gpus": num_gpus, "memory": int(memory_gib * GIB)}
        resources |= {"object_store_memory": 100 << 20, "dashboard_agent_listen_port": free_port()}
        if self._nodes:
            # `ray start --address` refuses to run where all sockets are on loopback.
            command = [
                sys.executable,
                "-W",
                "ignore",
                "-c",
                _WORKER,
                json.dumps({"gcs_address": self.address} | resources),
            ]
        else:
            options = [f"--{name.replace('_', '-')}={value}" for name, value in resources.items()]
            command = [_PROGRAMS / "ray", "start", "--block", "--node-ip-address", "127.0.0.1", *self._head, *options]
        with open(self.folder / f"node-{len(self._nodes)}.log", "wb") as log:
            node = subprocess.Popen(
                command, env=self.environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        self._nodes.append(node)
        before = sum(one.poll() is None for one in self._nodes)
        self._wait_until(lambda: self._answers() and self.num_nodes() >= before)
        assert node.poll() is None, "a Ray node ended"
        return node

    def _running(self) -> list[subprocess.Popen[bytes]]:
        return [node for node in self._nodes if node.poll() is None]

    def _answers(self) -> bool:
        try:
            for address in (self.address, self.dashboard.removeprefix("http://")):
                host, _, port = address.rpartition(":")
                socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            return False
        return True

    def num_nodes(self) -> int:
        """Nodes that the head knows to be alive."""
        script = f"import ray; ray.init({self.address!r}, log_to_driver=False, logging_level='ERROR')\n"
        script += "print(sum(node['Alive'] for node in ray.nodes()))"
        told = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script], env=self.environment, capture_output=True, text=True
        )
        return int(told.stdout or 0)

    @staticmethod
    def _wait_until(condition) -> None:
        end = time.monotonic() + _START_TIMEOUT_S
        while not condition():
            assert time.monotonic() < end, "a Ray node does not start"
            time.sleep(0.5)

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """SIGKILL to a node and everything on it, as when a machine dies."""
        for pid in _family(node.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        node.wait()

    def stop(self) -> None:
        """Ends all nodes, the head last."""
        for node in reversed(self._running()):
            self.kill(node)


def _family(ancestor: int) -> list[int]:
    """A process and all below it."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    family = [ancestor]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return family


@contextmanager
def ray_nodes() -> Iterator[RayNodes]:
    """A cluster without nodes; what is added to it ends with the block."""
    folder = Path(tempfile.mkdtemp(prefix="nodes-"))  # sockets need a short path
    nodes = RayNodes(folder)
    try:
        yield nodes
    finally:
        nodes.stop()
        shutil.rmtree(folder, ignore_errors=True)
