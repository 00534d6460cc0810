"""Callbacks in real training runs of stable-baselines3, held to what native agents do with the same weights."""

import copy
import itertools
import math
import subprocess
import sys

import pytest
import torch
from reset_networks import POLICIES
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn
from treated import BASE, part

from plasticbench import plugins
from plasticbench._sb3_networks import networks, rebuilt
from plasticbench.learning import module_event
from plasticbench.learning.layers import LayerSpec
from plasticbench.learning.trained import TrainedNetwork
from plasticbench.sb3 import ProbeCallback, ResetCallback
from plasticbench.seeding import Streams, derive_seed

RESET_STEP, NUM_STEPS = 60, 80
PRESETS = [(kind, preset) for kind in POLICIES for preset in plugins.load("treatments", kind).PRESETS]
OFF_POLICY = {"learning_starts": 20, "batch_size": 8, "buffer_size": 200, "train_freq": 1}


def dqn():
    common = {"policy_kwargs": {"net_arch": [16, 12]}, **OFF_POLICY}
    return DQN("MlpPolicy", "CartPole-v1", seed=1, device="cpu", target_update_interval=25, **common)


def sac(**settings):
    common = {"policy_kwargs": {"net_arch": [16, 12]}, **OFF_POLICY, **settings}
    return SAC("MlpPolicy", "Pendulum-v1", seed=1, device="cpu", ent_coef="auto_0.5", **common)


def ppo(**settings):
    return PPO("MlpPolicy", "CartPole-v1", seed=1, device="cpu", n_steps=20, batch_size=10, n_epochs=1, **settings)


MODELS = {"dqn": dqn, "sac": sac, "ppo": ppo}


class Tape(BaseCallback):
    """Copies the model's policy, optimizers and temperature at a step; listed before and after a reset."""

    def __init__(self, step: int, at: str = "_on_step") -> None:
        super().__init__()
        self.step, self.at, self.state = step, at, None

    def _take(self) -> None:
        if self.state is None and self.num_timesteps == self.step:
            self.state = copy.deepcopy(_state(self.model))

    def _on_step(self) -> bool:
        if self.at == "_on_step":
            self._take()
        return True

    def _on_rollout_start(self) -> None:
        if self.at == "_on_rollout_start":
            self._take()


def _state(model):
    temperature = None
    if isinstance(model, PPO):
        model.policy.action_dist.distribution = None  # holds the graph of the last pass, which cannot be copied
    if isinstance(model, SAC):
        temperature = (model.log_ent_coef.detach(), model.ent_coef_optimizer.state.get(model.log_ent_coef, {}))
    return model.policy, [network.optimizer for network in networks(model)], temperature


def run(name, callback):
    """The policy before and after the reset at step 60, and the model."""
    at = "_on_rollout_start" if name == "ppo" else "_on_step"
    before, after = Tape(RESET_STEP, at), Tape(RESET_STEP, at)
    model = MODELS[name]()
    first = copy.deepcopy(model.policy)
    model.learn(NUM_STEPS, callback=[before, callback, after])
    return first, before.state, after.state, model


def native(network, first, policy, optimizer, treatment) -> TrainedNetwork:
    """The same network as a native population of one: weights, first weights, target, optimizer state, treatment."""
    module, target = network.online(policy), network.target(policy)
    layers = {path: layer for path, layer in module.named_modules() if isinstance(layer, nn.Linear)}
    outputs = network.outputs or (list(layers)[-1],)
    specs = [
        LayerSpec(
            path.replace(".", "_"),
            "head" if path in outputs else "encoder",
            tuple(layer.weight.shape),
            wiring="sibling" if path in outputs[1:] else "chain",
        )
        for path, layer in layers.items()
    ]
    kept = "none" if target is None else "copy"
    trained = TrainedNetwork.build("q", specs, BASE, [Streams(0)], torch.device("cpu"), kept, [[treatment]])
    trained.online.load(named(module))
    trained.original.copy_(trained.online.flatten(named(network.online(first)).values()))
    if target is not None:
        trained.target.load(named(target))
    moments = {kind: trained.online.views(moment) for kind, moment in trained.optimizer.moments.items()}
    for row, (name, parameter) in enumerate(parameters(module).items()):
        state = optimizer.state[parameter]
        for kind, views in moments.items():
            views[name].copy_(state[kind][None])
        trained.optimizer.steps[row] = state["step"]
    return trained


