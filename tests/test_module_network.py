"""Populations of torch modules: a member trains as the plain module would, and all that members have works on them."""

import copy

import numpy as np
import pytest
import torch
from contract import acts
from small_runs import facts, prepare, run_all, small
from small_streams import small_stream
from torch import nn
from treated import part

from plasticbench import plugins
from plasticbench.learning.blueprint import ModuleSettings
from plasticbench.learning.look import Sample
from plasticbench.learning.module_network import ModuleNetwork
from plasticbench.learning.networks import cnn_small, gpt, module, resnet18, vgg16, vit_tiny
from plasticbench.learning.optimizers import adam
from plasticbench.learning.trained import TrainedNetwork
from plasticbench.platform.definition.reading import BenchmarkError, from_dict
from plasticbench.platform.training.segment import SegmentRun
from plasticbench.seeding import Streams

ROWS, OUTPUTS = 8, 5
EPS = 1e-3
"""Adam's: above the rounding of gradients that are zero, as of a bias before a BatchNorm, which it would amplify."""
NETWORKS = {
    "cnn_small": (cnn_small.Config(width=4), (1, 8, 8)),
    "resnet18": (resnet18.Config(width=4), (3, 16, 16)),
    "vgg16": (vgg16.Config(width=2, head_units=8), (3, 32, 32)),
    "vit_tiny": (vit_tiny.Config(width=12, num_blocks=2), (3, 8, 8)),
    "gpt": (gpt.Config(width=16, num_blocks=2), (6,)),
}


class Odd(nn.Module):
    """Tied weights, an unused parameter, dropout, a buffer that is replaced and one that counts; and a frozen layer."""

    def __init__(self, obs_shape, num_outputs, keep=1.0):
        super().__init__()
        width = obs_shape[0]
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.second.weight = self.first.weight
        self.unused = nn.Linear(3, 3)
        self.frozen = nn.Linear(width, width)
        self.frozen.requires_grad_(False)
        self.dropout = nn.Dropout(1 - keep)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))
        self.head = nn.Linear(width, num_outputs)

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
            self.passes += 1
        x = torch.relu(self.second(torch.relu(self.first(x - self.mean))))
        return self.head(self.dropout(torch.tanh(self.frozen(x))))


class Forgetful(nn.Module):
    """Counts its passes where nobody saves it."""

    def __init__(self, obs_shape, num_outputs):
        super().__init__()
        self.head, self.passes = nn.Linear(obs_shape[0], num_outputs), 0

    def forward(self, x):
        self.passes += 1
        return self.head(x)


def odd(keep: float = 1.0) -> module.Config:
    return module.Config(target=f"{__name__}:Odd", arguments={"keep": keep})


CASES = NETWORKS | {"own": (odd(), (6,))}


def population(config, shape, seeds=(0, 1), parts=None, base=None, target="none"):
    return TrainedNetwork.build(
        "net",
        config.layers(shape, OUTPUTS),
        base or adam.Config(learning_rate=1e-3, eps=1e-8, weight_decay=0.0),
        [Streams(seed) for seed in seeds],
        torch.device("cpu"),
        target,
        parts or [()] * len(seeds),
    )


def batch(config, shape, seed, step):
    rng = torch.Generator().manual_seed(1_000 * seed + step)
    if config.inputs == "tokens":
        tokens = torch.randint(OUTPUTS, (ROWS, shape[0] + 1), generator=rng)
        return tokens[:, :-1], tokens[:, 1:]
    return torch.randn(ROWS, *shape, generator=rng), torch.randint(OUTPUTS, (ROWS,), generator=rng)


def loss_of(logits, labels):
    return nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten())


def train(network, config, shape, steps, first=1):
    for step in range(first, first + steps):
        batches = [batch(config, shape, streams.seed, step) for streams in network.streams]
        network.begin(step)
        logits = network.forward(torch.stack([x for x, _ in batches]))
        losses = torch.stack([loss_of(own, y) for own, (_, y) in zip(logits, batches, strict=True)])
        network.descend(losses, step)


def tensors(network, member):
    own = {**network.online.parameters, **network.online.buffers}
    return {name: value.detach()[member].clone() for name, value in own.items()}


def test_every_module_network_is_examined() -> None:
    kinds = [
        kind for kind in plugins.names("networks") if issubclass(plugins.load("networks", kind).Config, ModuleSettings)
    ]
    assert sorted(kinds) == sorted({*NETWORKS, "module"})


