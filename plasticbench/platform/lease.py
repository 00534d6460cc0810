"""One driver at a time in an object store: a lease whose holder counts upwards for as long as it lives.

Whoever finds a lease watches whether its counter moves. No clocks are compared, so none has to be right.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from upath import UPath

from plasticbench import storage
from plasticbench.platform.definition.parsing import BenchmarkError

logger = logging.getLogger(__name__)

RENEW_S = 3.0
WATCH_S = 15.0
"""How long a counter must stand still until its holder counts as dead."""
_SETTLE_S = 1.0


@contextmanager
def held_lease(path: UPath) -> Iterator[None]:
    """Holds the lease at ``path`` inside the block; a process that loses it is interrupted.

    Raises ``BenchmarkError`` while another process holds it, and after the block if it was lost.
    """
    lease = _Lease(path)
    lease.take()
    patience = storage.be_patient()  # the store has answered, so from now on silence means that it is away
    renewal = threading.Thread(target=lease.renew_until_released, daemon=True)
    renewal.start()
    try:
        yield
    except KeyboardInterrupt:
        lease.require()
        raise
    finally:
        lease.released.set()
        renewal.join()
        lease.give_back()
        storage.be_patient(patience)
    lease.require()


def is_held(path: UPath) -> bool:
    """Whether a living process holds the lease; it is watched until its counter moves, for 5 s at most."""
    first, end = _read(path), time.monotonic() + 1.5 * RENEW_S
    while first and time.monotonic() < end:
        time.sleep(RENEW_S / 10)
        if (now := _read(path)) != first:
            return bool(now)
    return False


def _read(path: UPath) -> dict[str, str | int]:
    try:
        found: dict[str, str | int] = json.loads(storage.read(path))
    except FileNotFoundError:
        return {}
    return found


class _Lease:
    def __init__(self, path: UPath) -> None:
        self._path = path
        self._owner = uuid.uuid4().hex
        self._counter = 0
        self._loss = ""
        self.released = threading.Event()

    def take(self) -> None:
        try:
            storage.create(self._path, self._content())
        except FileExistsError:
            self._watch()
            # Several may have watched the same dead lease: the last to write it finds itself there and goes on.
            storage.write_atomically(self._path, self._content())
            time.sleep(_SETTLE_S)
            if (now := self._read()).get("owner") != self._owner:
                raise BenchmarkError(_in_use(self._path, now)) from None

    def _watch(self) -> None:
        """Returns once the lease is free; raises ``BenchmarkError`` as soon as it moves."""
        first, began = self._read(), time.monotonic()
        while first and time.monotonic() - began < WATCH_S:
            time.sleep(RENEW_S / 3)
            now = self._read()
            if now and now != first:
                raise BenchmarkError(_in_use(self._path, now))
            first = now

    def renew_until_released(self) -> None:
        while not self.released.wait(RENEW_S):
            try:
                now = self._read()
                if now.get("owner") != self._owner:
                    self._loss = _in_use(self._path, now)
                    self._interrupt()
                    return
                self._counter += 1
                storage.write_atomically(self._path, self._content())
            except OSError as error:
                logger.warning("%s; the lease of this run is not renewed", error)

    def _interrupt(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        # Again and again, since Python loses an interrupt that falls into a destructor.
        while not self.released.is_set():
            # What a script starts in the background ignores SIGINT; a driver with Ray listens to SIGTERM.
            heard = callable(signal.getsignal(signal.SIGTERM))
            signal.pthread_kill(main, signal.SIGTERM if heard else signal.SIGINT)
            self.released.wait(WATCH_S)

    def give_back(self) -> None:
        try:
            if self._read().get("owner") == self._owner:
                storage.remove(self._path)
        except OSError as error:
            logger.warning("%s; the lease stays, and the next driver waits %g s for it", error, WATCH_S)

    def require(self) -> None:
        if self._loss:
            raise BenchmarkError(f"{self._loss}. It found this one silent and went on in its place")

    def _read(self) -> dict[str, str | int]:
        return _read(self._path)

    def _content(self) -> bytes:
        holder = {"owner": self._owner, "host": socket.gethostname(), "pid": os.getpid(), "counter": self._counter}
        return json.dumps(holder).encode()


def _in_use(path: UPath, holder: dict[str, str | int]) -> str:
    who = f" (process {holder['pid']} on {holder['host']})" if holder else ""
    return f"{path.parent}: another plasticbench is running in this directory{who}"
