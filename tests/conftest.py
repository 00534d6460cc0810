"""One thread per test process: small networks gain nothing from more, and timings stay bounded."""

import logging
import os
import signal
import tempfile
import uuid
from collections.abc import Iterator
from unittest import mock

import pytest
import torch
from moto.server import ThreadedMotoServer

from plasticbench import storage
from plasticbench.envs import humanoid
from plasticbench.platform.cluster.connection import prepare_environment, start_own_node

torch.set_num_threads(1)

# What nohup or a script starts in the background ignores these, and passes that on to all that tests start and signal.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)  # a handler is passed on to nobody

with mock.patch.dict(os.environ):  # what tests start sees none of it, as a user's command does not
    prepare_environment("local")
    import ray


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where this process's libraries put what they leave behind, which ends with the tests. Sockets need a short path.

    Processes that tests start keep the system's folder: they run as users' do. So does pytest, which keeps its last
    folders for those who look into a failure.
    """
    tmp_path_factory.getbasetemp()
    with (
        tempfile.TemporaryDirectory(prefix="pb-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        os.chmod(folder, 0o711)  # PostgreSQL runs as another user, below it
        patch.setattr(tempfile, "tempdir", folder)
        yield folder


@pytest.fixture(autouse=True)
def impatience() -> Iterator[None]:
    """Drivers, workers and trackers wait for stores that are away; the tests after them must not."""
    storage.be_patient(0.0)
    yield
    storage.be_patient(0.0)


@pytest.fixture(scope="module")
def own_ray() -> Iterator[None]:
    """A Ray in this process, for all tests of a file."""
    with mock.patch.dict(os.environ):
        start_own_node(num_cpus=2)
        yield
        ray.shutdown()


@pytest.fixture
def graphics_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks with pictures can be read on machines that cannot draw."""
    monkeypatch.setattr(humanoid.Config, "check_pictures", lambda self: None)


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    """A bucket of an S3-compatible server on loopback, reached through the environment as users do it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        storage.location("s3://plasticbench").mkdir()
        yield "s3://plasticbench"
    server.stop()


@pytest.fixture
def bucket_folder(object_store: str) -> storage.Location:
    """An empty folder in the bucket."""
    return storage.location(f"{object_store}/{uuid.uuid4().hex}")
