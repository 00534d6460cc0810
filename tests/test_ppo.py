"""PPO: advantages by hand, agreement with a plain loop of one network, members alone and in company, forks."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_ppo import CHOICE, CONFIG, NUM_ENVS, ROLLOUT, VECTOR, Drift, built, train, weights_of
from torch import nn

from plasticbench.agents._advantages import generalized_advantages
from plasticbench.agents._reward_norm import RewardNorm
from plasticbench.contracts.task import EnvStep
from plasticbench.seeding import derive_generator

SHARED = replace(CONFIG, trunk="shared")
NORMED = replace(CONFIG, observation_norm="running", reward_norm="running")


# -- advantages -------------------------------------------------------------------------------------------------------


def test_advantages_by_hand_where_episodes_terminate_are_cut_off_and_go_on():
    """Three environments over three steps, discount 0.5 and trace decay 0.5: what ends where is all that differs."""
    reward = np.ones((1, 3, 3), np.float32)
    value = np.float32([[[1, 1, 1], [2, 2, 2], [4, 4, 4]]])
    next_value = np.float32([[[2, 2, 2], [4, 4, 4], [8, 8, 8]]])
    terminated, last = np.zeros((2, 1, 3, 3), bool)
    terminated[0, 1, 0] = last[0, 1, 0] = True  # the first terminates at its second step
    last[0, 1, 1] = True  # the second is cut off there, and the third goes on
    found = generalized_advantages(reward, value, next_value, terminated, last, 0.5, 0.5)
    errors = np.float32([1 + 0.5 * 2 - 1, 1 + 0.5 * 4 - 2, 1 + 0.5 * 8 - 4])  # 1, 1, 1
    goes_on = [1 + 0.25 * (1 + 0.25 * 1), 1 + 0.25 * 1, 1]
    ends = [1 + 0.25 * (1 - 2), 1 - 2, 1]
    assert errors.tolist() == [1, 1, 1]
    assert found[0, :, 0].tolist() == ends
    assert found[0, :, 1].tolist() == [1 + 0.25 * 1, 1, 1]
    assert found[0, :, 2].tolist() == goes_on


def test_a_trace_decay_of_one_is_the_discounted_return_and_of_zero_the_error():
    rng = derive_generator(0, "gae")
    reward, value = rng.standard_normal((2, 1, 6, 2)).astype(np.float32)
    next_value = np.concatenate((value[:, 1:], rng.standard_normal((1, 1, 2)).astype(np.float32)), axis=1)
    never = np.zeros((1, 6, 2), bool)
    returns = [
        sum(0.9**k * reward[0, t + k] for k in range(6 - t)) + 0.9 ** (6 - t) * next_value[0, -1] for t in range(6)
    ]
    whole = generalized_advantages(reward, value, next_value, never, never, 0.9, 1.0)
    np.testing.assert_allclose(whole[0] + value[0], returns, rtol=1e-5, atol=1e-6)
    error = generalized_advantages(reward, value, next_value, never, never, 0.9, 0.0)
    np.testing.assert_allclose(error, reward + 0.9 * next_value - value, rtol=1e-6)


# -- a plain loop of one member ---------------------------------------------------------------------------------------


def _module(layers, parameters):
    """Linear layers with tanh between them and one member's weights."""
    parts = []
    for name in layers:
        weight, bias = (parameters[f"{name}.{kind}"].detach().clone() for kind in ("weight", "bias"))
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        linear.load_state_dict({"weight": weight, "bias": bias})
        parts += [linear, nn.Tanh()]
    return nn.Sequential(*parts[:-1])


