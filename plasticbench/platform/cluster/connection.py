"""Connects a driver to a Ray cluster, or starts a Ray of its own on this machine.

Ray settles when it is imported whether it keeps to loopback, so this file imports it only once that is decided.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from typing import Any

import psutil

from plasticbench.cpus import usable_cpus
from plasticbench.platform.cluster.ray_processes import own_sessions, plain_job_config, short_temp_dir
from plasticbench.platform.definition.parsing import BenchmarkError
from plasticbench.uris import shown, without_secrets

logger = logging.getLogger(__name__)

_ECHO_S = 1.0  # `timeout` and a closed terminal send the same signal twice
_CONNECT_TIMEOUT_S = 5.0
_BUSY_LOAD = 2.0  # per CPU
_OBJECT_STORE_BYTES = 100 << 20  # nothing large passes through it
_MEMORY_SHARE = 0.9  # of the machine, for populations; Ray would offer 70% of what is free at the start


def _where(address: str | None) -> str:
    return address or os.environ.get("RAY_ADDRESS") or "local"


def prepare_environment(address: str | None) -> None:
    """Settings of a quiet Ray of our own that keeps to loopback; they count before the first ``import ray`` alone.

    A driver that joins a cluster, because ``address`` or RAY_ADDRESS names one, sets nothing.
    """
    if _where(address) != "local":
        return
    # Every socket on 127.0.0.1. Who exports another value means Ray's clusters, which have an address.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    for name, value in {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SCHEDULER_EVENTS": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_worker_niceness": "0",  # Ray's 15 starves training, and MLflow at the end, beside anything else that runs
    }.items():
        os.environ.setdefault(name, value)


_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


def _own_node() -> dict[str, Any]:
    from ray._common.utils import get_system_memory

    return {
        "num_cpus": usable_cpus(),
        "_memory": int(_MEMORY_SHARE * get_system_memory()),
        "object_store_memory": _OBJECT_STORE_BYTES,
        "include_dashboard": False,
        "_temp_dir": short_temp_dir(),
        "job_config": plain_job_config(),
    }


def _check_answers(where: str) -> None:
    """Ray itself would try for minutes. Raises ``ValueError`` or ``OSError``."""
    if where.startswith(("http://", "https://")):
        raise ValueError("that is the dashboard, which `plasticbench submit` takes. Give HOST:6379, or auto on a node")
    if "://" in where:
        raise ValueError("only HOST:PORT and auto can be joined; from outside a cluster use `plasticbench submit`")
    from ray._private.services import canonicalize_bootstrap_address

    if (found := canonicalize_bootstrap_address(where)) is None:
        raise ConnectionError("no Ray runs on this machine")
    host, _, port = found.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_TIMEOUT_S).close()


def start_own_node(**node: Any) -> None:
    """Starts a Ray that this machine alone can reach; ``node`` takes precedence over our arguments of ``ray.init``.

    Raises ``BenchmarkError`` if Ray does not start, or would listen or does listen where other machines can reach it.
    """
    prepare_environment("local")
    import ray

    from plasticbench.platform.cluster.sockets import listening

    _check_keeps_to_loopback()
    # Nobody else can reach it, and asking for a token would write one to the home folder.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    before = listening()
    with own_sessions():
        patiently(lambda: ray.init(address="local", **_own_node() | node, **_QUIET), ray.shutdown)
    if exposed := [str(one) for one in sorted(listening() - before) if not one.is_loopback]:
        ray.shutdown()
        raise BenchmarkError(
            f"Ray must keep to 127.0.0.1, but other machines could reach {', '.join(exposed)}. It was stopped. Install "
            f"the Ray of requirements.lock, or start one of your own with a token (docs/cluster.md) and give --address"
        )


def patiently(
    start: Callable[[], object], clean_up: Callable[[], object], pauses_s: Sequence[float] | None = None
) -> None:
    """Starts Ray, again after each failure: it gives its processes 30 s, which a very busy machine exceeds.

    Raises ``BenchmarkError`` that says what was seen after the last failure, and at once for what time does not mend.
    """
    began, tries = time.monotonic(), 0
    for pause_s in [*(_pauses_s() if pauses_s is None else pauses_s), None]:
        tries += 1
        before = set(psutil.Process().children(recursive=True))
        try:
            start()
            return
        except Exception as error:  # a plain one
            clean_up()
            for process in set(psutil.Process().children(recursive=True)) - before:
                with suppress(psutil.NoSuchProcess):  # half of a Ray, which would go on in vain
                    process.kill()
            if pause_s is None or isinstance(error, ValueError | TypeError):
                raise BenchmarkError(_not_started(error, tries, time.monotonic() - began)) from error
            logger.warning("Ray did not start (%s); it is tried again in %g s", error, pause_s)
        time.sleep(pause_s)


def _pauses_s() -> list[float]:
    """Two more tries, and five where the machine has more to do than it can."""
    return [5.0, 10.0] if _load_per_cpu() < _BUSY_LOAD else [5.0, 10.0, 20.0, 40.0, 60.0]


def _load_per_cpu() -> float:
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def _not_started(error: Exception, tries: int, seconds: float) -> str:
    free_mib = psutil.virtual_memory().available >> 20
    seen = f"load {_load_per_cpu():.1f} per CPU, {free_mib:,} MiB of memory free"
    times = "once" if tries == 1 else f"{tries} times in {seconds:.0f} s"
    return (
        f"Ray did not start on this machine, tried {times}: {type(error).__name__}: {error}. Seen meanwhile: {seen}. "
        "End what else runs here and try again, or join a Ray that runs elsewhere with --address"
    )


def _check_keeps_to_loopback() -> None:
    from ray._private.services import get_node_ip_address

    address = get_node_ip_address()  # type: ignore[no-untyped-call]
    if not ip_address(address).is_loopback:
        raise BenchmarkError(
            f"Ray must keep to 127.0.0.1, but it would listen on {address}: it was imported before that was decided. "
            "Before the first `import ray` call prepare_environment of plasticbench.platform.cluster.connection, or "
            "export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0"
        )


def _join(where: str) -> None:
    import ray
    from ray.exceptions import RayError

    try:
        _check_answers(where)
        ray.init(address=where, job_config=plain_job_config(), **_QUIET)
    except (ValueError, RuntimeError, OSError, RayError) as error:
        raise BenchmarkError(
            f"--address: no Ray cluster can be joined at {shown(where)!r}: {without_secrets(str(error), where)}"
        ) from error


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """A connection to the cluster at ``address``, else at RAY_ADDRESS, else a Ray of our own on this machine.

    Raises ``BenchmarkError`` if the cluster cannot be reached, or as ``start_own_node`` does.
    """
    where = _where(address)
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        raise BenchmarkError("Ray is connected already in this process, to something else: call ray.shutdown() first")
    with _sigterm_kept():
        start_own_node() if where == "local" else _join(where)
        import ray

        with interrupts():
            try:
                yield
            finally:
                ray.shutdown()


@contextmanager
def own_node() -> Iterator[None]:
    """A Ray of our own for what this process does alone. Raises ``BenchmarkError`` as ``start_own_node`` does."""
    with _sigterm_kept():
        start_own_node()
        import ray

        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Ray leaves a handler of its own, which would end a process that goes on without Ray otherwise than before."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)


_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_heard: list[int] = []  # signals; no Event, whose lock a handler must not wait for
_last_s: list[float] = []  # when the last one was heard


@contextmanager
def interrupts() -> Iterator[None]:
    """SIGTERM and SIGHUP interrupt as SIGINT does, and no interrupt is lost: ask ``check_interrupted`` now and then.

    What follows within a second of an interrupt is taken for the same one. Threads but the main one hear no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # What a shell script starts in the background ignores SIGINT, and what nohup starts SIGHUP, and goes on doing so.
    heard = [kind for kind in _INTERRUPTS if signal.getsignal(kind) != signal.SIG_IGN]
    previous = {kind: signal.signal(kind, _interrupt) for kind in heard}
    _heard.clear()
    _last_s.clear()
    try:
        yield
    finally:
        for kind, handler in previous.items():
            signal.signal(kind, handler)


def check_interrupted() -> None:
    """Raises a ``KeyboardInterrupt`` that did not get through: Python drops any exception inside a destructor."""
    if _heard:
        _heard.clear()
        raise KeyboardInterrupt


def answer_interrupt() -> None:
    """Forgets the interrupts so far: what ``check_interrupted`` raises from now on came later."""
    _heard.clear()


def _interrupt(signum: int, frame: object) -> None:
    if signum == signal.SIGHUP:
        _leave_terminal()
    now_s = time.monotonic()
    if _last_s and now_s - _last_s[0] < _ECHO_S:
        return
    _last_s[:] = [now_s]
    _heard.append(signum)
    raise KeyboardInterrupt


def _leave_terminal() -> None:
    """Where the terminal is gone, any output would be an error, in the middle of the last commits."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