def parameters(module):
    """Parameters of linear layers by their native names."""
    layers = ((path, layer) for path, layer in module.named_modules() if isinstance(layer, nn.Linear))
    return {
        f"{path.replace('.', '_')}.{kind}": getattr(layer, kind)
        for path, layer in layers
        for kind in ("weight", "bias")
    }


def named(module):
    return {name: parameter.detach()[None] for name, parameter in parameters(module).items()}


def held(population):
    return {name: parameter.detach() for name, parameter in population.parameters.items()}


def drawn(network, model, seed):
    """What the adapter draws under a seed, given to the native network as its own draw."""
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(seed)
        return named(network.online(rebuilt(model)))


# -- the same as a native agent ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, preset", PRESETS)
@pytest.mark.parametrize("name", MODELS)
def test_a_reset_leaves_weights_optimizer_and_target_as_a_native_agents(monkeypatch, name, kind, preset):
    seeds = []

    def recorded(*names):
        seeds.append(derive_seed(*names))
        return seeds[-1]

    monkeypatch.setattr(module_event, "derive_seed", recorded)
    first, before, after, model = run(name, ResetCallback(kind, every=RESET_STEP, preset=preset))
    (policy, optimizers, _), (changed, changed_optimizers, _) = before, after
    queue = iter(seeds[len(networks(model)) :])  # without those of the look at what is there, before the training
    for i, network in enumerate(networks(model)):
        trained = native(network, first, policy, optimizers[i], part(kind, preset=preset))
        own = iter([next(queue) for _ in range(1 if trained.target is None else 2)])  # online, then target
        with monkeypatch.context() as patch:
            patch.setattr(
                TrainedNetwork, "_draw", lambda *_, network=network, own=own: drawn(network, model, next(own))
            )
            trained.parts.event(0, [0], RESET_STEP, None)
        torch.testing.assert_close(named(network.online(changed)), held(trained.online), rtol=1e-5, atol=1e-6)
        if network.target(changed) is not None:
            torch.testing.assert_close(named(network.target(changed)), held(trained.target), rtol=1e-5, atol=1e-6)
        for row, (key, parameter) in enumerate(parameters(network.online(changed)).items()):
            state = changed_optimizers[i].state[parameter]
            assert float(state["step"]) == float(trained.optimizer.steps[row])
            for name_of_moment, moment in trained.optimizer.moments.items():
                assert torch.equal(state[name_of_moment][None], trained.online.views(moment)[key])


@pytest.mark.parametrize("kind, is_reset", [("full_reset", True), ("fire", False), ("none", False)])
def test_the_temperature_follows_its_rule(kind, is_reset):
    _, (*_, before), (*_, after), _ = run("sac", ResetCallback(kind, every=RESET_STEP))
    assert float(before[0]) != pytest.approx(math.log(0.5), abs=1e-6)
    assert float(before[1]["step"]) > 0
    if is_reset:
        assert float(after[0]) == pytest.approx(math.log(0.5))
        assert [float(value) for value in after[1].values()] == [0.0, 0.0, 0.0]
    else:
        torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_fresh_weights_start_as_the_library_starts_them_and_differ_between_resets():
    """PPO starts its action layer 50 times as small as torch's default would."""
    taken = []

    class Collect(BaseCallback):
        def _on_rollout_start(self) -> None:
            taken.append(self.model.policy.action_net.weight.detach().clone())

        def _on_step(self) -> bool:
            return True

    ppo(learning_rate=0.0).learn(80, callback=[ResetCallback("full_reset", every=40), Collect()])
    assert [torch.equal(a, b) for a, b in itertools.pairwise(taken)] == [True, False, True]
    torch.testing.assert_close(taken[2] @ taken[2].mT, 1e-4 * torch.eye(2), rtol=1e-3, atol=1e-8)


# -- when -------------------------------------------------------------------------------------------------------------


def reset_steps(model, **settings):
    """Steps at which the callback acted; two environments advance the clock by two."""
    steps = []
    callback = ResetCallback("fire", **settings)
    act = callback._act
    callback._act = lambda seed: (steps.append(callback.num_timesteps), act(seed))
    return callback, steps


def test_resets_come_at_multiples_of_the_period_and_go_on_in_a_second_call():
    model = dqn()
    callback, steps = reset_steps(model, every=30)
    model.learn(70, callback=callback)
    model.learn(70, callback=callback, reset_num_timesteps=False)
    assert steps == [30, 60, 90, 120]


