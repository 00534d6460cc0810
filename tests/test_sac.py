"""SAC: agreement with a plain re-implementation and with itself, alone and in company; its resets and views."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from treated import part

from plasticbench import plugins
from plasticbench.agents import sac
from plasticbench.contracts.task import BoxActions, DiscreteActions, EnvSpec, EnvStep
from plasticbench.learning.networks import mlp, simba
from plasticbench.seeding import Streams, derive_generator

CPU = torch.device("cpu")
SPEC = EnvSpec(obs_shape=(3,), obs_dtype="float32", actions=BoxActions(low=(-2.0, 0.0), high=(2.0, 1.0)))
CONFIG = sac.Config(
    actor_network=mlp.Config(hidden=(16, 16)),
    critic_network=simba.Config(num_blocks=1, width=8),
    learning_rate=3e-3,
    weight_decay=1e-2,
    temperature_learning_rate=1e-2,
    observation_norm="running",
    batch_rows=16,
    capacity_transitions=500,
    learning_starts_steps=40,
)


class Drift:
    """A point in three dimensions that actions push; reward for staying near the origin; ends after 10 steps."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.obs = np.full((*shape, 3), 0.5, np.float32)
        self.age = np.zeros(shape, int)

    def step(self, action: np.ndarray) -> EnvStep:
        ended = self.age == 10
        push = np.concatenate((0.1 * action, action[..., :1] * 0.05), axis=-1)
        moved = np.where(ended[..., None], 0.5, 0.9 * self.obs + push)
        self.obs, self.age = moved.astype(np.float32), np.where(ended, 0, self.age + 1)
        reward = np.where(ended, 0, -np.square(self.obs).sum(-1)).astype(np.float32)
        no = np.zeros(self.age.shape, bool)
        return EnvStep(self.obs, reward, reward, (self.age == 10) & (self.obs[..., 0] > 0.5), no | (self.age == 10))


def _build(seeds, config=CONFIG, num_envs=2, spec=SPEC, treatment=None):
    streams = [Streams(seed) for seed in seeds]
    parts = [[] if treatment is None else [treatment] for _ in seeds]
    return config.build(spec=spec, num_envs=num_envs, streams=streams, budget_steps=600, device=CPU, parts=parts)


def _train(seeds, steps, config=CONFIG, num_envs=2, treatment=None):
    """Trains on drifts; returns the agent and the actions ``[T, M, E, A]``."""
    agent, env = _build(seeds, config, num_envs, treatment=treatment), Drift((len(seeds), num_envs))
    agent.begin(env.obs)
    actions, step = [], 0
    while step < steps:
        action = agent.act(env.obs, step)
        actions.append(action)
        agent.observe(action, env.step(action))
        step += num_envs
        for _ in agent.learn(step):
            pass
    return agent, np.array(actions)


def _weights(agent):
    return {name: tensor for name, tensor in agent.state_dict()[0].items() if "/online/" in name or "/target/" in name}


# -- one update against plain PyTorch ---------------------------------------------------------------------------------


class PlainActor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(3, 16), nn.Linear(16, 16)
        self.mean, self.log_std = nn.Linear(16, 2), nn.Linear(16, 2)

    def forward(self, obs, noise):
        hidden = torch.relu(self.fc2(torch.relu(self.fc1(obs))))
        log_std = -5 + 3.5 * (torch.tanh(self.log_std(hidden)) + 1)
        normal = torch.distributions.Normal(self.mean(hidden), log_std.exp())
        before = normal.loc + normal.scale * noise
        action = torch.tanh(before)
        return action, (normal.log_prob(before) - torch.log(1 - action.square())).sum(-1)


class PlainCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.out = nn.Linear(5, 8), nn.LayerNorm(8, eps=1e-6), nn.Linear(8, 1)
        self.block1_norm = nn.LayerNorm(8, eps=1e-6)
        self.block1_fc1, self.block1_fc2 = nn.Linear(8, 32), nn.Linear(32, 8)

    def forward(self, obs, action):
        x = self.embed(torch.cat((obs, action), -1))
        x = x + self.block1_fc2(torch.relu(self.block1_fc1(self.block1_norm(x))))
        return self.out(self.norm(x)).squeeze(-1)


def _plain(kind, network, member):
    module = kind().double()
    module.load_state_dict({name: p[member].detach().clone() for name, p in network.parameters.items()})
    return module


