"""Agreement with recordings of the FIRE authors' DQN code, run through the public helper."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import plasticbench

DIRECTORY = Path(
    os.environ.get("PLASTICBENCH_CONFORMANCE_DIR", Path(__file__).resolve().parents[2] / "shared" / "conformance")
)
RECORDING = DIRECTORY / "reset_dqn.npz"
pytestmark = pytest.mark.skipif(
    not RECORDING.exists(), reason=f"{RECORDING} is absent; PLASTICBENCH_CONFORMANCE_DIR names another folder"
)
RELATIVE_TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def recorded() -> dict[str, dict[str, torch.Tensor]]:
    with np.load(RECORDING) as arrays:
        tags: dict[str, dict[str, torch.Tensor]] = {}
        for key in arrays.files:
            tag, name = key.split("/")
            tags.setdefault(tag, {})[name] = torch.from_numpy(arrays[key])
    return tags


def network(weights: dict[str, torch.Tensor]) -> nn.Module:
    """The recorded network; its ``fc1.weight`` was cut to [16, 64], so the other rows here are zero."""
    module = nn.Sequential()
    for name in ("conv1", "conv2", "conv3"):
        out_width, in_width, height, width = weights[f"{name}.weight"].shape
        module.add_module(name, nn.Conv2d(in_width, out_width, (height, width)))
    module.add_module("fc1", nn.Linear(64, 512))
    module.add_module("fc2", nn.Linear(512, 9))
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.zero_()
            parameter[: len(weights[name])] = weights[name]
    return module


def assert_recorded(module: nn.Module, expected: dict[str, torch.Tensor]) -> None:
    for name, parameter in module.named_parameters():
        actual = parameter.detach()[: len(expected[name])]
        error = (actual - expected[name]).norm() / expected[name].norm().clamp_min(1e-30)
        assert error <= RELATIVE_TOLERANCE, f"{name}: relative error {error:.2e}"
        torch.testing.assert_close(actual, expected[name], rtol=RELATIVE_TOLERANCE, atol=1e-7)


@pytest.mark.parametrize("kind", ["fire", "full_reset", "shrink_perturb"])
def test_preset_reproduces_the_authors_online_and_target_networks(kind: str, recorded) -> None:
    online, target = network(recorded["before"]), network(recorded["before_target"])
    plasticbench.reset(online, kind, preset="fire_paper_dqn", initial=network(recorded["init"]), target=target)
    assert_recorded(online, recorded[kind])
    assert_recorded(target, recorded[f"{kind}_target"])


def test_recordings_distinguish_the_policies_and_the_two_networks(recorded) -> None:
    for kind in ("fire", "full_reset", "shrink_perturb"):
        assert not torch.equal(recorded[kind]["conv1.weight"], recorded["before"]["conv1.weight"])
    assert not torch.equal(recorded["fire_target"]["conv1.bias"], recorded["fire"]["conv1.bias"])
