"""The compose file's services as a cluster whose parts can be killed: machines, who revives them, and jobs."""

from __future__ import annotations

import os
import random
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import requests

from benchmarks.machines import Machine, machines

RAY_ADDRESS, MLFLOW_ADDRESS = "http://ray-head:8265", "http://mlflow:5000"
NUM_WORKERS = 2
_START_TIMEOUT_S = 300.0
_PROCESSES = {
    "population": r"^ray::SegmentWorker",
    "tracker": r"^ray::Tracker",
    "driver": r"^\S*python\S* -m plasticbench\.platform run ",
}
KINDS = (*_PROCESSES, "ray-worker", "mlflow", "postgres", "ray-head")
"""What can be killed: a process of some role, or the power of a machine."""


class Cluster:
    """PostgreSQL, MLflow server, Ray head and workers below ``folder``; ``chance`` picks victims and delays."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        secret = {name: secrets.token_hex(16) for name in ("POSTGRES_PASSWORD", "RAY_AUTH_TOKEN")}
        self.chance = chance
        self.num_jobs = 0
        self._folder = folder
        self._machines = machines(folder, {"WORKER_CPUS": "1", **secret}, NUM_WORKERS)
        self._token = secret["RAY_AUTH_TOKEN"]
        self._starts_at: dict[str, float] = {}
        self._began = time.monotonic()

    def start(self) -> None:
        """Starts one machine after the other, each when those before it are healthy, as ``depends_on`` has it."""
        waiting, self._machines = self._machines, {}
        for name, machine in waiting.items():
            self._machines[name] = machine
            self._starts_at[name] = time.monotonic()
            self.wait_for(f"{name} is healthy", machine.is_healthy)
        self.wait_for("the cluster is whole", self.is_ready)

    def stop(self) -> None:
        """Ends all machines, so that nobody writes below ``folder`` any more."""
        for machine in self._machines.values():
            machine.power_off()

    def tell(self, text: str) -> None:
        """One line of the protocol."""
        print(f"{time.monotonic() - self._began:7.1f} s  {text}", file=sys.stderr, flush=True)

    def revive(self) -> None:
        """Starts every machine whose command has ended, after a moment, as ``restart: unless-stopped`` does."""
        for name, machine in self._machines.items():
            if machine.is_running:
                continue
            due = self._starts_at.setdefault(name, time.monotonic() + self.chance.uniform(0, 4))
            if time.monotonic() >= due:
                del self._starts_at[name]
                machine.power_off()  # a command that ends by itself takes its container with it
                machine.start()
                self.tell(f"{name} starts")

    def kill(self, kind: str) -> bool:
        """Kills one thing of a kind; returns whether there was one to kill."""
        return self._kill_process(kind) if kind in _PROCESSES else self._cut_power(kind)

    def _kill_process(self, kind: str) -> bool:
        found = [pid for machine in self._machines.values() for pid in machine.processes(_PROCESSES[kind])]
        if found:
            pid = self.chance.choice(found)
            os.kill(pid, signal.SIGKILL)
            self.tell(f"killed a {kind}, process {pid}")
        return bool(found)

    def _cut_power(self, kind: str) -> bool:
        found = [m for name, m in self._machines.items() if name.startswith(kind) and m.is_running]
        if found:
            machine: Machine = self.chance.choice(found)
            machine.power_off()
            self.tell(f"cut the power of {machine.name}")
        return bool(found)

    def wait_for(self, what: str, holds: Callable[[], bool], timeout_s: float = _START_TIMEOUT_S) -> None:
        """Raises ``TimeoutError``, with the ends of all logs, if something does not come to hold."""
        end = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > end:
                raise TimeoutError(f"not within {timeout_s:g} s: {what}\n{self.logs()}")
            self.revive()
            time.sleep(0.5)

    def logs(self) -> str:
        """The last lines of each machine."""
        logs = {name: machine.folder / "log" for name, machine in self._machines.items()}
        return "\n".join(f"--- {name}\n{log.read_text()[-1500:]}" for name, log in logs.items() if log.exists())

    def is_ready(self) -> bool:
        """Whether the MLflow server reaches its database and both workers have joined."""
        try:
            search = f"{MLFLOW_ADDRESS}/api/2.0/mlflow/experiments/search?max_results=1"
            nodes = self._ask("nodes?view=summary").json()["data"]["summary"]
            alive = sum(node["raylet"].get("state") == "ALIVE" for node in nodes)
            return alive == 1 + NUM_WORKERS and requests.get(search, timeout=10).ok
        except (requests.RequestException, KeyError):
            return False

    def _ask(self, path: str) -> requests.Response:
        headers = {"Authorization": f"Bearer {self._token}"}
        answer = requests.get(f"{RAY_ADDRESS}/{path}", headers=headers, timeout=10)
        answer.raise_for_status()
        return answer

    def submit(self, config: Path, run_dir: Path) -> str | None:
        """``plasticbench submit`` from outside the cluster; returns the job's id, or none if nobody took it."""
        arguments = [config, "--out", run_dir, "--address", RAY_ADDRESS, "--tracking-uri", MLFLOW_ADDRESS, "--no-wait"]
        command = [sys.executable, "-m", "plasticbench.platform", "submit", *map(str, arguments)]
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self._token}
        answer = subprocess.run(command, env={**os.environ, **token}, capture_output=True, text=True)
        submitted = re.search(r"^Submitted (\S+)\.$", answer.stdout, re.MULTILINE)
        self.tell(answer.stdout.splitlines()[0] if submitted else f"refused: {answer.stderr.strip()[-300:]}")
        self.num_jobs += submitted is not None
        return submitted and submitted[1]

    def has_succeeded(self, job: str | None) -> bool:
        """Whether a job has ended well."""
        return self._status(job) == "SUCCEEDED"

    def has_lost(self, job: str | None) -> bool:
        """Whether a job failed, was never taken, or was forgotten by a head that died."""
        return self._status(job) in ("FAILED", "STOPPED", "LOST")

    def log(self, job: str | None) -> str:
        """All that a job printed."""
        text: str = self._ask(f"api/jobs/{job}/logs").json()["logs"]
        return text

    def _status(self, job: str | None) -> str:
        try:
            status: str = "LOST" if job is None else self._ask(f"api/jobs/{job}").json()["status"]
        except requests.HTTPError as error:
            return "LOST" if error.response.status_code == requests.codes.not_found else "UNKNOWN"
        except requests.RequestException:
            return "UNKNOWN"
        return status
