"""What Ray's processes must not take over from the driver that starts them: signals, import path, a long socket path.

Imports Ray inside functions, as ``connection`` does.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

_LONGEST_TMPDIR_BYTES = 30  # sockets have 107, of which Ray's folders and names take up to 77
_SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")


@contextmanager
def own_sessions() -> Iterator[None]:
    """What Ray starts inside, and all that comes of it, is out of reach of signals to the driver's process group.

    It still ends with the driver, also after SIGKILL: the kernel sees to it, where it can. Elsewhere Ray's reaper kills
    by process group, and nothing is changed here.
    """
    from ray._private import services as ray_services
    from ray._private.utils import detect_fate_sharing_support

    if not detect_fate_sharing_support():  # type: ignore[no-untyped-call]
        yield
        return
    services: Any = ray_services
    before = services.ConsolePopen
    services.ConsolePopen = partial(before, start_new_session=True)
    try:
        yield
    finally:
        services.ConsolePopen = before


def plain_job_config() -> Any:
    """Settings of a job whose workers import what is installed or in PYTHONPATH.

    Ray would put the current folder and the script's first, where a file of the user's own may be named as a module of
    the standard library is. A submitted job runs in a folder that holds nothing of the kind, and its workers need it.
    """
    from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
    from ray.job_config import JobConfig

    if RAY_JOB_CONFIG_JSON_ENV_VAR in os.environ:
        return None

    class PlainJobConfig(JobConfig):
        def _runtime_env_has_working_dir(self) -> bool:
            """Ray adds those folders unless this is true; it asks for nothing else."""
            return True

    return PlainJobConfig()


def short_temp_dir() -> str | None:
    """A folder for Ray's files that ends with this process, where TMPDIR is too long for sockets; else ``None``.

    Raises ``OSError`` if no short folder can be written.
    """
    usual = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    if len(os.fsencode(usual)) <= _LONGEST_TMPDIR_BYTES:
        return None
    parent = next((folder for folder in _SHORT_FOLDERS if os.access(folder, os.W_OK | os.X_OK)), usual)
    folder = tempfile.mkdtemp(prefix="pb-ray-", dir=parent)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
