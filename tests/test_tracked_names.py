"""What settings and metrics are called in MLflow."""

import pytest

from plasticbench.platform.tracking.mlflow_store import legal_name
from plasticbench.platform.tracking.run_specs import flatten


def test_settings_become_dotted_scalars_and_lists() -> None:
    settings = {"agent": {"kind": "dqn", "net": {"hidden": [64, 64], "norm": None}}, "lr": 1e-4, "double": True}
    flat = {"agent.kind": "dqn", "agent.net.hidden": "[64, 64]", "agent.net.norm": "null"}
    assert flatten(settings) == flat | {"lr": "0.0001", "double": "true"}


@pytest.mark.parametrize(
    ("name", "legal"),
    [
        ("plasticity/online/dormant_ratio_0.1/fc1", "plasticity/online/dormant_ratio_0.1/fc1"),
        ("plasticity/online/dfi[0]", "plasticity/online/dfi_0_"),
        ("/loss//td", "loss/td"),
        ("../x", "x"),
        ("", "_"),
        ("a" * 300, "a" * 250),
    ],
)
def test_metric_names_become_legal_and_ours_stay_as_they_are(name: str, legal: str) -> None:
    assert legal_name(name) == legal
