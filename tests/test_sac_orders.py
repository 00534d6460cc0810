"""SAC in the orders of CleanRL and stable-baselines3, against loops that are written down as theirs are."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from plasticbench import plugins
from plasticbench.agents import sac
from plasticbench.agents._tanh_gaussian import bounded_log_std
from plasticbench.agents._temperature import Temperature
from plasticbench.contracts.task import BoxActions, EnvSpec, EnvStep
from plasticbench.learning.networks import mlp
from plasticbench.platform.definition.parsing import to_dict
from plasticbench.platform.training.recorder import MetricWindow
from plasticbench.seeding import Streams

CPU = torch.device("cpu")
SPEC = EnvSpec(obs_shape=(3,), obs_dtype="float32", actions=BoxActions(low=(-1.0, -1.0), high=(1.0, 1.0)))
NETWORK = mlp.Config(hidden=(12,), initializer="torch_default")
CLEANRL = replace(
    sac.PRESETS["cleanrl_sac"],
    actor_network=NETWORK,
    critic_network=NETWORK,
    batch_rows=16,
    capacity_transitions=300,
    temperature_start=0.3,
    target_tau=0.1,
)
STABLE_BASELINES3 = replace(
    CLEANRL,
    learning_rate=1e-3,
    critic_learning_rate=None,
    update_order="stable_baselines3",
    policy_period_updates=1,
    update_clock="after_step",
    log_std_min=-20.0,
    log_std_bound="clipped",
    temperature_objective="log_alpha",
)


class Actor(nn.Module):
    def __init__(self, agent, member):
        super().__init__()
        self.config = agent.config
        self.fc1, self.mean, self.log_std = nn.Linear(3, 12), nn.Linear(12, 2), nn.Linear(12, 2)
        self.load_state_dict({n: p[member].detach().clone() for n, p in agent.actor.online.parameters.items()})

    def forward(self, obs, noise):
        hidden, config = torch.relu(self.fc1(obs)), self.config
        raw, low, high = self.log_std(hidden), config.log_std_min, config.log_std_max
        log_std = raw.clamp(low, high) if config.log_std_bound == "clipped" else None
        if log_std is None:
            log_std = low + 0.5 * (high - low) * (torch.tanh(raw) + 1)
        normal = torch.distributions.Normal(self.mean(hidden), log_std.exp())
        before = normal.loc + normal.scale * noise
        action = torch.tanh(before)
        return action, (normal.log_prob(before) - torch.log(1 - action.square() + 1e-10)).sum(-1)


def _critic(network, member):
    module = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 1))
    values = [p[member].detach().clone() for p in network.parameters.values()]
    module.load_state_dict(dict(zip(module.state_dict(), values, strict=True)))
    return module


class Plain:
    """One member as CleanRL and stable-baselines3 hold it."""

    def __init__(self, agent, member):
        config = agent.config
        self.actor = Actor(agent, member)
        self.critics = [_critic(critic.online, member) for critic in agent.critics]
        self.targets = [_critic(critic.target, member) for critic in agent.critics]
        self.log_alpha = torch.tensor(np.log(0.3), dtype=torch.float32, requires_grad=True)
        critic_rate = config.critic_learning_rate or config.learning_rate
        self.q_optimizer = torch.optim.Adam([p for c in self.critics for p in c.parameters()], lr=critic_rate)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=config.learning_rate)
        self.alpha_optimizer = torch.optim.Adam([self.log_alpha], lr=config.temperature_learning_rate)

    def value(self, critics, obs, action):
        return torch.minimum(*(critic(torch.cat((obs, action), -1)).squeeze(-1) for critic in critics))

    def step(self, optimizer, loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def train_critics(self, batch, alpha, noise):
        obs, action, reward, terminated, next_obs = batch
        with torch.no_grad():
            next_action, next_log_prob = self.actor(next_obs, noise)
            next_value = self.value(self.targets, next_obs, next_action) - alpha * next_log_prob
            wanted = reward + 0.99 * (1 - terminated) * next_value
        values = [critic(torch.cat((obs, action), -1)).squeeze(-1) for critic in self.critics]
        self.step(self.q_optimizer, 0.5 * sum(nn.functional.mse_loss(value, wanted) for value in values))

    def move_targets(self):
        for critic, target in zip(self.critics, self.targets, strict=True):
            for ours, theirs in zip(critic.parameters(), target.parameters(), strict=True):
                theirs.data.copy_(0.1 * ours.data + 0.9 * theirs.data)

    def cleanrl(self, batch, noise, number):
        alpha, obs = self.log_alpha.exp().item(), batch[0]
        self.train_critics(batch, alpha, noise[0])
        if number % 2 == 0:
            for turn in range(2):
                action, log_prob = self.actor(obs, noise[1 + 2 * turn])
                loss = (alpha * log_prob - self.value(self.critics, obs, action)).mean()
                self.step(self.actor_optimizer, loss)
                with torch.no_grad():
                    _, log_prob = self.actor(obs, noise[2 + 2 * turn])
                self.step(self.alpha_optimizer, (-self.log_alpha.exp() * (log_prob - 2.0)).mean())
                alpha = self.log_alpha.exp().item()
        self.move_targets()

    def stable_baselines3(self, batch, noise, number):
        obs = batch[0]
        actions_pi, log_prob = self.actor(obs, noise[0])
        alpha = self.log_alpha.exp().item()
        self.step(self.alpha_optimizer, -(self.log_alpha * (log_prob - 2.0).detach()).mean())
        self.train_critics(batch, alpha, noise[1])
        self.step(self.actor_optimizer, (alpha * log_prob - self.value(self.critics, obs, actions_pi)).mean())
        self.move_targets()


def _agent(config, seeds):
    agent = config.build(
        spec=SPEC,
        num_envs=2,
        streams=[Streams(s) for s in seeds],
        budget_steps=600,
        device=CPU,
        parts=[()] * len(seeds),
    )
    rng, shape = np.random.default_rng(0), (len(seeds), 2)
    agent.begin(rng.standard_normal((*shape, 3), np.float32))
    for _ in range(40):
        reward, ends = rng.random(shape, np.float32), rng.random(shape) < 0.1
        obs = rng.standard_normal((*shape, 3), np.float32)
        agent.observe(rng.uniform(-1, 1, (*shape, 2)), EnvStep(obs, reward, reward, ends, ~ends & (obs[..., 0] > 1.5)))
    return agent


@pytest.mark.parametrize("config", [CLEANRL, STABLE_BASELINES3], ids=lambda config: config.update_order)
def test_updates_agree_with_the_published_order_for_every_member(config):
    agent = _agent(config, [3, 8])
    plain = [Plain(agent, member) for member in range(2)]
    drawn, draw, sample = {}, agent._draws["policy"].draw, agent.replay.sample
    agent._draws["policy"].draw = lambda: drawn.setdefault("noise", draw())
    agent.replay.sample = lambda *given: drawn.setdefault("batch", sample(*given))
    for number in range(1, 7):
        drawn.clear()
        metrics = agent.update()
        assert ("loss/actor" in metrics) == (config.update_order != "cleanrl" or number % 2 == 0)
        for member, one in enumerate(plain):
            batch = drawn["batch"]
            obs, next_obs = batch.frames[member].unbind(1)
            rows = (obs, batch.action[member], batch.reward[member], batch.terminated[member], next_obs)
            getattr(one, config.update_order)(rows, torch.from_numpy(drawn["noise"][member]), number)
    for member, one in enumerate(plain):
        assert agent.temperature.value[member].item() == pytest.approx(one.log_alpha.exp().item(), rel=1e-5)
        pairs = [(agent.actor.online, one.actor.state_dict().values())]
        for critic, ours, target in zip(agent.critics, one.critics, one.targets, strict=True):
            pairs += [(critic.online, ours.state_dict().values()), (critic.target, target.state_dict().values())]
        for network, values in pairs:
            for (name, parameter), expected in zip(network.parameters.items(), values, strict=True):
                torch.testing.assert_close(parameter[member], expected, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("config", [CLEANRL, STABLE_BASELINES3], ids=lambda config: config.update_order)
def test_saved_members_go_on_between_two_rounds_of_the_actor(config):
    agent, twin = _agent(config, [3, 8]), _agent(config, [0, 0])
    for _ in range(3):
        agent.update()
    tensors, plain = agent.state_dict()
    twin.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()}, plain, [1, 0])
    chunk = {name: tensor[[1, 0]] for name, tensor in agent.replay.export(0).items()}
    twin.replay.restore(agent.replay.meta(), [(agent.replay.oldest_row, chunk)], [1, 0])
    for _ in range(4):
        ours, theirs = agent.update(), twin.update()
        assert ours.keys() == theirs.keys()
        for name, values in ours.items():
            torch.testing.assert_close(theirs[name], values[[1, 0]], rtol=1e-4, atol=1e-5)


def test_means_are_over_the_updates_that_reported_them_also_after_an_interruption():
    window, twin = MetricWindow(), MetricWindow()
    window.add({"critic": torch.tensor([1.0, 2.0])})
    window.add({"critic": torch.tensor([3.0, 6.0]), "actor": torch.tensor([5.0, 7.0])})
    twin.load_state_dict(window.state_dict(), [1, 0], CPU)
    assert window.drain() == {"critic": [2.0, 4.0], "actor": [5.0, 7.0]}
    assert twin.drain() == {"critic": [4.0, 2.0], "actor": [7.0, 5.0]}
    twin.load_state_dict({"count": 4, "sums": {"critic": [8.0, 4.0]}}, [0, 1], CPU)  # as version 0.1 saved it
    assert twin.drain() == {"critic": [2.0, 1.0]}


def test_a_clipped_deviation_keeps_what_lies_between_its_bounds():
    raw = torch.tensor([-50.0, -3.0, 50.0])
    assert bounded_log_std(raw, -20.0, 2.0, "clipped").tolist() == [-20.0, -3.0, 2.0]


def test_the_logarithms_objective_does_not_fade_with_alpha():
    temperature = Temperature(0.01, 0.1, 2, CPU, "log_alpha")
    log_prob = torch.tensor([[1.0, 3.0], [-4.0, -2.0]])
    loss = temperature.update(log_prob, -1.0)
    assert loss.tolist() == pytest.approx([-np.log(0.01) * 1.0, -np.log(0.01) * -4.0])
    assert temperature.flat_grad.tolist() == pytest.approx([-1.0, 4.0])


def test_settings_of_other_orders_are_refused_and_defaults_stand_in_no_id():
    with pytest.raises(ValueError, match="policy_period_updates: this setting has no effect"):
        plugins.config_from("agents", "sac", {"policy_period_updates": 2})
    assert not {"update_order", "policy_period_updates", "critic_learning_rate"} & to_dict("sac", sac.Config()).keys()
