"""What a benchmark file may say of an RLlib agent, and what it is told otherwise; none of it starts Ray."""

import subprocess
import sys

import pytest
from small_runs import small

from plasticbench.agents.rllib import Config
from plasticbench.envs import classic, minatar
from plasticbench.platform.definition.reading import BenchmarkError, from_dict
from plasticbench.platform.planning.plan import make_plan

AGENT = {"kind": "rllib", "algorithm": "DQN", "config": {"rollout_fragment_length": 4}}
CARTPOLE = {"kind": "classic", "task": "CartPole-v1"}


def rllib(agent=AGENT, **changes):
    return small(**{"environments": [CARTPOLE], "agent": agent, "budget_steps": 4_000} | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_env_runners": 2}, "agent.config.num_env_runners: cannot be set: every step is taken in the trial's own"),
        ({"env_to_module_connector": "x"}, "agent.config.env_to_module_connector: cannot be set: it changes what"),
        ({"torch_compile_learner": True}, "agent.config.torch_compile_learner: cannot be set: compiled modules"),
        ({"dueling": True}, "agent.config.dueling: cannot be set: two streams have no single output layer"),
        ({"noisy": True}, "agent.config.noisy: cannot be set"),
        ({"num_atoms": 51}, "agent.config.num_atoms: cannot be set"),
        ({"lr": [[0, 1e-3], [1000, 1e-4]]}, "agent.config.lr: must be one number above 0"),
        ({"gamma": 1.5}, "agent.config.gamma: must be one number above 0 and at most 1, got 1.5"),
        ({"tau": 7}, "agent.config.tau: must be one number above 0 and at most 1, got 7"),
        ({"lr": 0}, "agent.config.lr: must be one number above 0"),
        ({"lr": float("inf")}, "agent.config.lr: must be one number above 0"),
        ({"epsilon": []}, "agent.config.epsilon: must be a number from 0 to 1, or [[0, first], [step, last], ...]"),
        ({"epsilon": [[0, 1.0]]}, "agent.config.epsilon: must be"),
        ({"epsilon": [[5, 1.0], [100, 0.1]]}, "agent.config.epsilon: must be"),
        ({"epsilon": [[0, 1.0], [100, 0.1], [50, 0.2]]}, "agent.config.epsilon: must be"),
        ({"epsilon": [[0, 1.0], ["100", 0.1]]}, "agent.config.epsilon: must be"),
        ({"lerning_rate": 1}, "agent.config.lerning_rate: no setting that resets"),
        ({"gama": 0.9}, "Did you mean 'gamma'"),
        ({"replay_buffer_config": {"type": "PrioritizedEpisodeReplayBuffer"}}, "must be {capacity: transitions} alone"),
        (
            {"training_intensity": 4, "rollout_fragment_length": 4},
            "agent.config.training_intensity: must make at least",
        ),
        ({"n_step": 8, "rollout_fragment_length": 4}, "agent.config.n_step: must be at most rollout_fragment_length"),
        ({"actor_lr": 1e-3}, "agent.config.actor_lr: no setting that"),
    ],
)
def test_a_setting_that_would_fight_a_treatment_is_refused_by_name(changes, message):
    with pytest.raises(BenchmarkError) as error:
        from_dict(rllib(AGENT | {"config": changes}))
    assert message in str(error.value)


