"""RLlib's own algorithms under the platform's resets, probes, clock and checkpoints."""

import copy
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import facts, prepare, run_all, small
from treated import part

from plasticbench.modules import reset
from plasticbench.platform.training.segment import SegmentRun
from plasticbench.seeding import derive_seed

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("own_ray")]

DQN = {
    "kind": "rllib",
    "algorithm": "DQN",
    "config": {
        "rollout_fragment_length": 4,
        "num_steps_sampled_before_learning_starts": 40,
        "target_network_update_freq": 60,
        "epsilon": [[0, 1.0], [200, 0.1]],
        "replay_buffer_config": {"capacity": 150},
    },
    "model": {"fcnet_hiddens": [16, 16]},
}
SAC = {
    "kind": "rllib",
    "algorithm": "SAC",
    "config": {
        "rollout_fragment_length": 4,
        "num_steps_sampled_before_learning_starts": 40,
        "train_batch_size_per_learner": 32,
        "initial_alpha": 0.5,
        "alpha_lr": 0.01,
        "replay_buffer_config": {"capacity": 500},
    },
    "model": {"fcnet_hiddens": [16, 16], "fusionnet_hiddens": [16]},
}
TASKS = {"DQN": "CartPole-v1", "SAC": "Pendulum-v1"}


def benchmark(agent=DQN, **changes):
    scenario = {"kind": "observation_permutation", "at": [0.75], "replay": "clear"}
    environment = {"kind": "classic", "task": TASKS[agent["algorithm"]], "scenario": scenario}
    changes = {"seeds": 1, "environments": [environment], "methods": {"fire": {"kind": "fire"}}} | changes
    return small(agent=agent, budget_steps=240, resets={"at": [0.5]}, **changes) | {
        "evaluation": {"every_steps": 80, "episodes": 1},
        "probes": {"every_steps": 80, "batch_rows": 32, "kinds": ["dormant_ratio", "gradient_norm", "dfi"]},
        "records": {"every_steps": 20},
    }


def run_with_interruptions(path: Path, data, every_rounds: int):
    """Stops every segment again and again; each part builds everything anew from the last commit."""
    plan = prepare(path, data)
    for segment in plan.segments:
        while True:
            rounds = count(1)
            if SegmentRun(path, segment.id).run(lambda rounds=rounds: next(rounds) % every_rounds == 0):
                break
    return plan


@pytest.mark.parametrize("agent", [DQN, SAC, DQN | {"num_learners": 1}], ids=["DQN", "SAC", "remote DQN"])
def test_a_run_that_is_interrupted_again_and_again_equals_one_that_is_not(tmp_path, agent):
    data = benchmark(agent)
    whole = run_all(tmp_path / "whole", data)
    parts = run_with_interruptions(tmp_path / "parts", data, every_rounds=13)
    expected, found = facts(tmp_path / "whole", whole), facts(tmp_path / "parts", parts)
    assert len(expected["fire", 0]) > 50
    assert expected == found


def test_rllibs_own_loop_with_the_same_chance_trains_the_same_network():
    from benchmarks.rllib_beside import alone, greatest_difference, within

    ours, theirs = within(DQN, 3, 400), alone(DQN, 3, 400, iteration_steps=4)
    assert len(ours.episodes) > 5
    assert [value for _, value in ours.episodes] == [value for _, value in theirs.episodes]
    assert greatest_difference(ours.weights, theirs.weights) == 0
    assert greatest_difference(ours.weights, within(DQN, 4, 400).weights) > 0


@pytest.fixture(params=[(DQN, 0), (SAC, 0), (DQN, 1)], ids=["DQN", "SAC", "remote DQN"])
def trained(request, tmp_path):
    """An agent that has learned, halfway through its budget."""
    agent, num_learners = request.param
    plan = prepare(tmp_path / "run", benchmark(agent | {"num_learners": num_learners}))
    run = SegmentRun(tmp_path / "run", plan.segments[0].id)
    for _ in run._trainer.advance():
        pass
    yield run._trainer
    run._close()


def learner_state(agent):
    from plasticbench.agents.rllib import learner

    return learner.ask(agent._algorithm, learner.export)[0]


def treat(agent, treatment, batch=None):
    """The event of a treatment that was chosen late."""
    agent._parts = [treatment]
    return agent.treat([0], 0, 120, batch)


def test_no_folder_of_results_is_left_behind(trained):
    folder = Path(trained.agent._algorithm.logdir)
    assert not folder.exists()
    assert Path.home() not in folder.parents