@pytest.mark.parametrize("n_step", [1, 3])
def test_one_update_of_every_member_agrees_with_plain_modules_and_torchs_adamw(n_step):
    config = replace(CONFIG, observation_norm="none", learning_starts_steps=400, temperature_start=0.2, n_step=n_step)
    agent, _ = _train([3, 8], 60, config)
    before = [
        (
            _plain(PlainActor, agent.actor.online, member),
            [_plain(PlainCritic, critic.online, member) for critic in agent.critics],
            [_plain(PlainCritic, critic.target, member) for critic in agent.critics],
        )
        for member in range(2)
    ]
    rows = [derive_generator(seed, "replay").random((64, 16))[0] for seed in (3, 8)]
    batch = agent.replay.sample(np.stack(rows))
    metrics = agent.update()
    for member, (actor, critics, targets) in enumerate(before):
        noise = derive_generator((3, 8)[member], "policy").standard_normal((64, 2, 16, 2), dtype=np.float32)[0]
        noise = torch.from_numpy(noise).double()
        obs, next_obs = batch.frames[member].double().unbind(1)
        action, reward, terminated = (
            value[member].double() for value in (batch.action, batch.reward, batch.terminated)
        )
        discount = 0.99 if n_step == 1 else batch.discount[member].double()
        log_alpha = torch.tensor(np.log(0.2), requires_grad=True)

        def adamw(module):
            return torch.optim.AdamW(module.parameters(), lr=3e-3, weight_decay=1e-2)

        optimizer = adamw(actor)
        own_action, log_prob = actor(obs, noise[0])
        q = torch.minimum(*(critic(obs, own_action) for critic in critics))
        actor_loss = (log_alpha.exp().detach() * log_prob - q).mean()
        actor_loss.backward()
        optimizer.step()
        optimizer = torch.optim.Adam([log_alpha], lr=1e-2)
        (-log_alpha.exp() * (log_prob.detach() - 2.0)).mean().backward()  # target entropy -1 for each of 2 dimensions
        optimizer.step()
        with torch.no_grad():
            next_action, next_log_prob = actor(next_obs, noise[1])
            next_q = torch.minimum(*(target(next_obs, next_action) for target in targets))
            wanted = reward + discount * (1 - terminated) * (next_q - log_alpha.exp() * next_log_prob)
        for critic, target in zip(critics, targets, strict=True):
            optimizer = adamw(critic)
            optimizer.zero_grad()
            (0.5 * (critic(obs, action) - wanted).square()).mean().backward()
            optimizer.step()
            for theirs, ours in zip(target.parameters(), critic.parameters(), strict=True):
                theirs.data = 0.995 * theirs.data + 0.005 * ours.data
        assert metrics["loss/actor"][member].item() == pytest.approx(actor_loss.item(), rel=1e-4, abs=1e-5)
        assert agent.temperature.value[member].item() == pytest.approx(log_alpha.exp().item(), rel=1e-6)
        pairs = [(agent.actor.online, actor)]
        for ours, critic, target in zip(agent.critics, critics, targets, strict=True):
            pairs += [(ours.online, critic), (ours.target, target)]
        for network, module in pairs:
            for name, expected in module.named_parameters():
                # Adam's first step is about lr * sign(gradient), so gradients near 0 decide between -3e-3 and 3e-3.
                off = (network.parameters[name][member].double() - expected).abs()
                assert off.max() < 2e-4, name


# -- with itself ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("critics", ["single", "clipped_double"])
def test_a_member_alone_and_in_a_population_of_five_agree(critics):
    config = replace(CONFIG, critics=critics)
    together, actions = _train([3, 1, 4, 5, 9], 200, config)
    for member, seed in [(0, 3), (2, 4)]:
        alone, own_actions = _train([seed], 200, config)
        np.testing.assert_allclose(own_actions[:, 0], actions[:, member], rtol=1e-3, atol=1e-3)
        for name, tensor in _weights(alone).items():
            torch.testing.assert_close(tensor[0], _weights(together)[name][member], rtol=1e-2, atol=1e-3)
        np.testing.assert_array_equal(own_actions[:20, 0], actions[:20, member])


def test_two_trainings_agree_bit_for_bit():
    first, first_actions = _train([0, 1], 200)
    second, second_actions = _train([0, 1], 200)
    assert all(torch.equal(tensor, _weights(second)[name]) for name, tensor in _weights(first).items())
    np.testing.assert_array_equal(first_actions, second_actions)


@pytest.mark.parametrize(("ratio", "expected"), [(0.25, 25), (1.0, 100), (2.0, 200)])
def test_replay_ratio_counts_updates_per_agent_step_of_every_network(ratio, expected):
    agent, _ = _train([0], 140, replace(CONFIG, replay_ratio=ratio))
    for trained in agent.trained:
        assert abs(int(trained.optimizer.steps[0, 0]) - expected) <= 2


