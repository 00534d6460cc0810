"""DQN: agreement with recordings of FIRE's code and with itself, alone and in company; it learns."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from plasticbench import plugins
from plasticbench.agents import dqn
from plasticbench.agents._replay import Batch
from plasticbench.contracts.task import BoxActions, DiscreteActions, EnvSpec, EnvStep
from plasticbench.learning.networks import mlp, nature_cnn
from plasticbench.platform.definition.parsing import to_dict
from plasticbench.seeding import Streams

CPU = torch.device("cpu")
SPEC = EnvSpec(obs_shape=(3,), obs_dtype="float32", actions=DiscreteActions(count=2))
CONFIG = dqn.Config(
    network=mlp.Config(hidden=(16, 16)),
    learning_rate=3e-3,
    batch_rows=16,
    capacity_transitions=500,
    target_period_steps=20,
    learning_starts_steps=40,
    epsilon_decay_fraction=0.3,
    epsilon_end=0.1,
)


class Corridor:
    """Walk right three times for a reward of 1, within 12 steps; one corridor per member and environment."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.place, self.age, self.ended = np.zeros(shape, int), np.zeros(shape, int), np.zeros(shape, bool)

    def obs(self) -> np.ndarray:
        return np.eye(3, dtype=np.float32)[np.minimum(self.place, 2)]

    def step(self, action: np.ndarray) -> EnvStep:
        moved = np.maximum(self.place + np.where(action == 1, 1, -1), 0)
        self.place, self.age = np.where(self.ended, 0, moved), np.where(self.ended, 0, self.age + 1)
        terminated = ~self.ended & (self.place == 3)
        truncated = ~self.ended & ~terminated & (self.age == 12)
        self.ended = terminated | truncated
        reward = terminated.astype(np.float32)
        return EnvStep(self.obs(), reward, reward, terminated, truncated)


def _train(seeds, steps, config=CONFIG, num_envs=2):
    """Trains on corridors; returns the agent and the actions ``[T, M, E]``."""
    agent = config.build(
        spec=SPEC, num_envs=num_envs, streams=[Streams(seed) for seed in seeds], budget_steps=600, device=CPU
    )
    env = Corridor((len(seeds), num_envs))
    agent.begin(env.obs())
    actions, step = [], 0
    while step < steps:
        action = agent.act(env.obs(), step)
        actions.append(action)
        agent.observe(action, env.step(action))
        step += num_envs
        for _ in agent.learn(step):
            pass
    return agent, np.array(actions)


@pytest.mark.parametrize(
    "settings", [{}, {"exploration": "shared"}, {"n_step": 3, "loss": "squared", "max_gradient_norm": 0.1}]
)
def test_a_member_alone_and_in_a_population_of_five_agree(settings):
    config = replace(CONFIG, **settings)
    together, actions = _train([3, 1, 4, 5, 9], 400, config)
    for member, seed in [(0, 3), (2, 4)]:
        alone, own_actions = _train([seed], 400, config)
        np.testing.assert_array_equal(own_actions[:, 0], actions[:, member])
        for name, parameter in alone.q.online.parameters.items():
            torch.testing.assert_close(parameter[0], together.q.online.parameters[name][member], rtol=1e-4, atol=1e-6)


def test_two_trainings_agree_bit_for_bit():
    first, first_actions = _train([0, 1], 300)
    second, second_actions = _train([0, 1], 300)
    assert torch.equal(first.q.online.flat, second.q.online.flat)
    np.testing.assert_array_equal(first_actions, second_actions)


def _share_of_steps_where_all_act_alike(exploration, epsilon):
    spec = EnvSpec(obs_shape=(3,), obs_dtype="float32", actions=DiscreteActions(count=9))
    config = replace(CONFIG, exploration=exploration, epsilon_start=epsilon, epsilon_end=epsilon)
    agent = config.build(spec=spec, num_envs=4, streams=[Streams(0), Streams(1)], budget_steps=600, device=CPU)
    obs = np.random.default_rng(0).random((2, 4, 3), np.float32)
    greedy = agent.act_in_evaluation(obs, np.ones((2, 4, 2)))
    actions = np.array([agent.act(obs, 0) for _ in range(4_000)])
    return (actions == actions[:, :, :1]).all(axis=2).mean(), (actions == greedy).all(axis=2).mean()


def test_environments_that_share_exploration_explore_by_actions_of_their_own():
    alike, _ = _share_of_steps_where_all_act_alike("shared", epsilon=1.0)
    assert alike == pytest.approx(9**-3, abs=2e-3)


