"""Callbacks on policies of stable-baselines3 that are not built from its defaults."""

import copy

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO, SAC, HerReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.dqn.policies import DQNPolicy
from torch import nn

from plasticbench._sb3_networks import networks
from plasticbench.sb3 import ProbeCallback, ResetCallback

OFF_POLICY = {"learning_starts": 20, "batch_size": 8, "buffer_size": 200, "train_freq": 1, "seed": 1, "device": "cpu"}
ON_POLICY = {"n_steps": 20, "batch_size": 10, "n_epochs": 1, "seed": 1, "device": "cpu"}


class Layered(BaseFeaturesExtractor):
    """A linear layer, a normalisation and a free parameter."""

    def __init__(self, observation_space) -> None:
        super().__init__(observation_space, features_dim=8)
        self.linear, self.norm, self.gain = nn.Linear(3, 8), nn.LayerNorm(8), nn.Parameter(torch.ones(8))

    def forward(self, obs):
        return self.norm(self.linear(obs)) * self.gain


class Wide(DQNPolicy):
    """A policy class with a setting of its own."""

    def __init__(self, *args, width, **kwargs) -> None:
        super().__init__(*args, net_arch=[width, width], **kwargs)


def sac(**extractor):
    settings = {"net_arch": [16], "features_extractor_class": Layered, **extractor}
    return SAC("MlpPolicy", "Pendulum-v1", policy_kwargs=settings, **OFF_POLICY)


def ppo(**settings):
    return PPO("MlpPolicy", "Pendulum-v1", policy_kwargs={"features_extractor_class": Layered, **settings}, **ON_POLICY)


class Distance(ProbeCallback):
    """Weight distances of all networks, as they are logged."""

    def __init__(self, every) -> None:
        super().__init__(every=every, kinds=["weight_distance"])
        self.seen = []

    def _act(self, seed: int) -> None:
        super()._act(seed)
        self.seen.append({k: v for k, v in self.model.logger.name_to_value.items() if k.startswith("plasticity/")})


@pytest.mark.parametrize(
    "make",
    [
        lambda: ppo(share_features_extractor=False),
        lambda: ppo(),
        lambda: sac(share_features_extractor=True),
        lambda: SAC("MlpPolicy", "Pendulum-v1", use_sde=True, **OFF_POLICY),
        lambda: DQN(Wide, "CartPole-v1", policy_kwargs={"width": 48}, **OFF_POLICY),
    ],
    ids=["ppo_unshared", "ppo_shared", "sac_shared", "sac_sde", "policy_of_ones_own"],
)
def test_weights_that_were_never_updated_have_moved_by_nothing_and_every_policy_is_reset_whole(make):
    model = make()
    model.learning_starts, model.train = 1_000, lambda *_: None
    distance = Distance(every=20)
    first = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(60, callback=[distance, ResetCallback("full_reset", every=40)])
    assert distance.seen[0]
    assert all(value == 0 for value in distance.seen[0].values())
    several = {name: value for name, value in model.policy.state_dict().items() if value.numel() > 1}
    kept = {name for name, value in several.items() if torch.equal(value, first[name])}
    assert kept == {name for name in several if first[name].unique().numel() == 1}  # starts without chance