@pytest.mark.parametrize("epsilon", [0.1, [[0, 1.0], [1.0e4, 0.05]], [[0, 1], [100, 1], [100, 0.1]]])
def test_an_epsilon_that_rllib_reads_is_taken(epsilon):
    assert Config(config={"epsilon": epsilon}).config["epsilon"] == epsilon


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"use_lstm": True}, "agent.model.use_lstm: cannot be set"),
        (
            {"fcnet_kernel_initializer": "xavier_uniform_"},
            "cannot be set: fresh weights are drawn as PyTorch draws them",
        ),
        ({"fcnet_hiddens": 64}, "agent.model.fcnet_hiddens: must be a list of widths, got 64"),
        ({"conv_filters": [[16, 4]]}, "agent.model.conv_filters: must be a list of [channels, kernel, stride]"),
        ({"fcnet_activation": "gelu"}, "agent.model.fcnet_activation: must be one of relu, tanh"),
    ],
)
def test_a_network_that_resets_do_not_know_is_refused(model, message):
    with pytest.raises(BenchmarkError) as error:
        from_dict(rllib(AGENT | {"model": model}))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"environments": [CARTPOLE | {"num_envs": 2}]}, "environments.0.num_envs: must be at most 1 for agent"),
        ({"environments": [{"kind": "classic", "task": "Pendulum-v1"}]}, "RLlib's DQN needs discrete actions. Choose"),
        (
            {"budget_steps": 1_000},
            "agent.config.num_steps_sampled_before_learning_starts: must be less than the budget of 1000 steps",
        ),
        ({"budget_steps": 4_002}, "budget_steps: must be a multiple of the 4 steps that the agent of 'none' takes"),
        ({"execution": {"device": "cuda", "num_gpus": 1.0}}, "execution.device: must be cpu for agent kind 'rllib'"),
        ({"agent": AGENT | {"num_learners": 2}}, "agent.num_learners"),
        ({"agent": AGENT | {"algorithm": "PPO"}}, "agent.algorithm"),
    ],
)  # fmt: skip
def test_what_such_an_agent_cannot_do_is_said_before_anything_starts(changes, message):
    with pytest.raises(BenchmarkError) as error:
        from_dict(rllib(**changes))
    assert message in str(error.value)


def test_a_temperature_rule_is_for_sac_alone():
    assert Config(algorithm="SAC").has_temperature
    methods = {"m": {"kind": "full_reset", "temperature": "reset"}}
    with pytest.raises(BenchmarkError, match="temperature: this setting has no effect"):
        from_dict(rllib(methods=methods))


def test_a_task_that_changes_between_two_looks_of_an_agent_is_refused():
    scenario = {"kind": "observation_permutation", "at": [0.50025]}
    mixed = {"none": {"kind": "none", "agent": {"kind": "dqn"}}, "fire": {"kind": "fire"}}
    environment = CARTPOLE | {"scenario": scenario}
    with pytest.raises(BenchmarkError, match=r"must change at steps that are multiples of 1 and of 4, .* \[2001\]"):
        from_dict(rllib(environments=[environment], methods=mixed))
    from_dict(rllib(environments=[environment | {"scenario": scenario | {"at": [0.5]}}], methods=mixed))


def test_every_trial_is_a_process_of_its_own_that_stops_where_its_fragments_end():
    plan = make_plan(from_dict(rllib(agent=AGENT | {"num_learners": 1}, resets={"at": [0.5003]}, seeds=3)))
    assert all(len(segment.members) == 1 for segment in plan.segments)
    assert {(segment.from_step, segment.to_step) for segment in plan.segments} == {(0, 2004), (2004, 4000)}
    assert {segment.num_cpus for segment in plan.segments} == {2}
    assert all(segment.memory_bytes > 1.4e9 for segment in plan.segments)
    assert {trial.reset_steps for trial in plan.trials if trial.method == "fire"} == {(2004,)}


def test_updates_per_round_follow_rllibs_rule_of_training_intensity():
    def updates(**config):
        return Config(algorithm="DQN", config=config).updates_per_round

    assert updates(rollout_fragment_length=4) == 1
    assert updates(rollout_fragment_length=4, training_intensity=8.0, train_batch_size_per_learner=32) == 1
    assert updates(rollout_fragment_length=4, training_intensity=32.0, train_batch_size_per_learner=32) == 4
    assert updates(training_intensity=64.0) == 2


def test_pictures_are_for_dqn():
    from plasticbench.agents.rllib import check

    check(Config(algorithm="DQN"), minatar.Config(task="Asterix-MinAtar").spec)
    with pytest.raises(ValueError, match="Choose algorithm SAC"):
        check(Config(algorithm="DQN"), classic.Config(task="Pendulum-v1").spec)


def test_reading_and_planning_such_a_benchmark_imports_neither_ray_nor_gymnasium():
    code = "import sys, plasticbench.agents.rllib; assert not {'ray', 'gymnasium'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
