"""The order of SAC's update: whose new weights and which temperature the next one already sees.

``simba`` (Lee et al. 2025, arXiv 2410.09754, which FIRE's SAC builds on): actor, temperature from the same actions,
critics by the new actor and temperature. ``stable_baselines3`` (Raffin et al. 2021): temperature, critics by the actor
of before, actor by the new critics; both by the temperature of before. ``cleanrl`` (Huang et al. 2022,
sac_continuous_action.py): critics; at every ``policy_period_updates``-th update as many rounds of actor and
temperature, the latter from fresh actions of the new actor. Targets move behind their critics in all of them.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from plasticbench.agents._replay import Batch
from plasticbench.agents._temperature import Temperature

UpdateOrder = Literal["simba", "stable_baselines3", "cleanrl"]


class Rows(NamedTuple):
    """An update's batch with its observations as networks see them."""

    batch: Batch
    obs: Tensor
    next_obs: Tensor


class Losses(NamedTuple):
    """What an update descended, ``[M]`` each, and the log densities ``[M, B]`` that moved the temperature."""

    critics: list[Tensor]
    actor: Tensor | None = None
    temperature: Tensor | None = None
    log_prob: Tensor | None = None


class OrderSettings(Protocol):
    """What an order reads of SAC's settings."""

    @property
    def update_order(self) -> UpdateOrder:
        """Whose order."""
        ...

    @property
    def policy_period_updates(self) -> int:
        """Updates of the critics from one of the actor to the next, where the order has such a period."""
        ...


class Ordered(Protocol):
    """SAC's single steps, to be made in some order."""

    temperature: Temperature
    updates_made: int

    @property
    def config(self) -> OrderSettings:
        """Its settings."""
        ...

    def policy(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions and their log densities."""
        ...

    def trained_policy(self, obs: Tensor, noise: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The same from a pass that the actor is about to be trained on."""
        ...

    def train_actor(self, obs: Tensor, action: Tensor, log_prob: Tensor, temperature: Tensor, step: int) -> Tensor:
        """One step of the actor; returns the loss ``[M]``."""
        ...

    def train_temperature(self, log_prob: Tensor) -> Tensor:
        """One step of the temperature; returns the loss ``[M]``."""
        ...

    def train_critics(self, rows: Rows, noise: Tensor, temperature: Tensor, step: int) -> list[Tensor]:
        """One step of each critic, and of its target behind it; returns the losses ``[M]``."""
        ...


def noises(config: OrderSettings) -> int:
    """How many draws of actions an update may need."""
    return 1 + 2 * config.policy_period_updates if config.update_order == "cleanrl" else 2


def trains_actor(agent: Ordered) -> bool:
    """Whether the update under way trains the actor."""
    return agent.config.update_order != "cleanrl" or agent.updates_made % agent.config.policy_period_updates == 0


def update(agent: Ordered, rows: Rows, noise: Tensor, step: int) -> Losses:
    """One step of every network in the agent's order; ``noise`` is ``[M, noises, B, actions]``."""
    match agent.config.update_order:
        case "stable_baselines3":
            return _stable_baselines3(agent, rows, noise, step)
        case "cleanrl":
            return _cleanrl(agent, rows, noise, step)
    return _simba(agent, rows, noise, step)


def _simba(agent: Ordered, rows: Rows, noise: Tensor, step: int) -> Losses:
    action, log_prob = agent.trained_policy(rows.obs, noise[:, 0], step)
    actor = agent.train_actor(rows.obs, action, log_prob, agent.temperature.value, step)
    log_prob = log_prob.detach()
    temperature = agent.train_temperature(log_prob)
    critics = agent.train_critics(rows, noise[:, 1], agent.temperature.value, step)
    return Losses(critics, actor, temperature, log_prob)


def _stable_baselines3(agent: Ordered, rows: Rows, noise: Tensor, step: int) -> Losses:
    before = agent.temperature.value
    action, log_prob = agent.trained_policy(rows.obs, noise[:, 0], step)
    temperature = agent.train_temperature(log_prob.detach())
    critics = agent.train_critics(rows, noise[:, 1], before, step)
    actor = agent.train_actor(rows.obs, action, log_prob, before, step)
    return Losses(critics, actor, temperature, log_prob.detach())


def _cleanrl(agent: Ordered, rows: Rows, noise: Tensor, step: int) -> Losses:
    losses = Losses(agent.train_critics(rows, noise[:, 0], agent.temperature.value, step))
    for number in range(agent.config.policy_period_updates if trains_actor(agent) else 0):
        action, log_prob = agent.trained_policy(rows.obs, noise[:, 1 + 2 * number], step)
        actor = agent.train_actor(rows.obs, action, log_prob, agent.temperature.value, step)
        with torch.no_grad():
            _, log_prob = agent.policy(rows.obs, noise[:, 2 + 2 * number])
        losses = Losses(losses.critics, actor, agent.train_temperature(log_prob), log_prob)
    return losses
