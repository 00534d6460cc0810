"""plasticbench: which way of keeping a deep RL agent plastic really works.

The three helpers act in place on any ``torch.nn.Module``; they load torch on first use. Gymnasium imports this package
to find ``plasticbench:h1-walk`` and its siblings.
"""

import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from plasticbench.modules import fire_, probe, reset

__all__ = ["__version__", "fire_", "probe", "reset"]

if sys.modules.get("gymnasium") is not None:  # whoever makes environments has it, and nobody else should pay for it
    from plasticbench.envs._gymnasium_ids import register_humanoids

    register_humanoids()


def __getattr__(name: str) -> Any:
    if name in ("fire_", "probe", "reset"):
        from plasticbench import modules

        return getattr(modules, name)
    raise AttributeError(f"module 'plasticbench' has no attribute {name!r}")
