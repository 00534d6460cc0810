"""Updates that are recorded once do at every replay what they do when Python makes them, bit for bit."""

from dataclasses import replace

import pytest
import torch
from small_agents import AGENTS, DQN, NUM_ENVS, SAC, agent_with, chance
from small_runs import small
from treated import part

from plasticbench import plugins
from plasticbench.agents import dqn
from plasticbench.learning.captured_update import CapturedUpdate
from plasticbench.learning.networks import mlp
from plasticbench.learning.optimizers import adam
from plasticbench.learning.tape import Tape
from plasticbench.platform.definition.parsing import BenchmarkError
from plasticbench.platform.definition.reading import from_dict
from plasticbench.seeding import Streams, derive_generator


def test_a_tape_does_again_on_the_same_tensors_what_was_done_and_nothing_that_the_host_did():
    x, counted = torch.tensor([1.0, 2.0]), []

    def work():
        counted.append(1)
        return x.mul_(2).relu() + 1

    recording = Tape().record(work)
    assert recording.output.tolist() == [3.0, 5.0]
    recording.replay()
    assert (x.tolist(), recording.output.tolist(), counted) == ([4.0, 8.0], [5.0, 9.0], [1])


def test_a_tape_refuses_numbers_that_are_read_back():
    with pytest.raises(RuntimeError, match="reads a number back to the host"):
        Tape().record(lambda: torch.ones(1) * torch.ones(1).item())


def test_a_tape_replays_a_backward_pass_into_the_gradient_of_old():
    weight, x = torch.nn.Parameter(torch.tensor([3.0])), torch.tensor([2.0])
    weight.grad = torch.zeros(1)

    def work():
        weight.grad.zero_()
        loss = (weight * x).square().sum()
        loss.backward()
        return loss.detach()

    recording = Tape().record(work)
    assert (recording.output.item(), weight.grad.item()) == (36.0, 24.0)
    x.fill_(1.0)
    recording.replay()
    assert (recording.output.item(), weight.grad.item()) == (9.0, 6.0)


def trained(config, spec, *, captured, updates=24, parts=(), events=()):
    """An agent after some updates, and the metrics of each; ``events``: updates after which member 0 is reset."""
    streams = [Streams(seed) for seed in range(3)]
    agent = config.build(
        spec=spec, num_envs=NUM_ENVS, streams=streams, budget_steps=600, device=torch.device("cpu"), parts=[parts] * 3
    )
    if captured:
        agent.capture_updates(Tape())
    rng, found, step = derive_generator(0, "chance"), [], 0
    obs = chance(rng, spec, (3, NUM_ENVS)).obs
    agent.begin(obs)
    while len(found) < updates:
        answer = chance(rng, spec, (3, NUM_ENVS))
        agent.observe(agent.act(obs, step), answer)
        obs, step = answer.obs, step + NUM_ENVS
        for metrics in agent.learn(step):
            found.append({name: value.clone() for name, value in metrics.items()})
            if len(found) in events:
                agent.treat([0], 0, step, agent.probe_batch(derive_generator(0, "probe").random((3, 32))))
    return agent, found


