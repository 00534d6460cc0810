"""Where this process and those that it has started listen."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

import psutil


class Listener(NamedTuple):
    """A TCP socket that takes connections."""

    pid: int
    program: str
    ip: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether this machine alone can reach it; gRPC writes 127.0.0.1 as ::ffff:127.0.0.1."""
        address = ip_address(self.ip)
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return (mapped or address).is_loopback

    def __str__(self) -> str:
        return f"{self.program} on {self.ip} port {self.port}"


def listening() -> set[Listener]:
    """The listening sockets of this process and of all below it."""
    found = set()
    own = psutil.Process()
    for process in [own, *own.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            for socket in process.net_connections(kind="tcp"):
                if socket.status == psutil.CONN_LISTEN:
                    found.add(Listener(process.pid, process.name(), socket.laddr.ip, socket.laddr.port))
    return found
