"""One thread per test process: small networks gain nothing from more, and timings stay bounded."""

import pytest
import torch

from plasticbench.envs import humanoid

torch.set_num_threads(1)


@pytest.fixture
def graphics_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks with pictures can be read on machines that cannot draw."""
    monkeypatch.setattr(humanoid.Config, "check_pictures", lambda self: None)
