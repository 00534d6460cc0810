"""What Ray's processes get from the driver that starts them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from plasticbench.platform.cluster.ray_processes import plain_job_config, short_temp_dir

NODE = """
import os, sys
sys.path.insert(0, os.getcwd())  # as `python -m` does
from plasticbench.platform.cluster.connection import start_own_node
start_own_node(num_cpus=1)
import ray

@ray.remote
def path():
    import os, sys
    return os.path.abspath(os.curdir), [os.path.abspath(entry) for entry in sys.path]

folder, entries = ray.get(path.remote())
print(folder, folder in entries, ray._private.worker._global_node.get_session_dir_path())
ray.shutdown()
"""

HANDLER = """
import signal
from plasticbench.platform.cluster.connection import connected
try:
    with connected("local"):
        print(signal.getsignal(signal.SIGTERM))
        raise ValueError
except ValueError:
    print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
"""


def _long(tmp_path: Path) -> Path:
    folder = tmp_path / ("d" * max(1, 90 - len(str(tmp_path)) - 1))
    folder.mkdir()
    return folder


def test_a_short_tmpdir_is_used_as_it_is(monkeypatch):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    for folder in ("/tmp", "/scratch/user/job.123456789"):
        monkeypatch.setenv("TMPDIR", folder)
        assert short_temp_dir() is None


def test_a_long_one_is_replaced_by_a_new_short_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(_long(tmp_path)))
    folder = short_temp_dir()
    assert folder is not None
    assert len(folder) < 30
    assert os.listdir(folder) == []
    os.rmdir(folder)


@pytest.mark.ray
@pytest.mark.slow
def test_ray_starts_with_a_tmpdir_of_90_characters_and_workers_do_not_look_into_the_current_folder(tmp_path):
    environment = {**os.environ, "TMPDIR": str(_long(tmp_path)), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", NODE]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    folder, is_on_path, session_dir = done.stdout.split()
    assert (folder, is_on_path) == (str(tmp_path), "False")
    assert session_dir.startswith("/tmp/pb-ray-")
    assert not Path(session_dir).parent.exists()


def test_a_submitted_job_keeps_what_it_was_given_and_any_other_driver_adds_no_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    assert plain_job_config()._runtime_env_has_working_dir()
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert plain_job_config() is None


@pytest.mark.ray
@pytest.mark.slow
def test_a_process_without_ray_any_more_hears_what_ends_it_as_before(tmp_path):
    command = [sys.executable, "-c", HANDLER]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=240)
    within, after = done.stdout.splitlines()
    assert "_interrupt" in within
    assert after == "True"