def assert_equal(config, spec, **settings):
    plain, recorded = (trained(config, spec, captured=captured, **settings) for captured in (False, True))
    assert recorded[0]._captured.recorded > 0
    for ours, theirs in zip(recorded[1], plain[1], strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    tensors, expected = recorded[0].state_dict()[0], plain[0].state_dict()[0]
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    return recorded[0]


VECTOR, MAPS, BOX = replace(AGENTS["dqn"][1], obs_shape=(3,)), AGENTS["dqn"][1], AGENTS["sac"][1]
SETTINGS = {
    "dqn on vectors": (replace(DQN, network=mlp.Config(hidden=(12, 8))), VECTOR),
    "dqn on maps, target by updates": (replace(DQN, target_period_updates=3, bootstrap="double"), MAPS),
    "dqn, shifted": (replace(DQN, random_shift_pixels=1), MAPS),
    "dqn over several steps, clipped": (replace(DQN, n_step=3, max_gradient_norm=0.1, loss="squared"), MAPS),
    "sac with running statistics": (replace(SAC, observation_norm="running"), BOX),
    "sac, one critic": (replace(SAC, critics="single", update_order="stable_baselines3"), BOX),
    "sac, the actor now and then": (replace(SAC, update_order="cleanrl", policy_period_updates=2), BOX),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_recorded_updates_equal_made_ones(name):
    assert_equal(*SETTINGS[name])


CAPTURABLE = [
    kind
    for kind in plugins.names("optimizers")
    if getattr(agent_with("dqn", [part(kind)], updates=0).q.optimizer, "is_capturable", False)
]


@pytest.mark.parametrize("kind", CAPTURABLE)
def test_recorded_steps_of_optimizers_equal_made_ones(kind):
    assert_equal(*AGENTS["dqn"], parts=[part(kind)], updates=8)


def test_most_optimizers_can_be_recorded():
    assert {"adam", "adamw", "sgd", "rmsprop", "muon"} <= set(CAPTURABLE)


@pytest.mark.parametrize("rule", ["keep", "reset"])
def test_weights_that_a_reset_rewrites_need_no_new_recording_and_counts_that_part_need_one(rule):
    recorded = assert_equal(*AGENTS["dqn"], parts=[part("full_reset", optimizer=rule)], events=(10,), updates=36)
    assert recorded._captured.recorded == {"keep": 2, "reset": 3}[rule]  # of updates with the ratio, and of the others


def test_an_update_that_a_treatment_takes_part_in_is_not_recorded():
    agent = agent_with("dqn", [part("l2_init", strength=1e-3)], updates=1)
    with pytest.raises(ValueError, match="a treatment acts at updates of q"):
        agent.capture_updates(Tape())


@pytest.mark.parametrize(
    ("agent", "parts", "reason"),
    [
        ({}, {"kind": "l2_init"}, "l2_init takes part in them"),
        ({}, {"kind": "batch_norm"}, "batch_norm takes part in them"),
        ({}, {"kind": "trac"}, "trac decides on the host"),
        ({"adaptive_ratio": 2.0}, {"kind": "none"}, "its adaptive_ratio depends on what networks pass on"),
    ],
)
def test_a_file_that_asks_for_what_cannot_be_recorded_is_refused(agent, parts, reason):
    gpu = {"device": "cuda", "num_gpus": 1, "capture": "always"}
    data = small(methods={"x": parts}) | {"execution": gpu}
    data["agent"] = data["agent"] | agent
    with pytest.raises(BenchmarkError, match=f"execution.capture: updates of 'x' cannot be recorded, since {reason}"):
        from_dict(data)


def test_inputs_of_another_shape_are_another_recording():
    optimizer = adam.PopulationAdam(dqn_network(), adam.Config(learning_rate=0.1, eps=1e-8, weight_decay=0.0))
    update = CapturedUpdate(Tape(), lambda variant, inputs: {"sum": inputs[0].sum().view(1)}, [optimizer])
    for _ in range(4):
        assert update(None, [torch.ones(2)])["sum"].item() == 2
        assert update(None, [torch.ones(3)])["sum"].item() == 3
    assert update.recorded == 2


def dqn_network():
    config, spec = AGENTS["dqn"]
    return dqn.DQN(config, spec, 1, [Streams(0)], 100, torch.device("cpu")).q.online


def test_updates_are_not_recorded_whose_networks_are_looked_at_or_keep_statistics():
    def obstacle(config, parts):
        spec = AGENTS["dqn"][1]
        return config.build(
            spec=spec,
            num_envs=1,
            streams=[Streams(0)],
            budget_steps=100,
            device=torch.device("cpu"),
            parts=[parts],
        ).capture_obstacle()

    assert obstacle(DQN, []) is None
    assert "adapts" in obstacle(replace(DQN, adaptive_ratio=2.0), [])
    assert "running statistics" in obstacle(DQN, [part("batch_norm")])
    assert "treatment" in obstacle(DQN, [part("altnet")])
