"""The script of docs/adapters.md: what it prints, and how little of it is plasticbench's."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_single_file_script_resets_probes_and_goes_on_learning():
    (line,) = re.findall(r"^python examples/.*$", PAGE, flags=re.MULTILINE)
    command = [sys.executable, *shlex.split(line)[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines if "dormant_ratio" in line] == ["step=1000", "step=2000"]
    assert int(lines[-1].split()[0].removeprefix("step=")) > 2_000


def test_the_single_file_script_adds_three_lines():
    script = (ROOT / "examples" / "cleanrl_style_dqn.py").read_text(encoding="utf-8")
    _, _, code = script.split('"""', 2)
    assert len([line for line in code.splitlines() if "plasticbench" in line]) == 3
