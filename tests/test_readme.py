"""The README's treatment, dropped into the folder of treatments as it stands."""

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch
from small_runs import facts, run_all, small
from treated import event, part, trained

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(autouse=True)
def dropped_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(
        r"```python\n# plasticbench/learning/treatments/soft_reset\.py\n(.*?)```", README.read_text(), re.S
    )
    (tmp_path / "soft_reset.py").write_text(code)
    package = importlib.import_module("plasticbench.learning.treatments")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "plasticbench.learning.treatments.soft_reset", raising=False)


def test_it_moves_weights_by_its_rate_towards_a_fresh_draw_of_each_member() -> None:
    network, twin = (trained([[part("soft_reset", rate=0.25)]] * 3) for _ in range(2))
    before, fresh = twin.online.parameters, twin._draw(range(3))
    report = event(network, [0, 1, 2], step=1)
    assert report.touched == {"fc1.weight", "fc2.weight", "fc3.weight"}
    for name, value in network.online.parameters.items():
        expected = torch.lerp(before[name], fresh[name], 0.25) if name in report.touched else before[name]
        torch.testing.assert_close(value, expected)


def test_a_benchmark_file_can_name_it(tmp_path: Path) -> None:
    data = small(methods={"soft": {"kind": "soft_reset", "rate": 0.5}}, seeds=1)
    found = facts(tmp_path / "run", run_all(tmp_path / "run", data))["soft", 0]
    (moved,) = [float(value) for _, name, value in found if name == "reset/after/online/sfe"]
    assert moved > 0
