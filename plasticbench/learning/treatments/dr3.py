"""DR3: features of an observation and of the one that its value is learnt from are kept from becoming the same.

Source: Kumar, Agarwal, Ma, Courville, Tucker & Levine, ICLR 2022, arXiv 2112.04716: learning from one's own next values
makes the dot product of both features grow, up to their collapse; it is added to the loss, times strength. As in code
of one of the authors (google-research/reincarnating_rl) it is the mean of magnitudes over the rows of the update, ends
of episodes not left out, and the gradient passes through both features. Of critics that read actions the next one is
the policy's, as in the target. 0.03 is what others took over for Atari. Features are those of the last hidden layer
with a nonlinearity. An actor has no next values: networks without are left alone. It needs a pass of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from plasticbench.contracts.network import NetworkState
from plasticbench.contracts.treatment import Look, State
from plasticbench.learning.treatments._penalty import Outcome, add_penalty
from plasticbench.settings import Ge, PerMember, Settings

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """``strength`` of the penalty."""

    looks_at: ClassVar[tuple[str, ...]] = ("next_inputs",)

    strength: Annotated[float, Ge(0), PerMember] = 0.03

    def build(self) -> Dr3:
        """The treatment."""
        return Dr3(self)


COSTS = "1.8 to 2.1 times as long as with none, because of a pass forward and backward of twice the rows"
PRESETS = {"clean": Config()}


class Dr3:
    """It has no state."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def on_gradient(self, net: NetworkState, state: State, look: Look) -> None:
        """Adds the gradient of the penalty."""
        import torch

        if (following := look.next_inputs) is not None:
            add_penalty(net, look, torch.cat((look.inputs, following), dim=1), self.config.strength, co_adaptation)


def co_adaptation(outcome: Outcome) -> Tensor:
    """Of ``[m, 2N, units]``, the next rows behind those that they follow: mean magnitude of dot products ``[m]``."""
    features, following = list(outcome[1].values())[-1].flatten(2).chunk(2, dim=1)
    return (features * following).sum(dim=2).abs().mean(dim=1)
