"""What the outputs of agents' networks are, for probes that ask for values or for a policy."""

from __future__ import annotations

from collections.abc import Mapping

from plasticbench.contracts.network import Meaning
from plasticbench.contracts.task import BoxActions, DiscreteActions


def meaning(network: str, actions: DiscreteActions | BoxActions) -> Mapping[Meaning, slice]:
    """By places of the outputs of a trained network, which agents name alike."""
    policy: dict[Meaning, slice] = (
        {"means": slice(0, len(actions.low))}
        if isinstance(actions, BoxActions)
        else {"logits": slice(0, actions.count)}
    )
    match network:
        case "q":
            return {"action_values": slice(None)}
        case "actor" | "classifier":
            return policy
        case "shared":
            return {**policy, "values": slice(-1, None)}
    return {"values": slice(None)}
