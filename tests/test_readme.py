"""What the README shows works as it stands."""

import re
import sys
from pathlib import Path

import pytest
import yaml
from small_runs import facts, run_all, small

from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.plan import make_plan

README = (Path(__file__).parents[1] / "README.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_benchmark_file_is_read_and_planned() -> None:
    (whole, methods) = _blocks("yaml")
    data = yaml.safe_load(whole)
    assert len(make_plan(from_dict(data)).trials) == 4 * 5
    data |= yaml.safe_load(methods)
    names = [method.name for method in from_dict(data).methods]
    assert names[:4] == ["none", "l2_init strength=0.0001", "l2_init strength=0.001", "l2_init strength=0.01"]
    assert len(make_plan(from_dict(data)).trials) == len(names) * 5


def test_the_example_of_a_treatment_is_found_by_its_name_and_acts(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = (block for block in _blocks("python") if "treatments/" in block)
    first, _, code = example.partition("\n")
    kind = Path(first.removeprefix("# ")).stem
    (tmp_path / f"{kind}.py").write_text(code)
    package = sys.modules["plasticbench.learning.treatments"]
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    try:
        methods = {"none": {"kind": "none"}, "soft": {"kind": kind, "rate": 0.5}, "hard": {"kind": kind, "rate": 1.0}}
        probes = {"every_steps": 100, "batch_rows": 32, "kinds": ["sfe"]}
        plan = run_all(tmp_path / "run", small(methods=methods, seeds=1, probes=probes))
    finally:
        sys.modules.pop(f"plasticbench.learning.treatments.{kind}", None)
    moved = {
        method: [float(value) for _, name, value in own if name == "reset/after/online/sfe"]
        for (method, _), own in facts(tmp_path / "run", plan).items()
    }
    assert moved["none"] == [0.0]
    assert 0 < moved["soft"][0] < moved["hard"][0]
