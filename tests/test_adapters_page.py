"""docs/adapters.md, followed literally: every block of the page runs as it stands."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


def run(*command: str) -> str:
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_holds_the_blocks_that_the_tests_below_run():
    assert set(re.findall(r"^```(\w+)$", PAGE, flags=re.MULTILINE)) == {"python", "bash"}
    assert (len(blocks("python")), len(blocks("bash"))) == (4, 1)


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.splitlines()[0])
def test_python_blocks_run(block):
    run("-c", block)


@pytest.mark.slow
def test_the_single_file_script_resets_probes_and_goes_on_learning():
    python, *command = shlex.split(blocks("bash")[0])
    assert python == "python"
    lines = run(*command).splitlines()
    assert [line.split()[0] for line in lines if "dormant_ratio" in line] == ["step=1000", "step=2000"]
    assert int(lines[-1].split()[0].removeprefix("step=")) > 2_000


def test_the_single_file_script_adds_three_lines():
    script = (ROOT / "examples" / "cleanrl_style_dqn.py").read_text(encoding="utf-8")
    _, _, code = script.split('"""', 2)
    assert len([line for line in code.splitlines() if "plasticbench" in line]) == 3
