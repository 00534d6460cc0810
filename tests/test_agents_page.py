"""docs/agents.md: its files are read as they stand, and its agents are what their sources say."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import agent_table
from benchmarks.agent_rows import ROWS, SOURCES
from plasticbench.agents import dqn, ppo, sac
from plasticbench.learning.networks import minatar_cnn, mlp, nature_cnn
from plasticbench.learning.optimizers import rmsprop
from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.definition.yaml_text import parse_yaml

PAGE = (Path(__file__).parents[1] / "docs" / "agents.md").read_text(encoding="utf-8")
FILES = [parse_yaml(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


def agents_of(task: str, *kinds: str) -> list[Any]:
    """The agents of all files of the page that name a task; of these kinds, or of those with a replay."""
    found = []
    for data in FILES:
        is_asked_for = data["agent"]["kind"] in (kinds or ("dqn", "sac"))
        if is_asked_for and any(environment["task"] == task for environment in data["environments"]):
            complete = {"name": "page", "methods": {"none": {"kind": "none"}}, "seeds": 1, **data}
            benchmark = from_dict(complete | {"evaluation": {"every_steps": 10_000, "episodes": 1}})
            found.append(benchmark.methods[0].agent_config)
    return found


def agent_of(row: str) -> Any:
    return from_dict(ROWS[row].benchmark(row)).methods[0].agent_config


def torch_mlp(*hidden: int) -> mlp.Config:
    return mlp.Config(hidden=hidden, initializer="torch_default")


# -- what the sources say, under their own names -----------------------------------------------------------------------

CLEANRL_DQN = {
    "learning_rate": 2.5e-4, "buffer_size": 10000, "gamma": 0.99, "tau": 1.0, "target_network_frequency": 500,
    "batch_size": 128, "start_e": 1, "end_e": 0.05, "exploration_fraction": 0.5, "learning_starts": 10000,
    "train_frequency": 10,
}  # fmt: skip
CLEANRL_ATARI = {
    "learning_rate": 1e-4, "buffer_size": 1000000, "gamma": 0.99, "tau": 1.0, "target_network_frequency": 1000,
    "batch_size": 32, "start_e": 1, "end_e": 0.01, "exploration_fraction": 0.10, "learning_starts": 80000,
    "train_frequency": 4,
}  # fmt: skip
ZOO = {
    "CartPole-v1": {
        "learning_rate": 2.3e-3, "batch_size": 64, "buffer_size": 100000, "learning_starts": 1000, "gamma": 0.99,
        "target_update_interval": 10, "train_freq": 256, "gradient_steps": 128, "exploration_fraction": 0.16,
        "exploration_final_eps": 0.04,
    },
    "MountainCar-v0": {
        "learning_rate": 4e-3, "batch_size": 128, "buffer_size": 10000, "learning_starts": 1000, "gamma": 0.98,
        "target_update_interval": 600, "train_freq": 16, "gradient_steps": 8, "exploration_fraction": 0.2,
        "exploration_final_eps": 0.07,
    },
    "LunarLander-v3": {
        "learning_rate": 6.3e-4, "batch_size": 128, "buffer_size": 50000, "learning_starts": 0, "gamma": 0.99,
        "target_update_interval": 250, "train_freq": 4, "gradient_steps": -1, "exploration_fraction": 0.12,
        "exploration_final_eps": 0.1,
    },
}  # fmt: skip
ZOO["Acrobot-v1"] = ZOO["LunarLander-v3"]


def cleanrl(source: dict[str, Any], network: Any) -> dqn.Config:
    return dqn.Config(
        network=network,
        learning_rate=source["learning_rate"],
        batch_rows=source["batch_size"],
        capacity_transitions=source["buffer_size"],
        discount=source["gamma"],
        loss="squared",  # F.mse_loss
        target_tau=source["tau"],
        target_period_steps=source["target_network_frequency"],
        replay_ratio=1 / source["train_frequency"],
        learning_starts_steps=source["learning_starts"],
        update_clock="before_step",  # global_step of the loop
        epsilon_start=float(source["start_e"]),
        epsilon_end=source["end_e"],
        epsilon_decay_fraction=source["exploration_fraction"],
        epsilon_decay_begins="first_step",
        evaluation_epsilon=source["end_e"],
    )


def zoo(source: dict[str, Any]) -> dqn.Config:
    steps = source["train_freq"] if source["gradient_steps"] == -1 else source["gradient_steps"]
    return dqn.Config(
        network=torch_mlp(256, 256),
        learning_rate=source["learning_rate"],
        batch_rows=source["batch_size"],
        capacity_transitions=source["buffer_size"],
        discount=source["gamma"],
        loss="huber",  # F.smooth_l1_loss
        max_gradient_norm=10.0,
        target_period_steps=source["target_update_interval"],
        target_moves="before_updates",
        replay_ratio=steps / source["train_freq"],
        update_period_steps=source["train_freq"],
        learning_starts_steps=max(source["learning_starts"], 1),
        warm_up_actions="uniform",
        epsilon_end=source["exploration_final_eps"],
        epsilon_decay_fraction=source["exploration_fraction"],
        epsilon_decay_begins="first_step",
        evaluation_epsilon=0.0,
    )


@pytest.mark.parametrize("task", ZOO)
def test_the_zoos_classic_settings_are_written_down(task: str) -> None:
    assert zoo(ZOO[task]) in agents_of(task)


def test_cleanrls_dqns_are_written_down() -> None:
    assert cleanrl(CLEANRL_DQN, torch_mlp(120, 84)) in agents_of("CartPole-v1")
    assert agents_of("Breakout") == [cleanrl(CLEANRL_ATARI, nature_cnn.Config(initializer="torch_default"))]


def test_minatars_and_dopamines_dqn_are_written_down() -> None:
    minatar = dqn.Config(
        network=minatar_cnn.Config(channels=16, hidden_units=128, initializer="torch_default"),
        optimizer=rmsprop.Config(decay=0.95, centered=True, eps=0.01),  # GRAD_MOMENTUM reaches no optimizer
        learning_rate=0.00025,
        batch_rows=32,
        capacity_transitions=100_000,
        target_period_updates=1_000,
        learning_starts_steps=5_000,
        update_clock="before_step",
        epsilon_end=0.1,
        epsilon_decay_fraction=100_000 / 5_000_000,
        evaluation_epsilon=0.1,
    )
    assert agents_of("Breakout-MinAtar") == [minatar]
    dopamine = dqn.Config(
        network=nature_cnn.Config(initializer="xavier_uniform"),
        optimizer=rmsprop.Config(decay=0.95, centered=True, eps=1e-5, eps_place="inside_root"),
        learning_rate=0.00025,
        capacity_transitions=1_000_000,
        target_period_steps=8_000,
        replay_ratio=1 / 4,
        learning_starts_steps=20_000,
        epsilon_end=0.01,
        epsilon_decay_fraction=250_000 / 50_000_000,
    )
    assert agents_of("Pong") == [dopamine]


def test_the_two_sacs_are_written_down() -> None:
    cleanrl_sac = sac.Config(
        actor_network=torch_mlp(256, 256),
        critic_network=torch_mlp(256, 256),
        learning_rate=3e-4,
        critic_learning_rate=1e-3,
        temperature_learning_rate=1e-3,
        learning_starts_steps=5_000,
        update_order="cleanrl",
        policy_period_updates=2,
        update_clock="before_step",
        log_std_min=-5.0,
        log_std_max=2.0,
    )
    assert agents_of("Hopper-v4") == [cleanrl_sac]
    stable_baselines3 = replace(
        cleanrl_sac,
        critic_learning_rate=None,
        temperature_learning_rate=3e-4,
        temperature_objective="log_alpha",
        learning_starts_steps=100,
        update_order="stable_baselines3",
        policy_period_updates=1,
        update_clock="after_step",
        log_std_bound="clipped",
        log_std_min=-20.0,
    )
    assert agents_of("HalfCheetah-v4") == [stable_baselines3]


CLEANRL_PPO = {
    "ppo": {
        "learning_rate": 2.5e-4, "num_envs": 4, "num_steps": 128, "anneal_lr": True, "gamma": 0.99, "gae_lambda": 0.95,
        "num_minibatches": 4, "update_epochs": 4, "norm_adv": True, "clip_coef": 0.2, "clip_vloss": True,
        "ent_coef": 0.01, "vf_coef": 0.5, "max_grad_norm": 0.5, "target_kl": None,
    },
    "ppo_continuous_action": {
        "learning_rate": 3e-4, "num_envs": 1, "num_steps": 2048, "anneal_lr": True, "gamma": 0.99, "gae_lambda": 0.95,
        "num_minibatches": 32, "update_epochs": 10, "norm_adv": True, "clip_coef": 0.2, "clip_vloss": True,
        "ent_coef": 0.0, "vf_coef": 0.5, "max_grad_norm": 0.5, "target_kl": None,
    },
    "ppo_atari": {
        "learning_rate": 2.5e-4, "num_envs": 8, "num_steps": 128, "anneal_lr": True, "gamma": 0.99, "gae_lambda": 0.95,
        "num_minibatches": 4, "update_epochs": 4, "norm_adv": True, "clip_coef": 0.1, "clip_vloss": True,
        "ent_coef": 0.01, "vf_coef": 0.5, "max_grad_norm": 0.5, "target_kl": None,
    },
}  # fmt: skip
TANH = mlp.Config(hidden=(64, 64), initializer="orthogonal", activation="tanh")
OWN_PPO: dict[str, tuple[str, dict[str, Any]]] = {
    "ppo": ("CartPole-v1", {"evaluation_policy": "sampled"}),
    "ppo_continuous_action": ("Hopper-v4", {"observation_norm": "running", "reward_norm": "running"}),
    "ppo_atari": (
        "Breakout",
        {"trunk": "shared", "network": nature_cnn.Config(initializer="orthogonal"), "evaluation_policy": "sampled"},
    ),
}


@pytest.mark.parametrize("file", CLEANRL_PPO)
def test_cleanrls_ppos_are_written_down(file: str) -> None:
    source, (task, own) = CLEANRL_PPO[file], OWN_PPO[file]
    written = ppo.Config(
        **{"network": TANH, "critic_network": TANH, **own},
        learning_rate=source["learning_rate"],
        learning_rate_schedule="linear" if source["anneal_lr"] else "constant",
        adam_eps=1e-5,
        rollout_steps=source["num_envs"] * source["num_steps"],
        epochs=source["update_epochs"],
        minibatches=source["num_minibatches"],
        discount=source["gamma"],
        gae_lambda=source["gae_lambda"],
        ratio_clip=source["clip_coef"],
        value_clip=source["clip_coef"] if source["clip_vloss"] else None,
        value_coefficient=source["vf_coef"],
        entropy_coefficient=source["ent_coef"],
        advantage_norm="minibatch" if source["norm_adv"] else "none",
        max_gradient_norm=source["max_grad_norm"],
        target_kl=source["target_kl"],
    )
    assert agents_of(task, "ppo") == [written]


def test_stable_baselines3s_defaults_are_those_that_the_page_rests_on() -> None:
    import inspect

    sb3 = pytest.importorskip("stable_baselines3")
    defaults = {
        name: {key: one.default for key, one in inspect.signature(kind.__init__).parameters.items()}
        for name, kind in (("dqn", sb3.DQN), ("sac", sb3.SAC))
    }
    expected = {"max_grad_norm": 10, "tau": 1.0, "exploration_initial_eps": 1.0}
    assert {name: defaults["dqn"][name] for name in expected} == expected
    expected = {
        "learning_rate": 3e-4, "buffer_size": 1_000_000, "learning_starts": 100, "batch_size": 256, "tau": 0.005,
        "gamma": 0.99, "train_freq": 1, "gradient_steps": 1, "ent_coef": "auto", "target_update_interval": 1,
    }  # fmt: skip
    assert {name: defaults["sac"][name] for name in expected} == expected


@pytest.mark.parametrize(("module", "preset"), [(m, name) for m in (dqn, ppo, sac) for name in m.PRESETS])
def test_every_preset_stands_on_the_page(module: Any, preset: str) -> None:
    assert f"preset: {preset}" in PAGE


def test_the_table_has_the_rows_that_the_command_knows() -> None:
    page_rows = PAGE.split(agent_table.HEADER + "\n")[1].split("\n\n")[0].splitlines()
    assert [row.split(" | ")[0].removeprefix("| ") for row in page_rows] == list(ROWS)
    for name, row in ROWS.items():
        assert f"{row.task} | {row.source} | {row.budget_steps:,} x {row.seeds} |" in page_rows[list(ROWS).index(name)]
    assert all(f"]({url})" in PAGE for url in SOURCES.values())


@pytest.mark.parametrize("name", ["cleanrl_cartpole", "zoo_cartpole", "zoo_mountaincar", "zoo_lunarlander"])
def test_rows_are_the_experiments_of_the_page(name: str) -> None:
    assert agent_of(name) in agents_of(ROWS[name].task)


@pytest.mark.parametrize(("name", "task"), [("ppo_cartpole", "CartPole-v1"), ("ppo_acrobot", "CartPole-v1")])
def test_rows_of_ppo_are_the_experiments_of_the_page(name: str, task: str) -> None:
    assert agents_of(task, "ppo") == [agent_of(name)]
    for row in ("ppo_hopper", "ppo_pendulum"):
        assert agents_of(ROWS[row].task, "ppo") == [agent_of(row)]


def test_sac_beside_stable_baselines3_has_its_defaults() -> None:
    assert [agent_of("sac_hopper")] == agents_of("HalfCheetah-v4")
    assert agent_of("sac_pendulum") == agent_of("sac_hopper")
    assert ROWS["sac_hopper"].peer == {"algorithm": "SAC"}


@pytest.mark.parametrize("task", [task for task in ZOO if task != "Acrobot-v1"])
def test_stable_baselines3_is_given_the_zoos_settings(task: str) -> None:
    row = next(row for row in ROWS.values() if (row.task, row.source) == (task, "RL Zoo") and row.peer is not None)
    assert row.peer == {"algorithm": "DQN", "policy_kwargs": {"net_arch": [256, 256]}, **ZOO[task]}