def test_one_draw_decides_for_all_environments_where_exploration_is_shared():
    _, shared = _share_of_steps_where_all_act_alike("shared", epsilon=0.5)
    _, own = _share_of_steps_where_all_act_alike("per_environment", epsilon=0.5)
    assert shared == pytest.approx(0.5, abs=0.03)
    assert own == pytest.approx((0.5 + 0.5 / 9) ** 4, abs=0.03)


@pytest.mark.parametrize(("ratio", "expected"), [(0.25, 50), (1.0, 200), (2.0, 400)])
def test_replay_ratio_counts_updates_per_agent_step(ratio, expected):
    config = replace(CONFIG, replay_ratio=ratio)
    agent, _ = _train([0], 240, config)
    assert abs(int(agent.q.optimizer.steps[0, 0]) - expected) <= 2


def test_target_is_copied_at_every_period_and_only_then():
    agent, _ = _train([0], 100)
    assert torch.equal(agent.q.target.flat, agent.q.online.flat)
    agent, _ = _train([0], 110)
    assert not torch.equal(agent.q.target.flat, agent.q.online.flat)


@pytest.mark.parametrize("bootstrap", ["max", "double"])
def test_dqn_learns_the_corridor(bootstrap):
    config = replace(CONFIG, bootstrap=bootstrap, epsilon_end=0.5, discount=0.8)
    agent, _ = _train([0, 1, 2], 1500, config)
    env = Corridor((3, 1))
    for _ in range(3):
        action = agent.act_in_evaluation(env.obs(), np.full((3, 1, 2), 0.5))
        step = env.step(action)
    assert step.terminated.all()


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("parents", [[0, 1], [1, 1, 0]])
def test_saved_members_continue_bit_for_bit_also_as_forks(parents, n_step):
    config = replace(CONFIG, n_step=n_step)
    agent, _ = _train([5, 6], 200, config)
    tensors, plain = agent.state_dict()
    streams = [Streams(0) for _ in parents]
    twin = config.build(spec=SPEC, num_envs=2, streams=streams, budget_steps=600, device=CPU)
    twin.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()}, plain, parents)
    chunk = {name: tensor[parents] for name, tensor in agent.replay.export(0).items()}
    twin.replay.restore(agent.replay.meta(), [(agent.replay.oldest_row, chunk)], parents)
    for _ in range(70):
        agent.update()
        twin.update()
    for member, parent in enumerate(parents):
        for name, parameter in twin.q.online.parameters.items():
            torch.testing.assert_close(parameter[member], agent.q.online.parameters[name][parent], rtol=1e-5, atol=1e-7)
    obs = np.ones((2, 2, 3), np.float32)
    np.testing.assert_array_equal(twin.act(obs[parents], 300), agent.act(obs, 300)[parents])


def test_views_leave_the_training_untouched():
    agent, _ = _train([0, 1], 200)
    tensors, plain = agent.state_dict()
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    gradient = agent.q.online.flat_grad.clone()
    batch = agent.probe_batch(np.random.default_rng(0).random((2, 64)))
    online, target = agent.views(batch)
    assert online.layers[0].weight_gradient is not None
    assert target.layers[0].weight_gradient is None
    assert online.features is not None
    assert online.features.shape == (2, 64, 16)
    after, plain_after = agent.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert torch.equal(agent.q.online.flat_grad, gradient)
    assert plain == plain_after


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("bootstrap", ["max", "double"])
@pytest.mark.parametrize("loss", ["huber", "squared"])
def test_updates_and_probes_descend_the_same_loss(loss, bootstrap, n_step):
    config = replace(CONFIG, loss=loss, huber_threshold=0.1, bootstrap=bootstrap, n_step=n_step, discount=0.9)
    agent, _ = _train([0, 1], 200, config)
    batch = agent.probe_batch(np.random.default_rng(0).random((2, 16)))
    agent.replay.sample = lambda uniforms, chosen: batch
    probed = agent.views(batch)[0].layers
    agent.update(201)
    for layer, trained in zip(probed, agent.q.state_of(slice(0, 2, 1)).layers, strict=True):
        torch.testing.assert_close(layer.weight_gradient, trained.weight.gradient)
    (_, next_obs), q = agent._observations(batch), torch.zeros(2, 16)
    with torch.no_grad():
        values, target_values = agent.q.online.forward(next_obs), agent.q.forward_target(next_obs)
        chosen = values.argmax(-1) if bootstrap == "double" else target_values.argmax(-1)
        q = target_values.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
        target = batch.reward + batch.discount * (1 - batch.terminated) * q
        obs, _ = agent._observations(batch)
        error = agent.q.online.forward(obs).gather(-1, batch.action.unsqueeze(-1)).squeeze(-1) - target
        size = error.abs()
        expected = torch.where(size < 0.1, 0.5 * size**2, 0.1 * (size - 0.05)) if loss == "huber" else size**2
    torch.testing.assert_close(agent.losses(batch)[0], expected.mean(1))