@pytest.mark.parametrize("kind", ["full_reset", "shrink_perturb", "fire"])
def test_after_a_reset_the_runner_acts_with_the_learners_weights(trained, kind):
    agent = trained.agent
    before = learner_state(agent)
    treat(agent, part(kind), agent.probe_batch(np.random.default_rng(0).random((1, 8))))
    after = learner_state(agent)
    shared = {name: value for name, value in after.items() if f"{name}".startswith("module/")}
    runner = agent._runner.module.state_dict()
    assert runner
    assert any(not torch.equal(before[name], after[name]) for name in shared)
    for name, value in runner.items():
        torch.testing.assert_close(value, after[f"module/{name}"], rtol=0, atol=0)
    assert any(not torch.equal(value, before[f"module/{name}"]) for name, value in runner.items())


@pytest.mark.parametrize("trained", [(DQN, 0), (SAC, 0)], indirect=True, ids=["DQN", "SAC"])
@pytest.mark.parametrize("kind", ["full_reset", "fire", "last_layers"])
def test_a_reset_does_to_each_network_what_it_does_to_a_plain_module(trained, kind):
    from plasticbench.agents.rllib import learner

    own = trained.agent._algorithm.learner_group._learner
    networks = {one.name: one for one in learner.trained(own)}
    # Optimizers hold the very parameters, so a network is copied together with its optimizer.
    copies = {name: copy.deepcopy((one.online, one.optimizer, one.target)) for name, one in networks.items()}
    learner.treat(own, part=part(kind), seed=7, initial=None, obs=None)
    assert networks.keys() == ({"q"} if len(networks) == 1 else {"actor", "critic1", "critic2"})
    for name, (online, optimizer, target) in copies.items():
        reset(online, kind, optimizer=optimizer, target=target, seed=derive_seed(7, name))
        one = networks[name]
        pairs = [(one.online, online)] + ([(one.target, target)] if target is not None else [])
        for found, expected in pairs:
            for key, value in expected.state_dict().items():
                torch.testing.assert_close(found.state_dict()[key], value, rtol=0, atol=0)
        for own, theirs in zip(one.optimizer.state.values(), optimizer.state.values(), strict=True):
            assert all(torch.equal(own[key], theirs[key]) for key in own)


def test_a_full_reset_starts_the_temperature_anew(tmp_path):
    plan = prepare(tmp_path / "run", benchmark(SAC))
    run = SegmentRun(tmp_path / "run", plan.segments[0].id)
    for _ in run._trainer.advance():
        pass
    before = learner_state(run._trainer.agent)
    treat(run._trainer.agent, part("fire"))
    kept = learner_state(run._trainer.agent)
    treat(run._trainer.agent, part("full_reset", temperature="reset"))
    anew = learner_state(run._trainer.agent)
    assert before["log_alpha"] != np.log(np.float32(0.5))
    assert kept["log_alpha"] == before["log_alpha"]
    assert anew["log_alpha"].item() == pytest.approx(np.log(0.5))
    alpha = {name: value for name, value in anew.items() if name.startswith("optimizer/alpha/")}
    assert len(alpha) == 3
    assert all(value.abs().max() == 0 for value in alpha.values())
    run._close()


@pytest.mark.parametrize("agent", [DQN, SAC], ids=["DQN", "SAC"])
def test_probes_and_evaluation_leave_no_trace_in_the_training(tmp_path, agent):
    often = benchmark(agent)
    seldom = often | {"evaluation": {"every_steps": 240, "episodes": 1}, "probes": {"kinds": []}}

    def losses(name, data):
        found = facts(tmp_path / name, run_all(tmp_path / name, data))
        return [fact for fact in found["fire", 0] if fact[1].startswith(("loss/", "train/"))]

    assert losses("often", often) == losses("seldom", seldom) != []


def test_pictures_reach_the_networks_scaled_and_a_probe_sees_their_convolutions(tmp_path):
    agent = DQN | {"model": {"conv_filters": [[4, 3, 1], [4, 3, 2]], "fcnet_hiddens": [16]}}
    environments = [{"kind": "minatar", "task": "Asterix-MinAtar"}]
    data = benchmark(agent, environments=environments) | {"budget_steps": 120}
    found = facts(tmp_path, run_all(tmp_path, data))["fire", 0]
    layers = {name.split("/")[-1] for _, name, _ in found if name.startswith("plasticity/online/gradient_norm/")}
    assert sum("cnn" in layer for layer in layers) == 2
    assert any(name == "reset/after/online/dfi" for _, name, _ in found)


