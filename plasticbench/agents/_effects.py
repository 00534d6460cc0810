"""What settings of agents with a replay come to within a budget: how many updates, and which settings do nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

_USUAL = {"update_period_steps": 1, "n_step": 1, "learning_starts_steps": 1, "replay_ratio": 1.0}
"""Settings that can keep an agent from every update, with values that do not."""


def updates_until(settings: Any, step: int, replay_ratio: float | None = None) -> int:
    """Updates that are due up to a clock, were learning not to start late."""
    ratio = settings.replay_ratio if replay_ratio is None else replay_ratio
    return int((step - step % settings.update_period_steps) * ratio)


def last_clock(settings: Any, num_envs: int, budget_steps: int) -> int:
    """What the clock that decides shows after the last step."""
    return budget_steps - (num_envs if settings.update_clock == "before_step" else 0)


def num_updates(settings: Any, num_envs: int, budget_steps: int) -> int:
    """Updates of a member within the budget, where no scenario clears its replay."""
    end = last_clock(settings, num_envs, budget_steps)
    starts = settings.learning_starts_steps
    first = max(starts + 1 + budget_steps - end, min(settings.batch_rows, starts), settings.n_step * num_envs)
    before = -(-first // num_envs) * num_envs - num_envs - (budget_steps - end)
    primed = primed_within(settings, before, end)
    return primed + max(0, updates_until(settings, end) - updates_until(settings, before)) if before < end else 0


def primed_within(settings: Any, before: int, now: int) -> int:
    """Updates of a priming that a clock reaches on its way from one step to another."""
    priming = settings.priming
    return priming.updates if priming is not None and before < priming.at_step <= now else 0


def inert_updates(settings: Any, num_envs: int, budget_steps: int) -> dict[str, str]:
    """Which setting leaves no update, or has no effect on when they are made, and why."""
    period, priming = settings.update_period_steps, settings.priming
    if priming is not None:
        without = replace(settings, priming=None)
        if num_updates(settings, num_envs, budget_steps) == num_updates(without, num_envs, budget_steps):
            end = last_clock(settings, num_envs, budget_steps)
            within = f"above learning_starts_steps ({settings.learning_starts_steps}) and at most {end}"
            return {"priming": f"its step must be {within} to be reached with a replay to learn from"}
        return inert_updates(without, num_envs, budget_steps)
    if num_updates(settings, num_envs, budget_steps) == 0:
        able = (
            name
            for name, value in _USUAL.items()
            if num_updates(replace(settings, **{name: value}), num_envs, budget_steps)
        )
        return {next(able, "replay_ratio"): f"it leaves no update within the budget of {budget_steps} steps"}
    if period > 1 and num_envs % period == 0:
        return {"update_period_steps": f"the environments take {num_envs} steps at once"}
    return {}


def inert_ratio(settings: Any) -> dict[str, str]:
    """Settings of a replay ratio that adapts without effect, and why."""
    if settings.adaptive_ratio is None:
        return dict.fromkeys(("adaptive_ratio_gap", "adaptive_ratio_episodes"), "there is no adaptive_ratio")
    same = settings.adaptive_ratio == settings.replay_ratio
    return {"adaptive_ratio": "it is the replay_ratio from the start"} if same else {}


def inert_dqn_settings(settings: Any) -> dict[str, str]:
    """DQN's settings without effect under its others, and why."""
    inert = {"huber_threshold": "the loss is squared"} if settings.loss == "squared" else {}
    if settings.optimizer.eps is not None:
        inert["adam_eps"] = "the optimizer has an eps of its own"
    if settings.target_period_updates is not None:
        counted = "the target moves at updates that target_period_updates counts"
        inert |= {"target_period_steps": counted, "target_moves": counted}
    if settings.epsilon_start == 1.0 and settings.epsilon_decay_begins == "learning_starts":
        inert["warm_up_actions"] = "epsilon is 1 until learning starts"
    return inert | inert_ratio(settings)


def inert_dqn(settings: Any) -> dict[str, str]:
    """DQN's settings without effect under its others, which stand in trial ids all the same."""
    inert: dict[str, str] = {}
    if settings.epsilon_start == settings.epsilon_end:
        inert = dict.fromkeys(("epsilon_decay_fraction", "epsilon_decay_begins"), "epsilon starts where it ends")
        if settings.epsilon_start == 1.0:
            inert["warm_up_actions"] = "epsilon is always 1"
    elif settings.warm_up_actions == "uniform" and settings.epsilon_decay_fraction == 0:
        inert = dict.fromkeys(("epsilon_start", "epsilon_decay_begins"), "epsilon has fallen when learning starts")
    if settings.discount == 0:
        names = ("bootstrap", "target_period_steps", "target_tau", "target_period_updates", "target_moves")
        inert |= dict.fromkeys(names, "discount is 0")
    return inert


def inert_dqn_within(settings: Any, num_envs: int, budget_steps: int) -> dict[str, str]:
    """DQN's settings without effect with so many environments and steps, and why."""
    inert = inert_updates(settings, num_envs, budget_steps)
    if settings.exploration == "shared" and num_envs == 1:
        inert["exploration"] = "a single environment has none to share with"
    updates, period_updates = num_updates(settings, num_envs, budget_steps), settings.target_period_updates
    never = f"the target never moves within the budget of {budget_steps} steps"
    if period_updates is None and settings.target_period_steps > last_clock(settings, num_envs, budget_steps):
        inert |= dict.fromkeys(("target_period_steps", "target_tau", "target_moves"), never)
    if period_updates is not None and period_updates > updates > 0:
        inert |= dict.fromkeys(("target_period_updates", "target_tau"), f"{never}, which makes {updates} updates")
    return inert


def inert_sac_within(settings: Any, num_envs: int, budget_steps: int) -> dict[str, str]:
    """SAC's settings without effect with so many environments and steps, and why."""
    inert = inert_updates(settings, num_envs, budget_steps)
    updates = num_updates(settings, num_envs, budget_steps)
    if settings.update_order == "cleanrl" and settings.policy_period_updates > updates > 0:
        inert["policy_period_updates"] = f"the actor is never trained in the {updates} updates of the budget"
    return inert