def test_each_members_gradient_is_held_to_the_largest_norm():
    agent, _ = _train([0, 1, 2], 200, replace(CONFIG, max_gradient_norm=1e-3))
    squares = [g.flatten(1).square().sum(1) for g in agent.q.online.views(agent.q.online.flat_grad).values()]
    assert (torch.stack(squares).sum(0).sqrt() <= 1e-3).all()


def test_a_threshold_without_effect_is_refused_and_stands_in_no_id():
    with pytest.raises(ValueError, match="huber_threshold: this setting has no effect: the loss is squared"):
        plugins.config_from("agents", "dqn", {"loss": "squared", "huber_threshold": 2.0})
    assert to_dict("dqn", replace(CONFIG, loss="squared", huber_threshold=2.0)).get("huber_threshold") is None
    assert to_dict("dqn", replace(CONFIG, huber_threshold=2.0))["huber_threshold"] == 2.0


def test_continuous_actions_are_refused_with_advice():
    spec = EnvSpec(obs_shape=(3,), obs_dtype="float32", actions=BoxActions(low=(-1.0,), high=(1.0,)))
    with pytest.raises(ValueError, match=r"dqn needs discrete actions.*Choose sac"):
        dqn.check(CONFIG, spec)


def _recordings() -> Path:
    default = Path(__file__).parents[2] / "shared" / "conformance"
    return Path(os.environ.get("PLASTICBENCH_CONFORMANCE_DIR", default)) / "update_dqn.npz"


@pytest.mark.skipif(not _recordings().exists(), reason="no recordings of FIRE's DQN update on this machine")
def test_three_updates_agree_with_the_recordings_of_fires_code():
    recorded = np.load(_recordings())
    spec = EnvSpec(
        obs_shape=(4, 84, 84), obs_dtype="uint8", actions=DiscreteActions(count=9), frame_stack=4, obs_scale=1 / 255
    )
    config = dqn.Config(
        network=nature_cnn.Config(), learning_rate=6.25e-5, adam_eps=1.5e-4, batch_rows=8, capacity_transitions=10
    )
    agent = config.build(spec=spec, num_envs=1, streams=[Streams(0)], budget_steps=100, device=CPU)
    initial = {name: torch.from_numpy(recorded[f"w0/{name}"]) for name in agent.q.online.parameters}
    agent.q.online.load({name: value.unsqueeze(0) for name, value in initial.items()})
    agent.q.target.load({name: 0.9 * value.unsqueeze(0) for name, value in initial.items()})
    losses = []
    for i in range(3):
        obs, next_obs, action, reward, terminated = (
            torch.from_numpy(recorded[f"batch{i}/{field}"])[None]
            for field in ("obs", "next_obs", "action", "reward", "terminated")
        )
        stored = (action.long().view(1, 8), reward.float().view(1, 8), terminated.float().view(1, 8))
        batch = Batch(torch.empty(0), *stored, discount=config.discount)
        agent._observations = lambda batch, pair=(obs, next_obs): tuple(agent._scaled(x) for x in pair)
        (loss,) = agent.losses(batch)
        agent.q.online.flat_grad.zero_()
        loss.sum().backward()
        agent.q.optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(losses, recorded["losses"], rtol=1e-5)
    for name, parameter in agent.q.online.parameters.items():
        expected = torch.from_numpy(recorded[f"w1/{name}"])
        moved = parameter[0].detach() - initial[name]
        wanted = expected if name == "fc1.weight" else expected - initial[name]
        # Adam's first steps are about lr * sign(gradient): compare to that scale, not to the weights'.
        torch.testing.assert_close(moved, wanted, rtol=1e-3, atol=2e-7)


@pytest.mark.parametrize("settings", [{}, {"loss": "squared", "max_gradient_norm": 0.1}, {"bootstrap": "double"}])
def test_updates_without_a_graph_are_those_with_one_bit_for_bit(settings):
    agents = [_train([0, 1, 2], 200, replace(CONFIG, **settings))[0] for _ in range(2)]
    assert agents[0].q.online.chain is not None
    agents[1].q.online.chain = None
    metrics = [[agent.update(number) for number in range(201, 241)][-1] for agent in agents]
    assert torch.equal(agents[0].q.online.flat, agents[1].q.online.flat)
    assert all(torch.equal(metrics[0][name], metrics[1][name]) for name in ("loss/td", "q/mean"))
