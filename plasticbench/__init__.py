"""plasticbench: which way of keeping a deep RL agent plastic really works.

``fire_``, ``reset`` and ``probe`` act in place on any ``torch.nn.Module``; ``run`` trains a benchmark, ``load`` reads a
run. Whatever they need is imported on first use. Gymnasium imports this package to find ``plasticbench:h1-walk`` and
its siblings.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from plasticbench.modules import fire_, probe, reset

__all__ = ["Recorder", "__version__", "fire_", "load", "probe", "reset", "run"]

_HOMES = {
    "Recorder": "plasticbench.platform.runs.recorder",
    "fire_": "plasticbench.modules",
    "load": "plasticbench.platform.runs.running",
    "probe": "plasticbench.modules",
    "reset": "plasticbench.modules",
    "run": "plasticbench.platform.runs.running",
}

if sys.modules.get("gymnasium") is not None:  # whoever makes environments has it, and nobody else should pay for it
    from plasticbench.envs._gymnasium_ids import register_humanoids

    register_humanoids()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'plasticbench' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        from plasticbench.extras import BENCH_MODULES, install_command

        if (error.name or "").partition(".")[0] not in BENCH_MODULES:
            raise
        raise ModuleNotFoundError(
            f"plasticbench.{name} needs the package {error.name!r}, which the extra 'bench' brings: "
            f"{install_command('bench')}",
            name=error.name,
        ) from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
