"""Code blocks of README.md and docs/ are tests; what one needs stands behind its language: ```` ```bash docker ````.

* ``python`` and ``bash`` run as they stand, each in a process and a folder of its own;
* ``yaml`` is read and planned as a benchmark file, with what it leaves out taken from ``BENCHMARK``;
* ``text`` and ``nginx`` run nowhere: docs/check.py looks up the names in them, tests/test_proxy.py runs the proxy.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sybil import Document, Example, Region, Sybil
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

ROOT = Path(__file__).parent
NEEDS = {
    "docker": "Docker",
    "kubectl": "a Kubernetes cluster",
    "machines": "machines that stand under made-up names in it",
    "ci": "to be the commands of .ci/run themselves",
    "yours": "modules or data of the reader's own",
    "qt": "Qt 5, which a bare Debian lacks",
}
"""What no test has: blocks with these words are held to their language's syntax alone."""
BENCHMARK = {
    "name": "page",
    "environments": [{"kind": "classic", "task": "CartPole-v1"}],
    "agent": {"kind": "dqn", "network": {"kind": "mlp", "hidden": [64, 64]}},
    "resets": {"at": [0.5]},
    "methods": {"none": {"kind": "none"}, "fire": {"kind": "fire"}},
    "seeds": 1,
    "budget_steps": 50_000,
    "evaluation": {"every_steps": 10_000, "episodes": 1},
}

_OF_AGENTS = ("agent", "budget_steps", "evaluation")


def run(folder: Path, *command: str) -> None:
    """Runs a command in a copy of the repository's folder that it may write into."""
    for path in ROOT.iterdir():
        if path.name in (
            "docker",
            "requirements.lock",
            "pyproject.toml",
        ):  # written to, or older than what is installed
            copy = shutil.copytree if path.is_dir() else shutil.copyfile
            os.utime(copy(path, folder / path.name), (0, 0))
        elif path.name not in (".git", ".venv", "runs"):
            (folder / path.name).symlink_to(path)
    (folder / ".venv").symlink_to(sys.prefix)
    paths = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **paths}, capture_output=True, text=True, errors="replace", check=False
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def run_python(example: Example) -> None:
    """The block as a script."""
    with TemporaryDirectory() as folder:
        run(Path(folder), sys.executable, "-c", example.parsed)


def run_bash(example: Example) -> None:
    """The block as a script that stops at the first command that fails."""
    if re.search(r"^make ", example.parsed, re.MULTILINE) and not Path(sys.prefix, ".installed").exists():
        pytest.skip("the virtual environment was not made by `make setup`, which would install another one")
    with TemporaryDirectory() as folder:
        run(Path(folder), "bash", "-euo", "pipefail", "-c", example.parsed)


def plan_yaml(example: Example) -> None:
    """The block as a benchmark file, or as some of its sections."""
    from plasticbench.platform.definition.reading import from_dict
    from plasticbench.platform.definition.yaml_text import parse_yaml
    from plasticbench.platform.planning.plan import make_plan

    data = parse_yaml(example.parsed)
    base = {name: value for name, value in BENCHMARK.items() if "learner" not in data or name not in _OF_AGENTS}
    assert make_plan(from_dict(base | data)).trials


def check_syntax(example: Example) -> None:
    """For what cannot run here."""
    from plasticbench.platform.definition.yaml_text import parse_yaml

    if example.region.lexemes["language"] == "yaml":
        assert isinstance(parse_yaml(example.parsed), dict)
        return
    subprocess.run(["bash", "-n", "-c", example.parsed], check=True)


EVALUATORS = {"python": run_python, "bash": run_bash, "yaml": plan_yaml, "text": None, "nginx": None}


def blocks(document: Document) -> Iterator[Region]:
    """All fenced blocks; one without a known language, or with an unknown word behind it, is an error."""
    for region in RawFencedCodeBlockLexer(re.compile(r"(?P<language>\w*)(?P<words>[^\n]*)\n"))(document):
        language, words = region.lexemes["language"], set(region.lexemes["words"].split())
        if language not in EVALUATORS or words - NEEDS.keys() - {"slow"}:
            line = document.text.count("\n", 0, region.start) + 1
            raise ValueError(f"{document.path}:{line}: a block must name one of {', '.join(EVALUATORS)}")
        region.parsed = region.lexemes["source"]
        region.evaluator = check_syntax if words & NEEDS.keys() else EVALUATORS[language]
        if region.evaluator is not None:
            yield region


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Blocks that say ``slow`` are slow tests."""
    for item in items:
        example = getattr(item, "example", None)
        if example is not None and "slow" in example.region.lexemes["words"].split():
            item.add_marker(pytest.mark.slow)


pytest_collect_file = Sybil(parsers=[blocks], patterns=["README.md", "docs/*.md"]).pytest()
