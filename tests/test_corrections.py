"""Which trials carry the number of a correction: those whose results it changed, and no others."""

from __future__ import annotations

from typing import Any

import pytest

from plasticbench.platform.definition.reading import from_resolved
from plasticbench.platform.planning.plan import make_plan

MLP = {"kind": "mlp", "hidden": [8]}
METHODS = {"none": {"kind": "none"}, "fire": {"kind": "fire"}}
RESETS = {"at": [0.5]}


def corrected(
    *,
    env: dict[str, Any] | None = None,
    scenario: dict[str, Any] | None = None,
    agent: dict[str, Any] | None = None,
    resets: dict[str, Any] | None = RESETS,
    methods: dict[str, Any] = METHODS,
) -> dict[str, dict[str, int]]:
    """The corrections of each method's trials."""
    environment = {"kind": "classic", "task": "CartPole-v1", "num_envs": 4, **(env or {})}
    data = {
        "name": "tiny",
        "environments": [environment | ({"scenario": scenario} if scenario else {})],
        "agent": agent or {"kind": "dqn", "network": MLP},
        "methods": methods,
        "resets": resets,
        "seeds": 1,
        "budget_steps": 10_000,
        "evaluation": {"every_steps": 1_000, "episodes": 5},
    }
    plan = make_plan(from_resolved({name: value for name, value in data.items() if value is not None}, "test"))
    return {trial.method: trial.settings.get("corrections", {}) for trial in plan.trials}


def shuffled(*at: float, **settings: Any) -> dict[str, Any]:
    return {"kind": "observation_permutation", "at": list(at), **settings}


def test_most_trials_carry_none_and_keep_their_ids() -> None:
    assert corrected() == {"none": {}, "fire": {}}


@pytest.mark.parametrize("rule", ["keep", "clear"])
def test_a_change_between_restarts_may_fall_on_an_episodes_end(rule: str) -> None:
    assert corrected(scenario=shuffled(0.3, replay=rule)) == {name: {"ended_episodes": 1} for name in METHODS}


def test_a_change_at_the_fork_finds_new_episodes() -> None:
    assert corrected(scenario=shuffled(0.5)) == {"none": {}, "fire": {}}


def test_each_method_forks_at_a_step_of_its_own() -> None:
    methods = {"early": {"kind": "fire", "at": [0.5]}, "late": {"kind": "fire", "at": [0.6]}}
    found = corrected(scenario=shuffled(0.5), resets=None, methods=methods)
    assert found == {"early": {}, "late": {"ended_episodes": 1}}


def test_rllib_leaves_an_episode_that_is_over_by_itself() -> None:
    agent = {"kind": "rllib", "algorithm": "DQN"}
    assert corrected(env={"num_envs": 1}, scenario=shuffled(0.3), agent=agent) == {"none": {}, "fire": {}}


@pytest.mark.parametrize(("num_envs", "expected"), [(4, {"shared_exploration": 1}), (1, {})])
def test_shared_exploration_is_another_one_where_there_are_several_environments(
    num_envs: int, expected: dict[str, int]
) -> None:
    agent = {"kind": "dqn", "network": MLP, "exploration": "shared"}
    assert corrected(env={"num_envs": num_envs}, agent=agent) == {"none": expected, "fire": expected}


def test_targets_of_fresh_resets_by_the_same_operation_were_drawn_apart() -> None:
    same = {"target": "same_operation"}
    methods = {
        "fresh": {"kind": "full_reset", **same},
        "original": {"kind": "full_reset", "init_source": "original", **same},
        "sync": {"kind": "full_reset"},
        "drawn": {"kind": "shrink_perturb", **same},
        "not_drawn": {"kind": "fire", **same},
        "pair": [{"kind": "fire"}, {"kind": "last_layers", **same}],
    }
    touched = {name for name, found in corrected(methods=methods).items() if found}
    assert touched == {"fresh", "drawn", "pair"}


def test_an_actor_has_no_target_to_draw_for() -> None:
    agent = {"kind": "sac", "actor_network": MLP, "critic_network": MLP}
    methods = {
        name: [{"kind": "full_reset", "target": "same_operation", "networks": name}] for name in ("actor", "critic1")
    }
    found = corrected(env={"task": "Pendulum-v1"}, agent=agent, methods=methods)
    assert found == {"actor": {}, "critic1": {"same_operation": 1}}


@pytest.mark.parametrize(
    ("batch_rows", "rule", "is_touched"),
    [(32, "clear", True), (32, "keep", False), (4, "clear", True)],
)
def test_updates_began_early_after_a_clear_with_stacked_frames(batch_rows: int, rule: str, is_touched: bool) -> None:
    env = {"kind": "atari", "task": "Asterix"}
    agent = {"kind": "dqn", "network": {"kind": "nature_cnn"}, "batch_rows": batch_rows}
    expected = {"first_update_after_clear": 1} if is_touched else {}
    found = corrected(env=env, scenario=shuffled(0.5, replay=rule), agent=agent)
    assert found == {"none": expected, "fire": expected}


def test_with_single_frames_only_a_batch_of_one_step_was_drawn_too_early() -> None:
    scenario = shuffled(0.5)
    for batch_rows, expected in ((4, {"first_update_after_clear": 1}), (5, {}), (8, {}), (32, {})):
        agent = {"kind": "dqn", "network": MLP, "batch_rows": batch_rows}
        assert corrected(scenario=scenario, agent=agent)["none"] == expected


def test_a_clear_before_learning_starts_delays_no_update() -> None:
    env = {"kind": "atari", "task": "Asterix"}
    agent = {"kind": "dqn", "network": {"kind": "nature_cnn"}, "learning_starts_steps": 3_000}
    assert "first_update_after_clear" not in corrected(env=env, scenario=shuffled(0.2), agent=agent)["none"]


def test_gradients_of_rllib_agents_with_targets_over_several_steps_were_of_others() -> None:
    for n_step, expected in ((1, {}), (3, {"probe_targets": 1})):
        config = {"n_step": n_step, "rollout_fragment_length": 4}
        agent = {"kind": "rllib", "algorithm": "DQN", "config": config}
        assert corrected(env={"num_envs": 1}, agent=agent)["none"] == expected