def test_ppo_is_reset_between_two_rollouts():
    model = ppo()
    callback, steps = reset_steps(model, every=30)
    model.learn(100, callback=callback)
    assert steps == [40, 60]


# -- probes -----------------------------------------------------------------------------------------------------------

NETWORKS = {
    "dqn": {"online", "target"},
    "sac": {"actor", "critic1", "critic2", "critic1_target", "critic2_target"},
    "ppo": {"actor", "critic"},
}


@pytest.mark.parametrize("name", MODELS)
def test_probes_are_logged_for_every_network_and_leave_no_trace(name):
    plain = MODELS[name]()
    plain.learn(NUM_STEPS)
    probed, values = MODELS[name](), {}  # built here: it seeds the global generators
    callback = ProbeCallback(every=40, rows=64)

    class Logged(BaseCallback):
        def _on_step(self) -> bool:
            values.update(self.logger.name_to_value)
            return True

        def _on_rollout_end(self) -> None:
            values.update(self.logger.name_to_value)

    probed.learn(NUM_STEPS, callback=[callback, Logged()])
    for mine, theirs in zip(probed.policy.parameters(), plain.policy.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    logged = {key: value for key, value in values.items() if key.startswith("plasticity/")}
    assert {key.split("/")[1] for key in logged} == NETWORKS[name]
    assert all(f"plasticity/{network}/dormant_ratio" in logged for network in NETWORKS[name])
    assert all(math.isfinite(value) for value in logged.values())


class Extractor(BaseFeaturesExtractor):
    def __init__(self, observation_space) -> None:
        super().__init__(observation_space, features_dim=8)
        self.linear = nn.Linear(3, 8)

    def forward(self, obs):
        return self.linear(obs).relu()


def test_critics_that_share_a_feature_extractor_are_one_network():
    model = sac(policy_kwargs={"net_arch": [16, 12], "features_extractor_class": Extractor})
    actor, critic = networks(model)
    assert (actor.outputs, critic.outputs) == (("mu", "log_std"), ("qf0.4", "qf1.4"))
    before = {name: value.clone() for name, value in model.critic.state_dict().items()}
    model.learn(40, callback=[ResetCallback("last_layers", every=40), ProbeCallback(every=40, kinds=["dormant_ratio"])])
    changed = {name for name, value in before.items() if not torch.equal(model.critic.state_dict()[name], value)}
    assert changed == before.keys()
    logged = {key for key in model.logger.name_to_value if key.startswith("plasticity/")}
    assert logged == {f"plasticity/{name}/dormant_ratio" for name in ("actor", "critic", "critic_target")}


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, settings, message",
    [
        (dqn, {"kind": "fir"}, "no treatments plug-in is called 'fir'. Did you mean 'fire'"),
        (dqn, {"kind": "fire", "every": 0}, "every: must be at least 1"),
        (dqn, {"kind": "fire", "every": 1.5}, "every: must be a whole number of environment steps, got 1.5"),
        (dqn, {"kind": "fire", "every": True}, "every: must be a whole number of environment steps, got True"),
        (
            dqn,
            {"kind": "full_reset", "temperature": "reset"},
            "temperature: has no effect, because this DQN learns none",
        ),
        (ppo, {"kind": "full_reset", "target": "sync"}, "target: has no effect, because PPO has no target network"),
        (
            lambda: SAC("MlpPolicy", "Pendulum-v1", ent_coef=0.1),
            {"kind": "fire", "temperature": "reset"},
            "temperature: has no effect, because this SAC learns none",
        ),
        (lambda: TD3("MlpPolicy", "Pendulum-v1"), {"kind": "fire"}, "model: must be a DQN, SAC or PPO .* got TD3"),
    ],
)
def test_settings_without_effect_are_errors_before_anything_is_trained(make, settings, message):
    with pytest.raises(ValueError, match=message):
        make().learn(1, callback=ResetCallback(**{"every": 10, **settings}))


def test_a_trained_model_cannot_be_rewound_to_weights_that_nobody_kept():
    model = dqn()
    model.learn(40)
    with pytest.raises(ValueError, match="init_source: 'original' needs the weights from before the first update"):
        model.learn(40, callback=ResetCallback("full_reset", every=10, preset="fire_paper_dqn"))


def test_without_the_library_the_import_says_what_to_install():
    code = "import sys; sys.modules['stable_baselines3'] = None; import plasticbench.sb3"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: plasticbench.sb3 needs stable-baselines3: pip install stable-baselines3" in done.stderr
