"""What the README shows works as it stands: its benchmark files, and its treatment dropped into the folder."""

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml
from own_environments import forgotten
from small_runs import facts, run_all, small
from treated import event, part, trained

from plasticbench.platform.definition.reading import from_dict, load
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.segment import SegmentRun

README = Path(__file__).parents[1] / "README.md"


def test_the_benchmark_files_are_read_and_planned() -> None:
    whole, methods = re.findall(r"```yaml\n(.*?)```", README.read_text(), flags=re.DOTALL)
    data = yaml.safe_load(whole)
    assert len(make_plan(from_dict(data)).trials) == 4 * 5
    data |= yaml.safe_load(methods)
    names = [method.name for method in from_dict(data).methods]
    assert names[:4] == ["none", "l2_init strength=0.0001", "l2_init strength=0.001", "l2_init strength=0.01"]
    assert len(make_plan(from_dict(data)).trials) == len(names) * 5


def test_the_environment_of_ones_own_trains_under_the_quickstart(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(import gymnasium\n.*?)```", README.read_text(), re.S)
    ((key, environments),) = re.findall(r"`(environments): (\[.*?\])`", README.read_text())
    data = yaml.safe_load((README.parent / "configs/quickstart.yaml").read_text())
    (tmp_path / "corridor.py").write_text(code)
    (tmp_path / "quickstart.yaml").write_text(yaml.safe_dump(data | {key: yaml.safe_load(environments)}))
    short = ["budget_steps=1200", "seeds=1", "evaluation.every_steps=600", "agent.learning_starts_steps=100"]
    with forgotten():
        benchmark = load(tmp_path / "quickstart.yaml", short)
        plan = make_plan(benchmark)
        RunDirectory(tmp_path / "run").create(benchmark, plan)
        for segment in plan.segments:
            SegmentRun(tmp_path / "run", segment, benchmark).run()
    found = facts(tmp_path / "run", plan)
    assert {len([name for _, name, _ in found[method, 0] if name == "eval/score"]) for method, _ in found} == {2}


@pytest.fixture
def dropped_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(
        r"```python\n# plasticbench/learning/treatments/soft_reset\.py\n(.*?)```", README.read_text(), re.S
    )
    (tmp_path / "soft_reset.py").write_text(code)
    package = importlib.import_module("plasticbench.learning.treatments")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "plasticbench.learning.treatments.soft_reset", raising=False)


def test_the_treatment_moves_weights_by_its_rate_towards_a_fresh_draw_of_each_member(dropped_in: None) -> None:
    network, twin = (trained([[part("soft_reset", rate=0.25)]] * 3) for _ in range(2))
    before, fresh = twin.online.parameters, twin._draw(range(3))
    report = event(network, [0, 1, 2], step=1)
    assert report.touched == {"fc1.weight", "fc2.weight", "fc3.weight"}
    for name, value in network.online.parameters.items():
        expected = torch.lerp(before[name], fresh[name], 0.25) if name in report.touched else before[name]
        torch.testing.assert_close(value, expected)


def test_a_benchmark_file_can_name_the_treatment(tmp_path: Path, dropped_in: None) -> None:
    data = small(methods={"soft": {"kind": "soft_reset", "rate": 0.5}}, seeds=1)
    found = facts(tmp_path / "run", run_all(tmp_path / "run", data))["soft", 0]
    (moved,) = [float(value) for _, name, value in found if name == "reset/after/online/sfe"]
    assert moved > 0