class PlainPPO(nn.Module):
    """What a single file does for one network: lists of steps, advantages by recursion over episodes, torch's Adam."""

    def __init__(self, agent, config, spec, seed, budget_steps=640):
        super().__init__()
        self.config, self.seed, self.budget, self.is_box = config, seed, budget_steps, spec is VECTOR
        own = {n.name: {k: v[0] for k, v in n.online.parameters.items()} for n in agent.trained}
        head = "mean" if self.is_box else "policy"
        if config.trunk == "shared":
            self.trunk = _module(["fc1", "fc2"], own["shared"])
            self.actor, self.critic = (_module([name], own["shared"]) for name in (head, "value"))
        else:
            self.trunk = nn.Identity()
            self.actor = _module(["fc1", "fc2", head], own["actor"])
            self.critic = _module(["fc1", "fc2", "value"], own["critic"])
        if self.is_box:
            self.log_std = nn.Parameter(torch.zeros(2))
        self.optimizer = torch.optim.Adam(self.parameters(), lr=config.learning_rate, eps=1e-5)
        self.chance, self.block = derive_generator(seed, "exploration"), []
        self.orders = derive_generator(seed, "minibatches")

    def look(self, obs):
        hidden = self.trunk(obs)
        if self.trunk is not None and not isinstance(self.trunk, nn.Identity):
            hidden = torch.tanh(hidden)
        outputs = self.actor(hidden)
        if self.is_box:
            policy = torch.distributions.Independent(torch.distributions.Normal(outputs, self.log_std.exp()), 1)
        else:
            policy = torch.distributions.Categorical(logits=outputs)
        return policy, self.critic(hidden).squeeze(-1)

    def act(self, obs):
        if not self.block:
            shape = (64, NUM_ENVS, 2 if self.is_box else 1)
            normal = self.is_box and self.chance.standard_normal(shape, dtype=np.float32)
            self.block = list(normal if self.is_box else self.chance.random(shape))
        drawn = torch.from_numpy(self.block.pop(0))
        with torch.no_grad():
            policy, value = self.look(obs)
            if self.is_box:
                action = policy.mean + self.log_std.exp() * drawn
            else:
                action = (drawn >= policy.probs.cumsum(-1)).sum(-1)
            return action, policy.log_prob(action), value

    def train_for(self, steps):
        env, rows, clock = Drift(1), [], 0
        over = [False] * NUM_ENVS
        while clock < steps:
            obs = torch.from_numpy(env.obs[0])
            action, log_prob, value = self.act(obs)
            done = action.numpy()
            if self.is_box:
                done = np.clip(done, [-1, -0.5], [1, 0.5])
            followed = env.step(done[None])
            rows.append((obs, action, log_prob, value, followed, list(over)))
            over = list((followed.terminated | followed.truncated)[0])
            clock += NUM_ENVS
            if len(rows) * NUM_ENVS == self.config.rollout_steps:
                self.learn(rows, torch.from_numpy(env.obs[0]), clock)
                rows = []

    def advantages(self, rows, last_obs):
        with torch.no_grad():
            values = [row[3] for row in rows] + [self.look(last_obs)[1]]
        found = torch.zeros(len(rows), NUM_ENVS)
        for env in range(NUM_ENVS):
            following = 0.0
            for t in reversed(range(len(rows))):
                step = rows[t][4]
                ends, stops = bool(step.terminated[0, env]), bool(step.truncated[0, env])
                beyond = 0.0 if ends else self.config.discount * values[t + 1][env]
                error = float(step.reward[0, env]) + beyond - values[t][env]
                decay = 0.0 if ends or stops else self.config.discount * self.config.gae_lambda
                following = error + decay * following
                found[t, env] = following
        return found

    def learn(self, rows, last_obs, clock):
        config = self.config
        if config.learning_rate_schedule == "linear":
            left = 1 - (clock - config.rollout_steps) / self.budget
            self.optimizer.param_groups[0]["lr"] = left * config.learning_rate
        advantage = self.advantages(rows, last_obs).flatten()
        obs, action, log_prob, value = (torch.stack([row[i] for row in rows]).flatten(0, 1) for i in range(4))
        returns = advantage + value
        counts = ~torch.tensor([row[5] for row in rows]).flatten()
        index = np.arange(config.rollout_steps)
        orders = self.orders.permuted(np.tile(index, (config.epochs, 1)), axis=1)
        for order in orders:
            for batch in np.split(order, config.minibatches):
                batch = torch.from_numpy(batch)[counts[batch]]
                policy, new_value = self.look(obs[batch])
                ratio = (policy.log_prob(action[batch]) - log_prob[batch]).exp()
                own = advantage[batch]
                own = (own - own.mean()) / (own.std() + 1e-8)
                objective = torch.min(own * ratio, own * ratio.clamp(0.8, 1.2)).mean()
                error = (new_value - returns[batch]) ** 2
                if config.value_clip is not None:
                    held = value[batch] + (new_value - value[batch]).clamp(-config.value_clip, config.value_clip)
                    error = torch.max(error, (held - returns[batch]) ** 2)
                loss = -objective + config.value_coefficient * 0.5 * error.mean()
                loss = loss - config.entropy_coefficient * policy.entropy().mean()
                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.parameters(), config.max_gradient_norm)
                self.optimizer.step()


