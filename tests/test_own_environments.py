"""``task: "mymodule:MyEnv-v0"``: where such a module is found, how it travels, and what is said where it is not."""

import io
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from own_environments import forgotten, write_file, write_module
from typer.testing import CliRunner

from plasticbench.envs import _own_modules
from plasticbench.platform.cli import app
from plasticbench.platform.cluster.jobs import _working_dir
from plasticbench.platform.definition.reading import Benchmark, BenchmarkError, load
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.segment import SegmentRun


@pytest.fixture(autouse=True)
def _forgets() -> Iterator[None]:
    with forgotten():
        yield


def _config(file: Path) -> Any:
    return load(file).environments[0].config


def test_a_module_is_found_beside_the_benchmark_file_and_then_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside, here = tmp_path / "beside", tmp_path / "here"
    write_module(beside, observations="gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)")
    write_module(here, "alone", deliver="return np.zeros(5, np.float32)", task="Alone-v0",
                 observations="gymnasium.spaces.Box(0.0, 0.0, (5,), np.float32)")  # fmt: skip
    write_module(here, deliver="return np.zeros(7, np.float32)",
                 observations="gymnasium.spaces.Box(0.0, 0.0, (7,), np.float32)")  # fmt: skip
    monkeypatch.chdir(here)
    assert _config(write_file(beside)).spec.obs_shape == (3,)
    assert _config(write_file(beside, {"task": "alone:Alone-v0"})).spec.obs_shape == (5,)


def test_the_folders_stand_at_the_end_of_the_import_path_for_that_import_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_module(tmp_path, imports="import sys; PATH = list(sys.path)\nimport statistics")
    (tmp_path / "statistics.py").write_text("raise RuntimeError('shadows the standard library')")
    before = list(sys.path)
    load(write_file(tmp_path))
    assert sys.modules["mine"].PATH == [*before, str(tmp_path)]
    assert sys.path == before


def test_what_a_module_does_to_the_import_path_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    monkeypatch.setattr(sys, "path", list(before))
    write_module(tmp_path, imports="import sys; sys.path.insert(0, '/first'); sys.path.append('/last')")
    load(write_file(tmp_path))
    assert sys.path == ["/first", *before, "/last"]


def test_arguments_and_the_limit_of_an_episode_reach_the_environment(tmp_path: Path) -> None:
    write_module(tmp_path)
    for environment, length in (({}, 20), ({"kwargs": {"length": 7}}, 7), ({"max_episode_steps": 5}, 5)):
        env = _config(write_file(tmp_path, environment)).build([1], 1)
        env.reset()
        ends = [step.terminated | step.truncated for step in (env.step(np.zeros(1, int)) for _ in range(length))]
        assert np.argwhere(np.array(ends)[:, 0]).ravel().tolist() == [length - 1]
    trials = make_plan(load(write_file(tmp_path, {"kwargs": {"length": 7}, "max_episode_steps": 5}))).trials
    assert trials[0].settings["environment"]["kwargs"] == {"length": 7}
    assert trials[0].settings["environment"]["max_episode_steps"] == 5


