"""How a replay holds its frames: raw, or compressed in the host's memory, with equal batches."""

from __future__ import annotations

from typing import Any

import torch

from plasticbench.agents._replay import PopulationReplay
from plasticbench.contracts.task import EnvSpec


def replay_class(compressed: bool) -> type[PopulationReplay]:
    """The replay that holds frames so."""
    if not compressed:
        return PopulationReplay
    from plasticbench.agents._compressed_replay import CompressedReplay  # the codec, which nothing else needs

    return CompressedReplay


def new_replay(
    config: Any,
    spec: EnvSpec,
    num_members: int,
    num_envs: int,
    budget_steps: int,
    device: torch.device,
    *,
    compressed: bool,
) -> PopulationReplay:
    """An empty one as a ``ReplaySettings`` wants it, which ``budget_steps`` fill as far as they go."""
    return replay_class(compressed)(
        spec,
        num_members,
        num_envs,
        config.capacity_transitions,
        device,
        n_step=config.n_step,
        discount=config.discount,
        expected_transitions=budget_steps,
    )
