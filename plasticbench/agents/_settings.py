"""What most agents answer alike about themselves."""

from __future__ import annotations

from typing import ClassVar

from plasticbench.contracts.task import Demands
from plasticbench.contracts.treatment import Hook
from plasticbench.settings import Settings


class AgentSettings(Settings):
    """Base of agents' Configs: treatments may act at every moment, there is no temperature, and nothing is demanded."""

    __slots__ = ()
    hooks: ClassVar[tuple[Hook, ...]] = ("event", "gradient", "update")
    has_temperature: ClassVar[bool] = False
    demands: ClassVar[Demands] = Demands()