LOOPS = {
    "separate": (CONFIG, CHOICE),
    "shared": (SHARED, CHOICE),
    "vectors": (replace(CONFIG, max_gradient_norm=0.1, entropy_coefficient=0.05), VECTOR),
    "shared vectors": (replace(SHARED, value_clip=None), VECTOR),
    "linear": (replace(CONFIG, learning_rate_schedule="linear", value_clip=0.01), CHOICE),
}


@pytest.mark.parametrize("name", LOOPS)
def test_every_member_agrees_with_a_plain_loop_of_one_network_over_more_than_fifty_updates(name):
    config, spec = LOOPS[name]
    seeds = [3, 8]
    agent = built(seeds, config, spec)
    plain = [PlainPPO(built([seed], config, spec), config, spec, seed) for seed in seeds]
    metrics = train(agent, Drift(2), 4 * ROLLOUT)
    assert len(metrics) == agent.updates_made == 64
    for member, loop in enumerate(plain):
        loop.train_for(4 * ROLLOUT)
        networks = {network.name: network.online for network in agent.trained}
        actor = networks.get("actor", networks.get("shared"))
        critic = networks.get("critic", actor)
        for module, network in ((loop.actor, actor), (loop.critic, critic), (loop.trunk, actor)):
            names = [spec.name for spec in network.specs if not spec.is_norm]
            if config.trunk == "shared":
                names = {loop.actor: names[2:3], loop.critic: ["value"], loop.trunk: names[:2]}[module]
            linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
            for name, layer in zip(names, linear, strict=False):
                for kind in ("weight", "bias"):
                    ours = network.parameters[f"{name}.{kind}"][member].detach()
                    torch.testing.assert_close(ours, getattr(layer, kind).detach(), rtol=1e-5, atol=1e-5)
        if spec is VECTOR:
            ours = actor.parameters["log_std.bias"][member].detach()
            torch.testing.assert_close(ours, loop.log_std.detach(), rtol=1e-5, atol=1e-5)


# -- populations, forks -----------------------------------------------------------------------------------------------