@pytest.mark.parametrize("rule, is_equal", [("sync", True), ("sync_touched", True), ("keep", False)])
def test_an_extractor_that_critics_read_through_the_actor_is_reset_once_and_their_target_follows(rule, is_equal):
    model = sac(share_features_extractor=True)
    seen = {}

    class Look(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps == 60:
                seen["own"] = model.actor.features_extractor.linear.weight.clone()
                seen["target"] = model.critic_target.features_extractor.linear.weight.clone()
                own = model.actor.features_extractor.gain
                seen["steps"] = [
                    float(model.actor.optimizer.state[own]["step"]),
                    float(model.critic.optimizer.state[model.critic.qf0[0].weight]["step"]),
                ]
            return True

    model.learn(60, callback=[ResetCallback("full_reset", every=60, target=rule), Look()])
    assert model.critic.features_extractor is model.actor.features_extractor
    assert torch.equal(seen["own"], seen["target"]) == is_equal
    assert seen["steps"] == [0, 0]


def test_a_full_reset_renews_normalisations_and_free_parameters_with_their_optimizers_state():
    model = sac()
    before, after = {}, {}

    class Look(BaseCallback):
        def __init__(self, into) -> None:
            super().__init__()
            self.into = into

        def _on_step(self) -> bool:
            if self.num_timesteps == 60:
                self.into |= copy.deepcopy(model.policy.state_dict())
                self.into["moments"] = copy.deepcopy([one.optimizer.state_dict()["state"] for one in networks(model)])
            return True

    model.learn(60, callback=[Look(before), ResetCallback("full_reset", every=60), Look(after)])
    for name in ("actor.features_extractor.gain", "critic.features_extractor.norm.weight"):
        assert after[name].tolist() == [1.0] * 8
        assert before[name].tolist() != [1.0] * 8
    assert all(float(state["step"]) > 0 for states in before["moments"] for state in states.values())
    assert all(float(state["step"]) == 0 for states in after["moments"] for state in states.values())


class GoalLine(gymnasium.Env):
    """Ten steps long; the achieved goal is the position."""

    def __init__(self) -> None:
        box = gymnasium.spaces.Box(-20, 20, (1,), np.float32)
        self.observation_space = gymnasium.spaces.Dict({"observation": box, "achieved_goal": box, "desired_goal": box})
        self.action_space = gymnasium.spaces.Discrete(2)

    def _obs(self):
        place = np.array([self.place], np.float32)
        return {"observation": place, "achieved_goal": place, "desired_goal": np.array([5], np.float32)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps = 0, 0
        return self._obs(), {}

    def step(self, action):
        self.place, self.steps = self.place + 2 * int(action) - 1, self.steps + 1
        reward = self.compute_reward(np.float32([self.place]), np.float32([5]), {})
        return self._obs(), float(reward), False, self.steps == 10, {}

    def compute_reward(self, achieved_goal, desired_goal, info):
        return -np.abs(achieved_goal - desired_goal).sum(axis=-1)


def test_a_probe_of_hindsight_replay_waits_for_the_end_of_the_first_episode():
    model = DQN("MultiInputPolicy", GoalLine(), replay_buffer_class=HerReplayBuffer, **OFF_POLICY)
    distance = Distance(every=4)
    model.learn(16, callback=distance)
    assert [bool(seen) for seen in distance.seen] == [False, False, True, True]


# -- what cannot be built anew ---------------------------------------------------------------------------------------


def replaced():
    model = DQN("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [16]}, **OFF_POLICY)
    model.policy.q_net.q_net = nn.Sequential(nn.Linear(4, 2))
    return model


class Once(Layered):
    """Built a single time from the same keywords, as what takes a setting out of them."""

    def __init__(self, observation_space, settings) -> None:
        super().__init__(observation_space)
        settings.pop("layers")


def once():
    return ppo(features_extractor_class=Once, features_extractor_kwargs={"settings": {"layers": 2}})


@pytest.mark.parametrize("callback", [lambda: ResetCallback("fire", every=10), lambda: ProbeCallback(every=10)])
@pytest.mark.parametrize(
    "make, message",
    [
        (
            replaced,
            r"policy: q_net\.q_net\.0\.bias is \[2\] in the model but \[16\] in what DQNPolicy makes of p",
        ),
        (
            once,
            r"policy_kwargs: ActorCriticPolicy cannot be built a second time .* \(features_extractor_class, ",
        ),
    ],
)
def test_a_policy_that_cannot_be_built_anew_is_refused_before_training(make, message, callback):
    model = make()
    with pytest.raises(ValueError, match=message):
        model.learn(40, callback=callback())
    assert model.num_timesteps == 0


def test_the_same_operation_on_a_target_with_an_extractor_of_its_own_is_refused_before_training():
    model, reset = sac(share_features_extractor=True), ResetCallback("full_reset", every=9, target="same_operation")
    with pytest.raises(ValueError, match="target: 'same_operation' is not defined where critics share the actor's"):
        model.learn(1, callback=reset)


def test_what_the_library_leaves_behind_lies_where_it_ends_with_the_tests(temporary_folder):
    model = ppo()
    model.learn(20)
    assert model.logger.dir.startswith(temporary_folder)