@pytest.fixture
def float64():
    """Rounding differs from CPU to CPU, and where a ReLU is given nearly zero, the last bit of float32 decides."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", CASES)
def test_a_member_trains_as_the_plain_module_of_the_same_weights(name: str) -> None:
    config, shape = CASES[name]
    network = population(config, shape, base=adam.Config(learning_rate=1e-3, eps=EPS, weight_decay=0.0))
    plain = []
    for member in range(2):
        twin = config.module(shape, OUTPUTS)
        twin.load_state_dict(tensors(network, member), strict=False)
        plain.append(twin.train())
    train(network, config, shape, 20)
    for member, twin in enumerate(plain):
        optimizer = torch.optim.Adam([p for p in twin.parameters() if p.requires_grad], lr=1e-3, eps=EPS, fused=True)
        for step in range(1, 21):
            x, y = batch(config, shape, member, step)
            optimizer.zero_grad()
            loss_of(twin(x), y).backward()
            optimizer.step()
        ours, theirs = tensors(network, member), twin.state_dict()
        for key, value in ours.items():
            torch.testing.assert_close(
                value, theirs[key], rtol=1e-8, atol=1e-10, msg=lambda text, k=key: f"{k}: {text}"
            )


@pytest.mark.parametrize("name", CASES)
def test_evaluation_leaves_no_trace_and_is_that_of_the_plain_module(name: str) -> None:
    config, shape = CASES[name]
    network = population(config, shape)
    train(network, config, shape, 2)
    before = tensors(network, 1)
    x, _ = batch(config, shape, 1, 9)
    with torch.no_grad():
        ours = network.online.forward(torch.stack([x, x]))[1]
    twin = config.module(shape, OUTPUTS)
    twin.load_state_dict(before, strict=False)
    torch.testing.assert_close(ours, twin.eval()(x), rtol=1e-5, atol=1e-6)
    assert all(torch.equal(value, before[key]) for key, value in tensors(network, 1).items())


@pytest.mark.parametrize("name", CASES)
def test_a_resumed_population_goes_on_bit_equal_and_a_child_as_its_parent(name: str) -> None:
    config, shape = (odd(keep=0.5), (6,)) if name == "own" else CASES[name]
    network = population(config, shape)
    train(network, config, shape, 3)
    saved = {key: value.clone() for key, value in network.state_dict().items()}
    streams = [copy.deepcopy(own.state_dict()) for own in network.streams]
    train(network, config, shape, 3, first=4)
    for parents in ((0, 1), (1, 0, 1)):
        children = population(config, shape, seeds=range(7, 7 + len(parents)))
        for own, parent in zip(children.streams, parents, strict=True):
            own.load_state_dict(copy.deepcopy(streams[parent]))
        children.load_state_dict(saved, parents)
        train(children, config, shape, 3, first=4)
        for child, parent in enumerate(parents):
            ours, theirs = tensors(children, child), tensors(network, parent)
            assert parents == (1, 0, 1) or all(torch.equal(ours[key], theirs[key]) for key in ours)
            for key, value in ours.items():
                torch.testing.assert_close(value, theirs[key], rtol=1e-4, atol=1e-5)


def test_members_drop_out_by_their_own_chance_alone_and_in_company() -> None:
    config, shape = odd(keep=0.5), (6,)
    together, alone = population(config, shape, seeds=(3, 4)), population(config, shape, seeds=(4,))
    train(together, config, shape, 5)
    train(alone, config, shape, 5)
    for key, value in tensors(alone, 0).items():
        torch.testing.assert_close(tensors(together, 1)[key], value, rtol=1e-5, atol=1e-6)
    dry = population(odd(keep=1.0), shape, seeds=(4,))
    train(dry, odd(keep=1.0), shape, 5)
    assert not torch.allclose(tensors(dry, 0)["head.weight"], tensors(alone, 0)["head.weight"])


def test_buffers_return_with_a_full_reset_and_stay_with_fire() -> None:
    config, shape = NETWORKS["resnet18"]
    for kind, returns in (("full_reset", True), ("fire", False)):
        network = population(config, shape, parts=[[part(kind)], [part("none")]])
        first = tensors(network, 0)
        train(network, config, shape, 2)
        trained = tensors(network, 0)
        network.parts.event(0, [0], 2, None)
        now = tensors(network, 0)
        for key in ("stem.1.running_mean", "stem.1.num_batches_tracked"):
            assert torch.equal(now[key], (first if returns else trained)[key])
        assert not torch.equal(now["blocks.0.conv2.weight"], trained["blocks.0.conv2.weight"])
        assert torch.equal(tensors(network, 1)["stem.1.running_mean"], network.online.buffers["stem.1.running_mean"][1])


def test_own_buffers_return_when_all_is_reset() -> None:
    network = population(odd(), (6,), parts=[[part("full_reset", init_source="original")]], seeds=(0,))
    first = tensors(network, 0)
    train(network, odd(), (6,), 3)
    assert tensors(network, 0)["passes"] == 3
    network.parts.event(0, [0], 3, None)
    assert all(torch.equal(value, first[key]) for key, value in tensors(network, 0).items())


def test_who_reads_whom_is_followed_through_normalisations_pools_and_into_the_head() -> None:
    wires = population(*NETWORKS["vgg16"]).online.wires
    assert [reader.name for reader in wires["0"].readers] == ["3"]
    assert (wires["0"].activation, wires["0"].norms) == ("relu", ("1",))
    residual = population(*NETWORKS["resnet18"]).online.wires
    assert [reader.name for reader in residual["blocks.0.conv1"].readers] == ["blocks.0.conv2"]
    assert residual["blocks.0.conv2"].readers == (), "it writes into a residual stream"
    assert population(*NETWORKS["gpt"]).online.wires["blocks.0.up"].activation == "gelu"
    assert population(*NETWORKS["cnn_small"]).online.wires["3"].readers[0].positions == 4


def test_recycled_units_of_a_module_are_heard_by_nobody() -> None:
    config, shape = NETWORKS["cnn_small"]
    network = population(config, shape, parts=[[part("redo", tau=10.0)]], seeds=(0,))
    train(network, config, shape, 2)
    x, _ = batch(config, shape, 0, 3)

    def activations():
        passed_on: list = []
        with torch.no_grad():
            network.online.forward(x[None], passed_on)
        return dict(zip(network.online.tapped, passed_on, strict=False))

    network.parts.event(0, [0], 2, Sample(x[None], activations, dict))
    own = tensors(network, 0)
    assert torch.count_nonzero(own["9.weight"]) == 0
    assert torch.count_nonzero(own["0.weight"]) > 0


@pytest.mark.parametrize(
    "kind", [k for k in plugins.names("treatments") if acts(k, "event", "pass", "backward", "gradient", "update")]
)
def test_every_treatment_acts_on_a_module_or_says_why_not(kind: str) -> None:
    config, shape = NETWORKS["cnn_small"]
    try:
        network = population(config, shape, parts=[[part(kind)], [part("none")]])
        train(network, config, shape, 3)
    except ValueError as error:
        assert kind in str(error)  # noqa: PT017
        return
    assert all(torch.isfinite(value).all() for value in tensors(network, 0).values())


@pytest.mark.parametrize("kind", plugins.names("optimizers"))
def test_every_optimizer_steps_over_modules(kind: str) -> None:
    config, shape = NETWORKS["cnn_small"]
    settings = {"initial_scale": 1.0} if kind == "trac" else {}  # which starts too carefully for three updates
    network = population(config, shape, parts=[[part(kind, **settings)], [part(kind, **settings)]])
    before = tensors(network, 0)
    train(network, config, shape, 3)
    assert all(torch.isfinite(value).all() for value in tensors(network, 0).values())
    assert not torch.equal(before["0.weight"], tensors(network, 0)["0.weight"])


def test_probes_see_every_matrix_and_what_units_pass_on() -> None:
    for name, (config, shape) in NETWORKS.items():
        network = population(config, shape, target="copy")
        x = torch.stack([torch.cat([batch(config, shape, seed, n)[0] for n in range(10)]) for seed in range(2)])
        view = network.view("online", x, torch.zeros_like(network.online.flat), None)
        for kind in plugins.names("probes"):
            for label, values in plugins.load("probes", kind).Config().build().measure(view).items():
                assert values.shape == (2,), f"{kind}/{label} of {name}"
                assert np.isfinite(values.numpy()).all(), f"{kind}/{label} of {name}"
        assert isinstance(network.target, ModuleNetwork)
        assert view.features is not None


@pytest.mark.parametrize(
    ("config", "shape", "message"),
    [
        (module.Config(target=f"{__name__}:Forgetful"), (6,), "Forgetful keeps state in passes, which is neither"),
        (module.Config(target=f"{__name__}:Missing"), (6,), "Missing cannot be built"),
        (module.Config(target="no_such_package:Net"), (6,), "no_such_package:Net cannot be built"),
        (vgg16.Config(), (3, 8, 8), "they need 32 x 32 pixels, got 8 x 8"),
        (vit_tiny.Config(), (3, 9, 9), "patches of 4 do not tile images of 9 x 9"),
        (resnet18.Config(width=4), (3,), "it reads images"),
        (gpt.Config(), (1, 8, 8), "gpt reads sequences of tokens"),
    ],
)
def test_what_does_not_fit_is_told(config, shape, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config.layers(shape, OUTPUTS)


LEARNER = {"kind": "module", "target": f"{__name__}:Images", "arguments": {"keep": 0.5}}


class Images(Odd):
    """The same, of flattened images."""

    def __init__(self, obs_shape, num_outputs, keep):
        super().__init__((int(np.prod(obs_shape)),), num_outputs, keep)

    def forward(self, x):
        return super().forward(x.flatten(1))


@pytest.mark.slow
def test_a_learner_with_somebodys_module_goes_on_after_an_interruption_as_if_nothing_had_been(tmp_path) -> None:
    data = small_stream(learner={"kind": "classifier", "network": LEARNER, "batch_rows": 8})
    whole, plan = run_all(tmp_path / "whole", data), prepare(tmp_path / "cut", data)
    for segment in plan.segments:
        steps = iter(range(13))
        SegmentRun(tmp_path / "cut", segment.id).run(lambda left=steps: next(left, None) is None)
        assert SegmentRun(tmp_path / "cut", segment.id).run()
    assert facts(tmp_path / "cut", plan) == facts(tmp_path / "whole", whole)


@pytest.mark.slow
def test_an_agent_may_have_a_module_as_well(tmp_path) -> None:
    network = {"kind": "module", "target": f"{__name__}:Odd"}
    plan = run_all(tmp_path, small(agent=small()["agent"] | {"network": network}))
    names = {name for _, name, _ in facts(tmp_path, plan)["fire", 0]}
    assert {"eval/score", "plasticity/online/weight_norm", "reset/q/sfe"} <= names


@pytest.mark.parametrize(
    ("network", "methods", "message"),
    [
        (LEARNER, {"m": {"kind": "layer_norm"}}, "'layer_norm' rewrites layers, and this network is a module"),
        (LEARNER | {"target": "nowhere:Net"}, {"m": {"kind": "none"}}, "target: nowhere:Net cannot be built"),
        (LEARNER | {"target": "nowhere"}, {"m": {"kind": "none"}}, "learner.network.target: must have the form"),
        (
            LEARNER | {"roles": {"first": "tail"}},
            {"m": {"kind": "none"}},
            "learner.network.roles: must be encoder or head",
        ),
        (LEARNER | {"arguments": {"keeps": 1}}, {"m": {"kind": "none"}}, "unexpected keyword argument 'keeps'"),
    ],
)
def test_what_a_file_says_wrong_of_a_module_is_told(network, methods, message: str) -> None:
    with pytest.raises(BenchmarkError) as caught:
        from_dict(small_stream(learner={"kind": "classifier", "network": network}, methods=methods))
    assert message in str(caught.value)


def test_kinds_with_settings_of_the_same_names_are_two_networks() -> None:
    small, deep = (kind.Config(width=4).layers((1, 8, 8), OUTPUTS) for kind in (cnn_small, resnet18))
    assert (len(small), len(deep)) == (
        4,
        17 + 3 + 20 + 2,
    )  # convolutions, shortcuts, their normalisations, linear layers
    assert cnn_small.Config(width=4).layers((1, 8, 8), OUTPUTS) is small  # examined once


def test_roles_and_outputs_can_be_told() -> None:
    told = module.Config(target=f"{__name__}:Odd", roles={"first": "head"}, outputs=("frozen",))
    with pytest.raises(ValueError, match="outputs: no layer of weights is called 'frozen'"):
        told.layers((6,), OUTPUTS)
    told = module.Config(target=f"{__name__}:Odd", roles={"first": "head"}, outputs=("head",))
    blueprint = told.layers((6,), OUTPUTS)
    assert blueprint.roles["first"] == "head"
    assert blueprint.outputs == {"head"}


class Small(nn.Module):
    def __init__(self, obs_shape, num_outputs):
        super().__init__()
        self.first, self.head = nn.Linear(obs_shape[0], 4), nn.Linear(4, num_outputs)

    def forward(self, x):
        return self.head(torch.relu(self.first(x)))


def test_a_row_takes_what_its_gradient_needs_and_its_outputs_and_those_of_the_loss():
    """Three inputs and four units are kept, with half as much for allocators; two outputs are there four times."""
    layers = module.Config(target=f"{__name__}:Small").layers((3,), 2)
    assert layers.row_bytes == 4 * (1.5 * (3 + 4) + 4 * 2)
    wide = resnet18.Config(width=8).layers((3, 16, 16), 5).row_bytes
    narrow = resnet18.Config(width=4).layers((3, 16, 16), 5).row_bytes
    assert wide == pytest.approx(2 * narrow, rel=0.1)
    assert resnet18.Config(width=4).layers((3, 32, 32), 5).row_bytes == pytest.approx(4 * narrow, rel=0.1)


SCALE = torch.full((4,), 2.0)


class Constant(Small):
    def forward(self, x):
        return self.head(torch.relu(self.first(x)) * SCALE)


class Reading(Small):
    def forward(self, x):
        hidden = self.first(x)
        return self.head(hidden if bool((hidden > 1e9).any()) else torch.relu(hidden))


@pytest.mark.parametrize("kind", [Constant, Reading])
def test_a_row_is_measured_of_modules_that_read_what_is_in_memory(kind):
    layers = module.Config(target=f"{__name__}:{kind.__name__}").layers((3,), 2)
    assert layers.row_bytes >= 4 * (1.5 * (3 + 4) + 4 * 2)