@pytest.mark.parametrize("parents", [[0, 1], [1, 1, 0]])
def test_saved_members_continue_as_themselves_also_as_forks(parents):
    agent, _ = _train([5, 6], 150)
    tensors, plain = agent.state_dict()
    twin = _build([0] * len(parents))
    twin.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()}, plain, parents)
    chunk = {name: tensor[parents] for name, tensor in agent.replay.export(0).items()}
    twin.replay.restore(agent.replay.meta(), [(agent.replay.oldest_row, chunk)], parents)
    obs = np.ones((2, 2, 3), np.float32)
    np.testing.assert_allclose(twin.act(obs[parents], 300), agent.act(obs, 300)[parents], rtol=1e-5, atol=1e-6)
    for _ in range(5):
        ours, theirs = agent.update(), twin.update()
        for name, values in ours.items():
            torch.testing.assert_close(theirs[name], values[parents], rtol=1e-3, atol=1e-4)
    assert twin.temperature.value.tolist() == pytest.approx(agent.temperature.value[parents].tolist(), rel=1e-5)


def test_each_networks_gradient_is_held_to_the_largest_norm():
    agent, _ = _train([0, 1], 100, replace(CONFIG, max_gradient_norm=1e-3))
    for network in agent.trained:
        squares = [g.flatten(1).square().sum(1) for g in network.online.views(network.online.flat_grad).values()]
        torch.testing.assert_close(torch.stack(squares).sum(0).sqrt(), torch.full((2,), 1e-3), rtol=1e-2, atol=0)


# -- acting -----------------------------------------------------------------------------------------------------------


def test_actions_fill_the_bounds_evenly_until_learning_starts():
    _, actions = _train([0], 1_000, replace(CONFIG, learning_starts_steps=2_000))
    flat = actions.reshape(-1, 2)
    low, high = np.array(SPEC.actions.low), np.array(SPEC.actions.high)
    assert (flat >= low).all()
    assert (flat <= high).all()
    np.testing.assert_allclose(flat.mean(0), (low + high) / 2, atol=0.15)
    np.testing.assert_allclose(flat.std(0), (high - low) / np.sqrt(12), rtol=0.05)


def test_evaluation_is_deterministic_within_bounds_and_leaves_no_trace():
    agent, _ = _train([0, 1], 100)
    before, plain = agent.state_dict()
    before = {name: tensor.clone() for name, tensor in before.items()}
    obs = np.random.default_rng(0).standard_normal((2, 5, 3), dtype=np.float32)
    first, second = (agent.act_in_evaluation(obs, np.full((2, 5, 2), u)) for u in (0.0, 0.9))
    np.testing.assert_array_equal(first, second)
    assert (np.abs(first - [0, 0.5]) <= [2, 0.5]).all()
    after, plain_after = agent.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert plain == plain_after


def test_networks_see_observations_normalised_by_what_training_has_shown():
    agent, _ = _train([0], 200, num_envs=4)
    batch = agent.probe_batch(np.random.default_rng(0).random((1, 400)))
    seen = agent.inputs(batch)["actor"][0]
    torch.testing.assert_close(seen.mean(0), torch.zeros(3), rtol=0, atol=0.3)
    torch.testing.assert_close(seen.std(0), torch.ones(3), rtol=0, atol=0.3)


def test_a_choice_of_actions_is_refused_with_advice():
    spec = EnvSpec(obs_shape=(3,), obs_dtype="float32", actions=DiscreteActions(count=2))
    with pytest.raises(ValueError, match=r"sac needs continuous actions.*Choose dqn"):
        sac.check(CONFIG, spec)


def test_unbounded_actions_are_refused():
    spec = EnvSpec(obs_shape=(3,), obs_dtype="float32", actions=BoxActions(low=(-1.0,), high=(float("inf"),)))
    with pytest.raises(ValueError, match="sac needs finite bounds"):
        sac.check(CONFIG, spec)


@pytest.mark.parametrize(
    "setting",
    [
        {"target_tau": 0.0},
        {"temperature_start": 0.0},
        {"log_std_min": 2.0},
        {"learning_starts_steps": 0},
        {"weight_decay": -1.0},
        {"discount": 1.5},
        {"batch_rows": 0},
    ],
)
def test_settings_out_of_range_are_named(setting):
    with pytest.raises(ValueError, match=f"{next(iter(setting))}: must"):
        replace(CONFIG, **setting)


def test_the_preset_is_the_published_network_and_fits_the_humanoid():
    spec = EnvSpec(obs_shape=(51,), obs_dtype="float32", actions=BoxActions(low=(-1.0,) * 19, high=(1.0,) * 19))
    agent = _build([0], replace(sac.PRESETS["fire_paper_sac"], capacity_transitions=100), 1, spec)
    shapes = {
        trained.name: {spec.name: spec.weight_shape for spec in trained.online.specs} for trained in agent.trained
    }
    assert shapes["actor"] == {
        "embed": (128, 51),
        "block1_norm": (128,),
        "block1_fc1": (512, 128),
        "block1_fc2": (128, 512),
        "norm": (128,),
        "mean": (19, 128),
        "log_std": (19, 128),
    }
    assert shapes["critic1"] == shapes["critic2"]
    assert shapes["critic1"]["embed"] == (512, 70)
    assert shapes["critic1"]["block2_fc1"] == (2048, 512)
    assert agent._target_entropy == -9.5
    assert agent.temperature.value.item() == pytest.approx(0.01)


