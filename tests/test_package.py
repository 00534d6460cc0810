"""What an installation brings: the core alone, the platform as an extra, and benchmark files inside the package."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.testing import CliRunner

import plasticbench
from plasticbench import extras
from plasticbench.platform import shipped
from plasticbench.platform.cli import app

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
runner = CliRunner(env={"COLUMNS": "200"})


def without_bench(code: str) -> subprocess.CompletedProcess[str]:
    """Runs code where no module of the extra ``bench`` can be imported."""
    blocked = f"import sys; sys.modules |= dict.fromkeys({sorted(extras.BENCH_MODULES)})\n"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", blocked + code], capture_output=True, text=True, check=False, env=environment
    )


# -- the core --------------------------------------------------------------------------------------------------------


def test_the_core_needs_torch_and_numpy_alone() -> None:
    assert [Requirement(line).name for line in PROJECT["dependencies"]] == ["torch", "numpy"]
    done = without_bench(
        "import torch, plasticbench\n"
        "module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))\n"
        "plasticbench.fire_(module); plasticbench.reset(module, 'shrink_perturb', seed=1)\n"
        "print('dormant_ratio' in plasticbench.probe(module, torch.ones(5, 3)))\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True\n"


def test_callbacks_say_which_library_they_lack_and_nothing_else() -> None:
    for module, library in (("sb3", "stable_baselines3"), ("rllib", "ray")):
        done = without_bench(f"sys.modules[{library!r}] = None; import plasticbench.{module}")
        assert re.search(rf"ImportError: plasticbench\.{module} needs .*pip install", done.stderr), done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["run", "quickstart"]])
def test_a_command_without_the_platform_names_what_to_install(arguments) -> None:
    done = without_bench(f"sys.argv = ['plasticbench', *{arguments}]; from plasticbench.__main__ import main; main()")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(r"Error: plasticbench's commands need the package '\w+', .* pip install .*\[bench\]'?", line)


def test_a_module_of_somebody_else_that_is_missing_is_not_blamed_on_the_extra() -> None:
    done = without_bench(
        "import types\n"
        "sys.modules['plasticbench.platform.cli'] = cli = types.ModuleType('cli')\n"
        "def main(): import nosuchmodule\n"
        "cli.main = main\n"
        "from plasticbench.__main__ import main; main()"
    )
    assert "ModuleNotFoundError: No module named 'nosuchmodule'" in done.stderr


@pytest.mark.parametrize(
    ("recorded", "command"),
    [
        ({"url": "file:///tmp/a%20b/p.whl", "archive_info": {}}, "pip install '/tmp/a b/p.whl[bench]'"),
        ({"url": "file:///src", "dir_info": {}}, "pip install '/src[bench]'"),
        ({"url": "file:///src", "dir_info": {"editable": True}}, "pip install -e '/src[bench]'"),
        (
            {"url": "https://host/p.git", "vcs_info": {"vcs": "git", "commit_id": "1"}},
            "pip install 'plasticbench[bench] @ git+https://host/p.git'",
        ),
        (None, f"pip install -e '{ROOT}[bench]'"),
    ],
)
def test_the_command_for_an_extra_installs_from_where_the_package_came(monkeypatch, recorded, command) -> None:
    class Installed:
        def read_text(self, name: str) -> str | None:
            return None if recorded is None else json.dumps(recorded)

    monkeypatch.setattr(metadata, "distribution", lambda name: Installed())
    assert extras.install_command("bench") == command


# -- dependencies ----------------------------------------------------------------------------------------------------


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def test_dependencies_are_ranges_that_the_lock_lies_in_and_torchs_begins_there() -> None:
    wanted = [
        *PROJECT["dependencies"],
        *(line for lines in PROJECT["optional-dependencies"].values() for line in lines),
    ]
    for requirement in map(Requirement, wanted):
        operators = {one.operator for one in requirement.specifier}
        assert operators <= {">=", "<"}, requirement
        version = locked().get(canonicalize_name(requirement.name))
        if version is not None:
            assert requirement.specifier.contains(version), requirement
    assert Requirement(PROJECT["dependencies"][0]).specifier == f">={locked()['torch']}"


def test_the_modules_of_the_extra_are_those_of_its_packages() -> None:
    wanted = {canonicalize_name(Requirement(line).name) for line in PROJECT["optional-dependencies"]["bench"]}
    found = {
        module: {canonicalize_name(package) for package in packages}
        for module, packages in metadata.packages_distributions().items()
    }
    for module in extras.BENCH_MODULES & found.keys():
        assert found[module] & wanted, module
    assert {name for module in extras.BENCH_MODULES for name in found.get(module, ())} >= wanted & set(locked())


# -- benchmark files -------------------------------------------------------------------------------------------------


def test_shipped_files_are_those_of_the_repository_and_are_listed() -> None:
    assert shipped.names() == sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))
    rows = json.loads(runner.invoke(app, ["list", "configs", "--json"]).stdout)
    assert [row["name"] for row in rows] == shipped.names()
    assert rows[shipped.names().index("quickstart")]["summary"].startswith("Acrobot whose observations are shuffled")


def test_a_name_means_the_shipped_file_unless_there_is_a_file_of_that_name(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "trials: 20" in runner.invoke(app, ["plan", "quickstart"]).stdout
    result = runner.invoke(app, ["plan", "quikstart"])
    assert result.exit_code == 2
    assert "'quikstart' is no file and no shipped benchmark. Did you mean 'quickstart'?" in result.stderr
    (tmp_path / "quickstart").write_text("name: [")
    assert "quickstart: " in runner.invoke(app, ["plan", "quickstart"]).stderr


def test_a_new_file_begins_as_a_shipped_one_and_never_writes_over_another(tmp_path) -> None:
    path = tmp_path / "my.yaml"
    assert runner.invoke(app, ["new", str(path), "--from", "pendulum"]).exit_code == 0
    assert path.read_text() == shipped.text("pendulum")
    assert runner.invoke(app, ["new", str(tmp_path / "folder" / "my.yaml")]).exit_code == 0
    again = runner.invoke(app, ["new", str(path)])
    assert again.exit_code == 2
    assert "is there already; choose another name" in again.stderr
    assert path.read_text() == shipped.text("pendulum")
    assert "Did you mean 'pendulum'?" in runner.invoke(app, ["new", str(tmp_path / "b"), "--from", "pendulm"]).stderr


# -- as a wheel ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.ray
def test_installed_from_the_wheel_in_another_folder_the_quickstart_runs(tmp_path) -> None:
    """The libraries are those of this environment, which the new one reads through a path file."""
    source = tmp_path / "source"
    for name in ("plasticbench", "configs"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        tmp_path,
        source,
    ]
    subprocess.run(build, check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    (site / "libraries.pth").write_text(str(Path(pytest.__file__).parents[1]))
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True, timeout=300)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def command(*arguments: str) -> str:
        done = subprocess.run(
            [python.with_name("plasticbench"), *arguments],
            cwd=elsewhere,
            env=environment,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    where = subprocess.run(
        [python, "-c", "import plasticbench; print(plasticbench.__file__)"],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(site)
    assert "quickstart" in command("list", "configs")
    command("new", "my.yaml", "--from", "quickstart")
    short = ("seeds=1", "budget_steps=2400", "evaluation.every_steps=1200")
    command("plan", "my.yaml")
    command("run", "quickstart", *(part for setting in short for part in ("--set", setting)))
    assert (elsewhere / "runs" / "quickstart" / "report" / "index.html").is_file()


# -- what the repository says about itself -----------------------------------------------------------------------------


def target(name: str) -> list[str]:
    """The commands of a target of the Makefile."""
    _, _, rest = (ROOT / "Makefile").read_text().partition(f"\n{name}:")
    return [line.strip() for line in rest.partition("\n\n")[0].splitlines()[1:]]


def test_the_hooks_before_a_commit_run_what_make_check_runs() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = [hook["entry"].replace(".venv/bin", "$(BIN)") for hook in repository["hooks"]]
    assert repository["repo"] == "local"
    assert hooks == target("check")


def test_the_page_for_contributors_fits_a_screen_and_names_what_there_is() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    assert len(page.splitlines()) <= 40
    for name in re.findall(r"`make ([\w-]+)`", page):
        assert f"\n{name}:" in (ROOT / "Makefile").read_text(), name
    for path in re.findall(r"`((?:plasticbench|tests|docs)/[\w/.]+)`", page):
        assert (ROOT / path).exists(), path


def test_the_citation_and_the_changelog_name_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == plasticbench.__version__
    assert citation["license"] == PROJECT["license"]
    assert f"\n## {plasticbench.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()


def test_no_printed_command_installs_the_package_by_a_name_that_no_index_has() -> None:
    shown = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "plasticbench").rglob("*.py")]
    for path in shown:
        assert not re.search(r"pip install ['\"]?plasticbench(?!\[.*\] @)", path.read_text()), path


def test_the_lowest_versions_are_those_of_the_ranges() -> None:
    done = subprocess.run([sys.executable, ROOT / ".ci" / "lowest.py"], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert f"torch=={locked()['torch']}" in lines
    assert "ray[default,rllib]==2.60.0" in lines
    assert f"pytest=={locked()['pytest']}" in lines
    assert all(">" not in line.partition(";")[0] for line in lines)
