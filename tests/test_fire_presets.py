"""Presets with the constants of FIRE's vision and language code: an event and 20 updates against a plain loop.

The loop is written from the protocol's description: one module, one ``torch.optim.Adam`` that begins anew at the event.
"""

import copy
import math

import pytest
import torch
from test_module_network import EPS, NETWORKS, batch, loss_of, population, tensors, train
from torch import nn
from treated import part

from plasticbench.learning.optimizers import adam

BASE = adam.Config(learning_rate=1e-3, eps=EPS, weight_decay=0.0)
BEFORE, AFTER = 5, 20
QUERIES_AND_KEYS = "*.to_[qk]"


def newton_schulz(matrix, steps):
    x = matrix / matrix.norm()
    x = x.T if x.shape[0] > x.shape[1] else x
    for _ in range(steps):
        x = 1.5 * x - 0.5 * x @ x.T @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def fire(module, steps, chosen=lambda name: True):
    """Every linear layer and convolution, each kernel position by itself, times sqrt(out / in) / positions."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and chosen(name):
            kernel = layer.weight.data.flatten(2) if layer.weight.ndim == 4 else layer.weight.data[..., None]
            scale = math.sqrt(kernel.shape[0] / kernel.shape[1]) / kernel.shape[2]
            for position in range(kernel.shape[2]):
                kernel[..., position] = scale * newton_schulz(kernel[..., position].clone(), steps)


def shrink_and_perturb(module, first, keep):
    for name, parameter in module.named_parameters():
        parameter.data.mul_(keep).add_(first[name], alpha=1 - keep)


def reads_tokens(name):
    return name.endswith(("to_q", "to_k"))


EVENTS = {
    "full_reset": ("resnet18", "full_reset", "fire_paper_vision", lambda m, first: m.load_state_dict(first)),
    "shrink_perturb": ("resnet18", "shrink_perturb", "fire_paper_vision", lambda m, f: shrink_and_perturb(m, f, 0.2)),
    "fire": ("resnet18", "fire", "fire_paper_vision", lambda m, first: fire(m, 10)),
    "fire of VGG-16": ("vgg16", "fire", "fire_paper_vision", lambda m, first: fire(m, 10)),
    "fire of ViT": ("vit_tiny", "fire", "fire_paper_vision", lambda m, first: fire(m, 10, reads_tokens)),
    "fire of GPT": ("gpt", "fire", "fire_paper_language", lambda m, first: fire(m, 5)),
    "shrink_perturb of GPT": (
        "gpt", "shrink_perturb", "fire_paper_language", lambda m, f: shrink_and_perturb(m, f, 0.5)
    ),
}  # fmt: skip


def plain_loop(module, config, shape, steps, first=1, penalty=None):
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, eps=EPS, fused=True)
    for step in range(first, first + steps):
        x, y = batch(config, shape, 0, step)
        loss = loss_of(module(x), y) + (0.0 if penalty is None else penalty(module))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def plain_of(network, config, shape):
    module = config.module(shape, 5)
    module.load_state_dict(tensors(network, 0), strict=False)
    return module.train()


def assert_same(network, module, atol=2e-5) -> None:
    theirs = module.state_dict()
    for key, value in tensors(network, 0).items():
        torch.testing.assert_close(value, theirs[key], rtol=1e-3, atol=atol, msg=lambda text, k=key: f"{k}: {text}")


CASES = [pytest.param(name, marks=() if name == "fire of GPT" else pytest.mark.slow) for name in EVENTS]


@pytest.mark.parametrize("name", CASES)
def test_an_event_and_what_follows_is_that_of_the_protocol(name: str) -> None:
    kind_of_network, kind, preset, event = EVENTS[name]
    config, shape = NETWORKS[kind_of_network]
    own = {"layers": QUERIES_AND_KEYS} if kind_of_network == "vit_tiny" else {}
    network = population(config, shape, parts=[[part(kind, preset=preset, **own)], [part("none")]], base=BASE)
    module = plain_of(network, config, shape)
    first = copy.deepcopy(module.state_dict())
    train(network, config, shape, BEFORE)
    module.load_state_dict(tensors(network, 0), strict=False)  # so that the rounding of what came before cannot grow
    network.parts.event(0, [0], BEFORE, None)
    with torch.no_grad():
        event(module, first)
    assert_same(network, module)
    train(network, config, shape, AFTER, first=BEFORE + 1)
    plain_loop(module, config, shape, AFTER, first=BEFORE + 1)
    assert_same(network, module, atol=1e-4)  # rounding of small kernels behind BatchNorm grows


def l2_init_penalty(first):
    return lambda m: 1e-3 / 2 * sum((p - first[name]).square().sum() for name, p in m.named_parameters())


def parseval_penalty(module):
    total = 0.0
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            w = layer.weight.flatten(1)
            total = total + 1e-3 * (w @ w.T - torch.eye(len(w))).square().sum()
    return total


@pytest.mark.parametrize("kind", ["l2_init", "parseval"])
def test_penalties_are_those_of_the_protocol(kind: str) -> None:
    config, shape = NETWORKS["cnn_small"]
    network = population(config, shape, parts=[[part(kind, preset="fire_vision")], [part("none")]], base=BASE)
    module = plain_of(network, config, shape)
    first = {name: p.detach().clone() for name, p in module.named_parameters()}
    train(network, config, shape, AFTER)
    penalty = l2_init_penalty(first) if kind == "l2_init" else parseval_penalty
    plain_loop(module, config, shape, AFTER, penalty=penalty)
    assert_same(network, module)


def test_dash_keeps_directions_along_the_descent_and_shrinks_the_others() -> None:
    config, shape = NETWORKS["cnn_small"]
    own = part("dash", preset="fire_vision_cifar10")
    network = population(config, shape, parts=[[own], [part("none")]], base=BASE)
    module = plain_of(network, config, shape)
    means = {name: torch.zeros_like(p) for name, p in module.named_parameters()}
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, eps=EPS)
    for step in range(1, BEFORE + 1):
        x, y = batch(config, shape, 0, step)
        optimizer.zero_grad()
        loss_of(module(x), y).backward()
        for name, p in module.named_parameters():
            means[name].mul_(0.7).sub_(p.grad, alpha=0.3)
        optimizer.step()
    train(network, config, shape, BEFORE)
    network.parts.event(0, [0], BEFORE, None)
    for name, p in module.named_parameters():
        value, mean = (t.flatten(2) if t.ndim == 4 else t for t in (p.data, means[name]))
        cosine = torch.nn.functional.cosine_similarity(value, mean, dim=-1).unsqueeze(-1)
        value.mul_(cosine.clamp(0.05, 1.0))
    assert_same(network, module)


def test_the_heads_of_a_transformer_stay_where_only_queries_and_keys_are_projected() -> None:
    config, shape = NETWORKS["vit_tiny"]
    network = population(
        config, shape, parts=[[part("fire", preset="fire_paper_vision", layers=QUERIES_AND_KEYS)]], seeds=(0,)
    )
    before = tensors(network, 0)
    network.parts.event(0, [0], 1, None)
    changed = {name for name, value in tensors(network, 0).items() if not torch.equal(value, before[name])}
    assert changed == {f"blocks.{i}.attention.to_{which}.weight" for i in range(2) for which in "qk"}