# -- probes and resets ------------------------------------------------------------------------------------------------


def test_views_show_actor_critics_and_targets_apart_and_leave_the_training_untouched():
    agent, _ = _train([0, 1], 120)
    tensors, plain = agent.state_dict()
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    gradients = [trained.online.flat_grad.clone() for trained in agent.trained]
    batch = agent.probe_batch(np.random.default_rng(0).random((2, 64)))
    views = {view.name: view for view in agent.views(batch)}
    assert tuple(views) == CONFIG.networks == ("actor", "critic1", "critic2", "critic1_target", "critic2_target")
    assert [layer.name for layer in views["critic1"].layers] == ["embed", "block1_fc1", "block1_fc2", "out"]
    active = [layer.name for layer in views["critic1"].layers if layer.activation is not None]
    assert active == ["block1_fc1"]
    assert views["critic2"].features.shape == (2, 64, 8)
    assert views["actor"].features.shape == (2, 64, 16)
    assert views["actor"].layers[-1].weight_gradient is not None
    assert views["critic1_target"].layers[0].weight_gradient is None
    assert not torch.equal(views["critic1"].layers[0].weight, views["critic2"].layers[0].weight)
    after, plain_after = agent.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(torch.equal(t.online.flat_grad, g) for t, g in zip(agent.trained, gradients, strict=True))
    assert plain == plain_after


def test_one_dead_critic_does_not_hide_behind_the_other():
    agent, _ = _train([0], 120)
    with torch.no_grad():
        agent.critics[1].online.parameters["block1_fc1.bias"].fill_(-1e6)
    probe = plugins.config_from("probes", "dormant_ratio", {}).build()
    batch = agent.probe_batch(np.random.default_rng(0).random((1, 64)))
    dormant = {view.name: probe.measure(view)[""].item() for view in agent.views(batch)}
    assert dormant["critic2"] == 1.0
    assert dormant["critic1"] < 0.5
    assert dormant["critic2_target"] < 0.5


RESETS = [kind for kind in plugins.names("treatments") if "fire_paper_sac" in plugins.load("treatments", kind).PRESETS]


@pytest.mark.parametrize("kind", RESETS)
def test_resets_of_one_member_leave_the_other_alone_and_treat_targets_by_their_rule(kind):
    agent, _ = _train([0, 1], 120, treatment=part(kind, preset="fire_paper_sac"))
    before = {name: tensor.clone() for name, tensor in agent.state_dict()[0].items()}
    touched = {name: report.touched for name, report in agent.treat([1], 0, 120, None).items()}
    after = agent.state_dict()[0]
    assert all(torch.equal(after[name][0], tensor[0]) for name, tensor in before.items())
    for trained in agent.trained:
        for name in trained.online.parameters:
            key = f"{trained.name}/online/{name}"
            assert torch.equal(after[key][1], before[key][1]) is (name not in touched[trained.name]), key
            if kind == "full_reset":
                assert torch.equal(after[key][1], before[f"{trained.name}/original/{name}"][1])
        assert (trained.optimizer.steps[:, 1] == 0).all().item() is (kind != "none")
        if trained.target is not None and kind != "none":
            for name, parameter in trained.online.parameters.items():
                assert torch.equal(trained.target.parameters[name][1], parameter[1])


def test_fire_projects_both_heads_of_the_actor_apart():
    agent, _ = _train([0], 120, treatment=part("fire", preset="fire_paper_sac", iterations=40))
    agent.treat([0], 0, 120, None)
    for head in ("mean", "log_std"):
        sigma = torch.linalg.svdvals(agent.actor.online.parameters[f"{head}.weight"][0].detach())
        torch.testing.assert_close(sigma, torch.full((2,), (2 / 16) ** 0.5), rtol=1e-4, atol=0)


def test_same_operation_blends_each_target_with_its_own_weights():
    blend = part("shrink_perturb", preset="fire_paper_sac", target="same_operation")
    agent, _ = _train([0], 120, treatment=blend)
    critic = agent.critics[0]
    before = {name: p.detach().clone() for name, p in critic.target.parameters.items()}
    original = critic.online.views(critic.original)
    agent.treat([0], 0, 120, None)
    for name, parameter in critic.target.parameters.items():
        torch.testing.assert_close(parameter.detach(), 0.2 * before[name] + 0.8 * original[name])