@pytest.mark.parametrize(
    ("module", "environment", "message"),
    [
        ({}, {"task": "nine:Mine-v0"}, r"task: nine:Mine-v0 cannot be made: there is no module 'nine', looked for in "
         r".*FOLDER.* and on the import path\. Put nine\.py beside the benchmark file"),
        ({}, {"task": "mine:Nine-v0"}, r"mine can be imported, and registers no 'Nine-v0': Did you mean 'Mine-v0'\?"),
        ({}, {"task": "../mine:Mine-v0"}, r"before the colon must be a module .*, got '\.\./mine'\. "),
        ({}, {"task": ":Mine-v0"}, r"before the colon must be a module as Python imports it, .*, got ''"),
        ({}, {"task": "Mine-v0"}, r"no environment is registered under 'Mine-v0'\..* is called MODULE:ID"),
        ({"imports": "import nowhere_to_be_found"}, {}, r"mine:Mine-v0 cannot be made: No module named "
         r"'nowhere_to_be_found'\. Install what has the module 'nowhere_to_be_found'"),
        ({"imports": "raise RuntimeError('no [licence]')"}, {}, r"cannot be made: RuntimeError: no \[licence\]\."),
        ({}, {"kwargs": {"width": 3}}, r"TypeError: .*'width' .*\. kwargs are given to its constructor"),
        ({}, {"kwargs": {"max_episode_steps": 3}}, r"kwargs: max_episode_steps is a setting of its own"),
        ({}, {"max_episode_steps": 0}, r"max_episode_steps: must be at least 1, got 0"),
        ({"deliver": "raise OSError('no assets')"}, {}, r"cannot be reset and stepped: OSError: no assets"),
        ({"deliver": "return np.zeros(4, np.float32)"}, {},
         r"task: mine:Mine-v0: its observation_space promises shape \(3,\), and shape \(4,\) came"),
        ({"deliver": "return {'a': 1}"}, {}, r"promises shape \(3,\), and a dict came"),
        ({"deliver": "return np.full(3, np.nan, np.float32)"}, {}, r"mine:Mine-v0: entry 0 of the observation is nan"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_module_is_said_in_a_sentence_by_plan(
    module: dict[str, Any], environment: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_module(tmp_path, **module)
    with pytest.raises(BenchmarkError, match=message.replace("FOLDER", tmp_path.name)):
        load(write_file(tmp_path, environment))


ELSEWHERE = """
import sys
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.segment import SegmentRun
from pathlib import Path
run = Path(sys.argv[1])
for segment in RunDirectory(run).plan().segments:
    assert SegmentRun(run, segment).run()
print(sorted({Path(sys.modules[name].__file__).parent.name[:20] for name in ("mine", "sibling", "parts.inner")}))
"""


def _begin(folder: Path, run: Path) -> Benchmark:
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    (folder / "parts/__init__.py").write_text("")
    (folder / "parts/inner.py").write_text("ONE = 1.0")
    (folder / "sibling.py").write_text("from parts.inner import ONE")
    write_module(folder, imports="from sibling import ONE", reward="return ONE")
    benchmark = load(write_file(folder))
    RunDirectory(run).create(benchmark, make_plan(benchmark))
    return benchmark


def test_the_module_and_what_it_imports_beside_it_travel_to_a_worker_that_has_none_of_it(tmp_path: Path) -> None:
    folder, run = tmp_path / "folder", tmp_path / "run"
    _begin(folder, run)
    folder.rename(tmp_path / "gone")
    done = subprocess.run([sys.executable, "-c", ELSEWHERE, str(run)], cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("plasticbench-modules") + done.stdout.count("parts") == 2


def test_a_module_that_only_another_file_of_the_process_named_does_not_travel(tmp_path: Path) -> None:
    folder, run = tmp_path / "folder", tmp_path / "run"
    benchmark = _begin(folder, run)
    alone = _own_modules.archive(benchmark.modules)
    (folder / "others_part.py").write_text("")
    write_module(folder, "other", task="Other-v0", imports="import sibling, others_part")
    other = load(write_file(folder, {"task": "other:Other-v0"}))
    assert _own_modules.archive(benchmark.modules) == alone
    with zipfile.ZipFile(io.BytesIO(_own_modules.archive(other.modules))) as file:
        assert sorted(file.namelist()) == [
            "other.py",
            "others_part.py",
            "parts/__init__.py",
            "parts/inner.py",
            "sibling.py",
        ]


def test_a_package_that_a_worker_lacks_is_named(tmp_path: Path) -> None:
    folder, run = tmp_path / "folder", tmp_path / "run"
    benchmark = _begin(folder, run)
    (folder / "sibling.py").write_text("import only_here")
    (run / "modules.zip").write_bytes(_own_modules.archive(["mine"]))
    for name in ("mine", "sibling", "parts", "parts.inner"):  # as in the process of a worker
        del sys.modules[name]
    with pytest.raises(ValueError, match=r"mine: this module cannot be imported on \S+: ModuleNotFoundError: No module "
                       r"named 'only_here'\..* what else it imports must be installed there"):  # fmt: skip
        SegmentRun(run, RunDirectory(run).plan().segments[0], benchmark)


def test_a_run_goes_on_with_the_version_of_the_module_that_it_began_with(tmp_path: Path) -> None:
    folder, run = tmp_path / "folder", tmp_path / "run"
    _begin(folder, run)
    benchmark = load(write_file(folder))
    RunDirectory(run).create(benchmark, make_plan(benchmark))  # the same: nothing to say
    (folder / "sibling.py").write_text("from parts.inner import ONE; TWO = 2")
    with pytest.raises(BenchmarkError, match=r"--out: .* was begun with another version of the modules"):
        RunDirectory(run).create(benchmark, make_plan(benchmark))


def test_a_module_travels_with_a_job_to_the_place_beside_its_benchmark_file(tmp_path: Path) -> None:
    write_module(tmp_path)
    file = write_file(tmp_path)
    benchmark = load(file)
    with _working_dir(file, _own_modules.archive(benchmark.modules)) as folder:
        assert sorted(path.name for path in (folder / "configs").iterdir()) == ["mine.py", "own.yaml"]
        assert (folder / "configs/mine.py").read_bytes() == (tmp_path / "mine.py").read_bytes()


OPENS = """
import sys
from plasticbench.envs import _own_modules
_own_modules.open_archive(sys.stdin.buffer.read(int(sys.argv[1])))
print(_own_modules.folders()[0], flush=True)
sys.stdin.read()
"""


def _opened(data: bytes) -> tuple[subprocess.Popen[bytes], Path]:
    """A process that has opened this archive and lives, and its folder, dated two minutes back."""
    command = [sys.executable, "-c", OPENS, str(len(data))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    process.stdin.write(data)
    process.stdin.flush()
    folder = Path(process.stdout.readline().decode().strip())
    os.utime(folder, (time.time() - 120,) * 2)
    return process, folder


def test_the_folder_of_a_killed_process_is_removed_by_the_next_and_that_of_a_living_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    module = write_module(tmp_path)
    data = _own_modules.archive(load(write_file(tmp_path)).modules)
    (killed, left), (living, used) = _opened(data), _opened(data)
    killed.kill()
    killed.communicate()
    assert (left / module.name).exists()
    third, last = _opened(data)
    assert not left.exists()
    assert (used / module.name).exists()
    for process in (living, third):
        process.communicate()
        assert process.returncode == 0
    assert not used.exists()
    assert not last.exists()


def test_installed_modules_stay_where_they_are(tmp_path: Path) -> None:
    file = write_file(tmp_path, {"task": "gymnasium.envs.classic_control:CartPole-v1"})
    assert _own_modules.archive(load(file).modules) == b""


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_from_another_folder_trains_and_reports(tmp_path: Path) -> None:
    write_module(tmp_path / "folder")
    file = write_file(tmp_path / "folder", {"kwargs": {"length": 9}})
    arguments = ["run", str(file), "--out", str(tmp_path / "run"), "--quiet"]
    done = subprocess.run([sys.executable, "-m", "plasticbench.platform", *arguments], cwd="/", timeout=300)
    assert done.returncode == 0
    assert "Ranked by raw return" in (tmp_path / "run/report/leaderboard.md").read_text()


def test_plan_prints_the_sentence_and_ends_with_bad_input(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["plan", str(write_file(tmp_path))])
    assert result.exit_code == 2
    assert "Put mine.py beside the benchmark file, or install it" in " ".join(result.output.split())
    assert yaml.safe_load((tmp_path / "own.yaml").read_text())["name"] == "own"