KINDS = {
    "separate": (CONFIG, CHOICE),
    "shared": (SHARED, CHOICE),
    "normed": (NORMED, VECTOR),
    "stopping": (replace(CONFIG, learning_rate=0.02, target_kl=0.02), CHOICE),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_member_alone_trains_as_in_company(name):
    config, spec = KINDS[name]
    together = built([0, 1, 2], config, spec)
    of_all = train(together, Drift(3), 3 * ROLLOUT)
    for member in range(3):
        alone = built([member], config, spec)
        own = train(alone, Drift(1), 3 * ROLLOUT)
        for key, tensor in alone.state_dict()[0].items():
            together_now = together.state_dict()[0][key]
            torch.testing.assert_close(
                tensor[0], together_now[member], rtol=1e-4, atol=1e-5, msg=lambda t, k=key: f"{k}: {t}"
            )
        if config.target_kl is None:
            assert own[-1]["loss/critic"][0] == pytest.approx(float(of_all[-1]["loss/critic"][member]), abs=1e-5)


@pytest.mark.parametrize("clock", [2 * ROLLOUT + 10, 2 * ROLLOUT, 6])
@pytest.mark.parametrize("name", KINDS)
def test_resumed_and_forked_populations_go_on_bit_equal_also_in_the_middle_of_a_rollout(name, clock):
    config, spec = KINDS[name]
    agent, env = built([0, 1, 2], config, spec), Drift(3)
    train(agent, env, clock)
    tensors, plain = agent.state_dict()
    tensors = {key: tensor.clone() for key, tensor in tensors.items()}
    plain, then = json.loads(json.dumps(plain)), copy.deepcopy(env)
    train(agent, env, clock + ROLLOUT + 4, clock)
    theirs = agent.state_dict()[0]
    for parents in ([0, 1, 2], [2, 0, 0]):
        child, child_env = built([7, 8, 9], config, spec), copy.deepcopy(then)
        child.load_state_dict(tensors, plain, parents)
        child_env.obs, child_env.age = child_env.obs[parents], child_env.age[parents]
        train(child, child_env, clock + ROLLOUT + 4, clock)
        ours = child.state_dict()[0]
        assert ours.keys() == theirs.keys()
        if parents == [0, 1, 2]:
            assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []
        for key in ours:
            torch.testing.assert_close(ours[key], theirs[key][parents], rtol=1e-5, atol=1e-5)


def test_the_statistics_of_observations_and_rewards_fork_with_their_member():
    agent = built([0, 1], NORMED, VECTOR)
    train(agent, Drift(2), 50)
    tensors, plain = agent.state_dict()
    child = built([5, 6], NORMED, VECTOR)
    child.load_state_dict(tensors, plain, [1, 1])
    now = child.state_dict()[0]
    names = [name for name in tensors if name.startswith(("observations/", "rewards/"))]
    assert len(names) == 7
    assert all(torch.equal(now[name], tensors[name][[1, 1]]) for name in names)
    assert not torch.equal(tensors["rewards/mean"][0], tensors["rewards/mean"][1])


# -- rollouts ---------------------------------------------------------------------------------------------------------


def test_a_new_course_cuts_the_paths_behind_it_and_is_valued_by_the_observations_before_it():
    agent, env = built([0], replace(CONFIG, gae_lambda=1.0)), Drift(1)
    train(agent, env, 8)
    before = agent._value_of(env.obs)
    agent.begin(np.zeros_like(env.obs))
    rollouts = agent.rollouts
    assert rollouts._flags["is_last"][0, 3].all()
    np.testing.assert_array_equal(rollouts._host["next_value"][:, 3], before)
    agent.act(np.zeros_like(env.obs), 8)
    np.testing.assert_array_equal(rollouts._host["next_value"][:, 3], before)


def test_the_step_between_two_episodes_is_not_learnt_from():
    agent, env = built([0]), Drift(1)
    train(agent, env, ROLLOUT)
    counts = agent.rollouts.learnt.weight[0].view(-1, NUM_ENVS)
    # Ages begin at 0 and 1, and after 7 steps of an episode one leads into the next.
    expected = [[(t + env) % 8 != 7 for env in range(NUM_ENVS)] for t in range(ROLLOUT // NUM_ENVS)]
    assert counts.bool().tolist() == expected


def test_what_does_not_count_changes_nothing_of_an_update():
    agent, twin = built([0]), built([0])
    for one in (agent, twin):
        env = Drift(1)
        train(one, env, ROLLOUT - NUM_ENVS)
        one.observe(action := one.act(env.obs, ROLLOUT), env.step(action))
        between = ~one.rollouts._flags["counts"]
        assert between.any()
        if one is twin:
            one.rollouts._host["log_prob"][between] = -3.0
            one.rollouts._obs[torch.from_numpy(between)] = 5.0
        list(one.learn(ROLLOUT))
    ours, theirs = weights_of(agent), weights_of(twin)
    assert [name for name in ours if not torch.allclose(ours[name], theirs[name], atol=1e-7)] == []


def test_members_that_moved_far_enough_stay_where_they_were_while_others_go_on():
    config = replace(CONFIG, learning_rate=0.02, target_kl=0.02)
    agent, free = built([0, 1, 2], config), built([0, 1, 2], replace(config, target_kl=None))
    metrics = train(agent, Drift(3), ROLLOUT)
    unbound = train(free, Drift(3), ROLLOUT)
    # The last minibatch of each epoch decides; up to there both are the same.
    ends = [unbound[4 * epoch + 3]["policy/approx_kl"] for epoch in range(4)]
    stops = [next((epoch for epoch in range(4) if ends[epoch][m] > 0.02), None) for m in range(3)]
    assert len(set(stops)) > 1, "the members of this test stop at different times"
    for member, epoch in enumerate(stops):
        if epoch is not None and epoch < 3:
            assert metrics[-1]["policy/approx_kl"][member] == ends[epoch][member]
            steps = agent.state_dict()[0]["actor/adam_steps"][member]
            assert (steps == 4 * (epoch + 1)).all()


def test_rewards_are_scaled_by_the_deviation_of_discounted_sums_that_count():
    norm, rng = RewardNorm(1, 2, 0.9), derive_generator(0, "rewards")
    sums, seen = np.zeros(2), []
    for t in range(40):
        reward = rng.standard_normal((1, 2)).astype(np.float32) * 30
        counts, last = rng.random((2, 1, 2)) < [[[0.8, 0.8]], [[0.2, 0.2]]]
        step = EnvStep(np.zeros((1, 2, 1)), reward, reward, last, np.zeros((1, 2), bool))
        scaled = norm.scaled(step, counts)
        for env in range(2):
            if counts[0, env]:
                sums[env] = sums[env] * 0.9 + reward[0, env]
                seen.append(sums[env])
            sums[env] = 0.0 if last[0, env] else sums[env]
        if t > 5:
            expected = np.clip(reward / np.std(seen), -10, 10)
            np.testing.assert_allclose(scaled, expected, rtol=1e-3)


# -- probes and learning -----------------------------------------------------------------------------------------------


def test_probes_see_the_gradient_as_it_is_and_the_step_that_its_joint_norm_leaves():
    agent = built([0, 1], replace(CONFIG, max_gradient_norm=1e-3))
    train(agent, Drift(2), ROLLOUT)
    batch = agent.probe_batch(derive_generator(0, "probe").random((2, 16)))
    views = {view.name: view for view in agent.views(batch)}
    flat = {n.name: n.online.gradient(loss) for n, loss in zip(agent.trained, agent.losses(batch), strict=True)}
    for network in agent.trained:
        shown = {layer.name: layer for layer in views[network.name].layers}
        own = network.online.views(flat[network.name])
        torch.testing.assert_close(shown["fc1"].weight_gradient, own["fc1.weight"])
    squares = sum(
        values.flatten(1).square().sum(1) for n in agent.trained for values in n.online.views(flat[n.name]).values()
    )
    factor = 1e-3 / (squares.sqrt() + 1e-6)
    assert (factor < 1).all()
    for network in agent.trained:
        scaled = [g * factor.view(-1, *(1,) * (g.ndim - 1)) for g in network.online.views(flat[network.name]).values()]
        held = network.online.views(network.optimizer.preview(network.online.flatten(scaled)))
        shown = {layer.name: layer for layer in views[network.name].layers}
        torch.testing.assert_close(shown["fc1"].weight_update, held["fc1.weight"], rtol=1e-4, atol=1e-9)


@pytest.mark.slow
def test_ppo_learns_to_stay_near_the_origin():
    agent, env = built([0, 1, 2, 3], replace(CONFIG, learning_rate=0.01)), Drift(4)
    rewards = []
    agent.begin(env.obs)
    for step in range(0, 6_000, NUM_ENVS):
        action = agent.act(env.obs, step)
        followed = env.step(action)
        rewards.append(followed.reward.mean())
        agent.observe(action, followed)
        for _ in agent.learn(step + NUM_ENVS):
            pass
    assert np.mean(rewards[-200:]) > np.mean(rewards[:200]) + 0.05
