"""Jobs on a cluster of real Ray nodes with different resources: submitted, followed, stopped, submitted again."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
import yaml
from own_environments import forgotten, write_file, write_module
from ray_nodes import RayNodes, free_port, ray_nodes
from small_runs import facts, run_all, small

from plasticbench.platform.definition.reading import load
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.segment import SegmentRun

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def nodes():
    with ray_nodes() as cluster:
        cluster.add(num_cpus=0, memory_gib=1)  # as in Kubernetes: the head trains nothing
        cluster.add(num_cpus=2, memory_gib=4)
        cluster.add(num_cpus=1, memory_gib=2)
        yield cluster


def _plasticbench(nodes: RayNodes, *arguments: str | Path, timeout_s: float = 400) -> tuple[int, str]:
    """The command as a user types it, from this very source."""
    process = _start(nodes, *arguments)
    output, _ = process.communicate(timeout=timeout_s)
    return process.returncode, " ".join(output.split())


def _start(nodes: RayNodes, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "plasticbench.platform", *map(str, arguments)],
        env={**nodes.environment, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _write(path: Path, **changes) -> Path:
    path.write_text(yaml.safe_dump(small(**changes)))
    return path


def _newest_commit(out: Path) -> int:
    return max((int(file.stem.removeprefix("commit-")) for file in out.glob("checkpoints/*/commit-*.json")), default=-1)


def _wait_for_commit_after(out: Path, number: int, timeout_s: float = 300) -> None:
    end = time.monotonic() + timeout_s
    while _newest_commit(out) <= number:
        assert time.monotonic() < end, "no commit was made"
        time.sleep(0.2)


def test_a_submitted_benchmark_gives_the_records_of_one_that_ran_here(nodes, tmp_path):
    config, out = _write(tmp_path / "small.yaml"), tmp_path / "run"
    # The address of another cluster in the environment must not win over the one that is given.
    nodes.environment["RAY_ADDRESS"] = "http://127.0.0.1:9"
    try:
        code, output = _plasticbench(nodes, "submit", config, "--address", nodes.dashboard, "--out", out)
    finally:
        del nodes.environment["RAY_ADDRESS"]
    assert code == 0, output
    assert "Report:" in output  # the job's own output
    reference = run_all(tmp_path / "reference", small())
    assert facts(out, RunDirectory(out).plan()) == facts(tmp_path / "reference", reference)
    assert (out / "report" / "leaderboard.json").exists()


def test_a_module_of_ones_own_travels_with_a_job_to_nodes_that_have_none_of_it(nodes, tmp_path):
    folder, out = tmp_path / "folder", tmp_path / "run"
    (folder / "sibling.py").parent.mkdir()
    (folder / "sibling.py").write_text("ONE = 1.0")
    write_module(folder, imports="from sibling import ONE", reward="return ONE")
    config = write_file(folder)
    code, output = _plasticbench(nodes, "submit", config, "--address", nodes.dashboard, "--out", out)
    assert code == 0, output
    with forgotten():
        own = load(config)
        plan = make_plan(own)
        RunDirectory(tmp_path / "reference").create(own, plan)
        for segment in plan.segments:
            SegmentRun(tmp_path / "reference", segment, own).run()
    assert facts(out, RunDirectory(out).plan()) == facts(tmp_path / "reference", plan)


def test_a_password_in_the_tracking_uri_reaches_the_job_and_no_page_of_ray(nodes, tmp_path):
    config, secret = _write(tmp_path / "small.yaml"), "S3cret-0f-alice"
    uri = f"postgresql://alice:{secret}@127.0.0.1:9/m"
    where = ("--address", nodes.dashboard, "--out", tmp_path / "run")
    code, output = _plasticbench(nodes, "submit", config, *where, "--tracking-uri", uri)
    assert code == 2, output
    assert "postgresql://***@127.0.0.1:9/m" in output
    jobs = requests.get(f"{nodes.dashboard}/api/jobs/", timeout=60).text
    assert "PLASTICBENCH_TRACKING_URI" in jobs
    assert secret not in jobs + output


def test_a_stopped_job_goes_on_when_it_is_submitted_again(nodes, tmp_path):
    config, out = _write(tmp_path / "long.yaml", budget_steps=400_000, checkpoint={"every_s": 0.5}), tmp_path / "run"
    address = ("--address", nodes.dashboard)
    code, output = _plasticbench(nodes, "submit", config, *address, "--out", out, "--no-wait")
    assert code == 0, output
    job = re.search(r"Submitted (\S+)\.", output)[1]
    _wait_for_commit_after(out, -1)
    assert job in _plasticbench(nodes, "jobs", "list", *address)[1]

    follower = _start(nodes, "jobs", "logs", job, "--follow", *address)
    follower.stdout.readline()
    follower.send_signal(signal.SIGINT)
    output, _ = follower.communicate(timeout=120)
    assert follower.returncode == 130
    assert f"jobs stop {job}" in " ".join(output.split())
    assert "RUNNING" in _plasticbench(nodes, "jobs", "status", job, *address)[1]

    assert _plasticbench(nodes, "jobs", "stop", job, *address)[0] == 0
    code, output = _plasticbench(nodes, "jobs", "logs", job, "--follow", *address)
    assert code == 130
    assert "Interrupted" in output  # it ended by itself, not by SIGKILL
    stopped_at = _newest_commit(out)
    code, output = _plasticbench(nodes, "submit", config, *address, "--out", out, "--no-wait")
    assert code == 0, output
    _wait_for_commit_after(out, stopped_at)
    _plasticbench(nodes, "jobs", "stop", re.search(r"Submitted (\S+)\.", output)[1], *address)


def test_a_plain_ray_job_runs_too_and_needs_an_absolute_path(nodes, tmp_path):
    _write(tmp_path / "small.yaml")
    source = Path(__file__).parents[1]
    program = f"env PYTHONPATH={source} python -m plasticbench.platform"

    def ray_job(*arguments: str | Path) -> tuple[int, str]:
        command = ["ray", "job", "submit", "--address", nodes.dashboard, "--working-dir", str(tmp_path)]
        command += ["--runtime-env-json", f'{{"env_vars": {{"PYTHONPATH": "{source}"}}}}', "--"]
        done = subprocess.run(
            [*command, *program.split(), *map(str, arguments)], env=nodes.environment, capture_output=True, text=True
        )
        return done.returncode, done.stdout + done.stderr

    out = tmp_path.with_name(tmp_path.name + "-run")
    code, output = ray_job("run", "small.yaml", "--address", "auto", "--out", "runs/here")
    assert code != 0
    assert "--out: a job needs an absolute path" in output
    code, output = ray_job("run", "small.yaml", "--address", "auto", "--out", out)
    assert code == 0, output
    assert (out / "report" / "leaderboard.json").exists()


def test_a_failing_job_hands_on_its_exit_code_and_its_reason(nodes, tmp_path):
    config = _write(tmp_path / "large.yaml", execution={"num_cpus": 3})
    code, output = _plasticbench(nodes, "submit", config, "--address", nodes.dashboard, "--out", tmp_path / "run")
    assert code == 2
    assert "execution.num_cpus: population" in output
    assert "1 x 2 CPUs, 0 GPUs, 4.0 GiB" in output


def test_a_population_that_only_the_sum_of_the_nodes_could_hold_is_refused(nodes, tmp_path):
    config = _write(tmp_path / "large.yaml")
    # 2 members of 40M x 42 bytes, which the budget fills: more than 3 GiB, less than 7
    sizes = ("--set", "agent.capacity_transitions=40000000", "--set", "budget_steps=40000000")
    code, output = _plasticbench(nodes, "run", config, *sizes, "--address", nodes.address, "--out", tmp_path / "run")
    assert code == 2
    assert "execution.members_per_population: population" in output


def test_addresses_where_nothing_answers_are_refused_within_seconds(nodes, tmp_path):
    config, port = _write(tmp_path / "small.yaml"), free_port()
    out = ("--out", tmp_path / "run")
    for arguments, told in [
        (("run", config, "--address", f"127.0.0.1:{port}", *out), "no Ray cluster can be joined"),
        (("run", config, "--address", nodes.dashboard, *out), "that is the dashboard"),
        (("submit", config, "--address", f"http://127.0.0.1:{port}", *out), "no answer"),
        (("submit", config, "--address", nodes.address, *out), "must be the cluster's dashboard"),
        (("submit", config, "--address", nodes.dashboard, "--out", "runs/x"), "absolute path"),
        (("submit", config, "--set", "seeds=0", "--address", nodes.dashboard, *out), "seeds: must be a count"),
    ]:
        code, output = _plasticbench(nodes, *arguments)
        assert code == 2, output
        assert told in output
    began = time.monotonic()
    _plasticbench(nodes, "jobs", "list", "--address", f"http://127.0.0.1:{port}")
    quickest = time.monotonic() - began
    assert quickest < 60  # nearly all of it imports