def test_a_replay_comes_back_row_by_row_with_what_was_evicted_gone():
    import gymnasium
    from ray.rllib.env.single_agent_episode import SingleAgentEpisode

    from plasticbench.agents.rllib.replay import RowReplay

    def part(id_, start, stop, terminated=False):
        obs = [np.full(2, 10 * int(id_) + t, np.float32) for t in range(start, stop + 1)]
        actions, rewards = [np.int64(t % 2) for t in range(start, stop)], [np.float32(t) for t in range(start, stop)]
        space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32), gymnasium.spaces.Discrete(2)
        return SingleAgentEpisode(
            id_=id_, observations=obs, actions=actions, rewards=rewards, infos=[{}] * len(obs), terminated=terminated,
            t_started=start, len_lookback_buffer=0, observation_space=space[0], action_space=space[1],
        ).to_numpy()  # fmt: skip

    def new():
        replay = RowReplay(6)
        replay.spaces = (gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32), gymnasium.spaces.Discrete(2))
        return replay

    replay = new()
    replay.add([part("1", 0, 3, terminated=True), part("2", 0, 2)])
    chunks = [(0, replay.export(0))]
    replay.add([part("2", 2, 4, terminated=True), part("3", 0, 1)])  # 8 rows: the first episode leaves
    assert (replay.rows, replay.oldest_row) == (8, 3)
    chunks.append((4, replay.export(4)))
    twin = new()
    twin.last_obs = replay.last_observations()
    twin.restore(replay.meta(), iter(chunks), (0,))
    assert (twin.rows, twin.oldest_row, twin._indices) == (8, 3, replay._indices)
    uniforms = (np.arange(5) + 0.5) / 5
    ours, theirs = twin.sample_rows(uniforms), replay.sample_rows(uniforms)
    for name in theirs:
        np.testing.assert_array_equal(ours[name], theirs[name])
    assert theirs["terminateds"].tolist() == [False, False, False, True, False]
    assert theirs["new_obs"][:, 0].tolist() == [21, 22, 23, 24, 31]
    for buffer in (replay, twin):
        buffer.add([part("3", 1, 2)])
        assert buffer.sample_rows(np.array([0.99]))["obs"][0, 0] == 31
    replay.clear()
    assert (len(replay), replay.oldest_row, replay.export(0).keys()) == (0, replay.rows, {"empty"})


@pytest.mark.parametrize("n_step", [1, 3])
def test_probes_see_the_transitions_that_rllib_trains_on(n_step):
    from ray.rllib.env.single_agent_episode import SingleAgentEpisode
    from ray.rllib.utils.replay_buffers.episode_replay_buffer import EpisodeReplayBuffer

    from plasticbench.agents.rllib.replay import transitions

    rng, buffer = np.random.default_rng(0), EpisodeReplayBuffer(capacity=200)
    for length, ends in ((7, {"terminated": True}), (5, {"truncated": True}), (2, {"terminated": True}), (6, {})):
        buffer.add(
            SingleAgentEpisode(
                observations=list(rng.random((length + 1, 2), np.float32)), actions=list(rng.integers(0, 2, length)),
                rewards=list(rng.random(length)), infos=[{}] * (length + 1), len_lookback_buffer=0, **ends,
            ).to_numpy()
        )  # fmt: skip
    buffer.rng = np.random.default_rng(1)
    sampled = buffer.sample(num_items=60, n_step=n_step, gamma=0.9, sample_episodes=True)
    indices = np.random.default_rng(1)
    chosen = [buffer._indices[indices.integers(len(buffer._indices))] for _ in range(60)]
    batch = transitions([(buffer.episodes[index], t) for index, t in chosen], n_step, 0.9)
    for row, episode in enumerate(sampled):
        np.testing.assert_array_equal(batch["obs"][row], episode.get_observations(0))
        np.testing.assert_array_equal(batch["new_obs"][row], episode.get_observations(-1))
        assert batch["rewards"][row] == pytest.approx(episode.get_rewards(0), rel=1e-6)
        assert batch["terminateds"][row] == episode.is_terminated
        assert batch["n_step"][row] == episode.get_extra_model_outputs("n_step", 0)


def test_dqn_learns_and_a_full_reset_dents_and_recovers_its_return(tmp_path):
    agent = {
        "kind": "rllib",
        "algorithm": "DQN",
        "config": {
            "rollout_fragment_length": 4,
            "train_batch_size_per_learner": 64,
            "lr": 1e-3,
            "target_network_update_freq": 200,
            "num_steps_sampled_before_learning_starts": 500,
            "epsilon": [[0, 1.0], [5000, 0.05]],
            "replay_buffer_config": {"capacity": 20_000},
        },
    }
    data = small(
        agent=agent,
        environments=[{"kind": "classic", "task": "CartPole-v1"}],
        methods={"m": {"kind": "full_reset"}},
        resets={"at": [0.64]},
        seeds=1,
        budget_steps=12_500,
        evaluation={"every_steps": 500, "episodes": 10, "num_envs": 10},
        probes={"kinds": []},
        records={"every_steps": 1_000},
    )
    found = facts(tmp_path, run_all(tmp_path, data))["m", 0]
    returns = {step: float(value) for step, name, value in found if name == "eval/return"}
    learned = max(returns[step] for step in (7_000, 7_500, 8_000))
    assert returns[500] < 25  # of a random policy: 22
    assert learned > 120
    assert min(returns[8_500], returns[9_000]) < learned / 3
    assert max(returns[step] for step in range(10_500, 12_501, 500)) > 120
