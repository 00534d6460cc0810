"""How fast commands answer: those that only look at a run, or at names, import neither PyTorch nor Ray nor MLflow."""

import json
import subprocess
import sys

import pytest
from small_runs import run_all, small

from plasticbench import plugins

_TOLD = """
import json, sys
from plasticbench.platform.cli import app
try:
    app(json.loads(sys.argv[1]), standalone_mode=False)
finally:
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished")
    run_all(path, small())
    return path


def _imported(*arguments: object) -> set[str]:
    told = json.dumps([str(argument) for argument in arguments])
    done = subprocess.run([sys.executable, "-c", _TOLD, told], capture_output=True, text=True, timeout=120)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("group", sorted(plugins.PACKAGES))
def test_a_list_imports_no_torch(group):
    brought_by_envpool = {"matplotlib"} if group == "envs" else set()  # its registry imports it
    assert _imported("list", group).isdisjoint({"torch", "ray", "mlflow", "pandas", "matplotlib"} - brought_by_envpool)


def test_help_imports_nothing_that_takes_long():
    slow = {"torch", "ray", "mlflow", "pandas", "numpy", "pydantic", "matplotlib", "gymnasium", "fsspec"}
    assert _imported("--help").isdisjoint(slow)


def test_status_and_leaderboard_need_neither_torch_nor_ray_nor_mlflow(finished_run):
    slow = {"torch", "ray", "mlflow", "matplotlib", "gymnasium"}
    assert _imported("leaderboard", finished_run).isdisjoint(slow)
    assert _imported("status", finished_run).isdisjoint(slow | {"pandas", "numpy"})


@pytest.mark.parametrize("group", sorted(plugins.PACKAGES))
def test_what_a_list_reads_in_the_source_of_a_plug_in_is_what_the_plug_in_says(group):
    for name in plugins.names(group):
        assert plugins.outline(group, name) == plugins._imported_outline(group, name)
