"""The same updates as plain JAX programs: jit, vmap over seeds, a replay inside, 100 updates per call of ``scan``.

Needs ``pip install jax``. Adam is written out, so that nothing else is needed. What such a program leaves out, and ours
does at every update: streams of each member's own, metrics, the ratio to what values can be, places for treatments.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

UPDATES_PER_CALL = 100
ROWS = 2_000
TAU, DISCOUNT = 0.005, 0.99


def _network(key: Any, *widths: int) -> list[tuple[Any, Any]]:
    keys = jax.random.split(key, len(widths) - 1)
    return [
        (jax.random.uniform(k, (i, o), minval=-1, maxval=1) / math.sqrt(i), jnp.zeros(o))
        for k, i, o in zip(keys, widths[:-1], widths[1:], strict=True)
    ]


def _forward(layers: Any, x: Any) -> Any:
    for weight, bias in layers[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    return x @ layers[-1][0] + layers[-1][1]


def _started(weights: Any) -> Any:
    zeros = jax.tree.map(jnp.zeros_like, weights)
    return jnp.zeros(()), zeros, zeros


def _adam(weights: Any, gradients: Any, state: Any, rate: float) -> tuple[Any, Any]:
    count, first, second = state
    count = count + 1
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)
    scale, root = rate / (1 - 0.9**count), jnp.sqrt(1 - 0.999**count)
    moved = jax.tree.map(lambda w, m, v: w - scale * m / (jnp.sqrt(v) / root + 1e-8), weights, first, second)
    return moved, (count, first, second)


def _program(begin: Callable[[Any], Any], update: Callable[[Any, Any], Any], members: int) -> Callable[[], None]:
    """Makes ``UPDATES_PER_CALL`` updates of all members at each call."""

    def one(carry: Any, _: None) -> tuple[Any, Any]:
        states, key = carry
        key, own = jax.random.split(key)
        states, loss = jax.vmap(update)(states, jax.random.split(own, members))
        return (states, key), loss

    run = jax.jit(lambda carry: jax.lax.scan(one, carry, None, UPDATES_PER_CALL), donate_argnums=0)
    key = jax.random.key(0)
    held = [(jax.vmap(begin)(jax.random.split(key, members)), key)]

    def call() -> None:
        held[0], losses = run(held[0])
        losses.block_until_ready()

    return call


def dqn(members: int, batch_rows: int = 32) -> Callable[[], None]:
    """MLP 2x128 on four inputs and two actions."""

    def begin(key: Any) -> Any:
        weights, target = (_network(k, 4, 128, 128, 2) for k in jax.random.split(key))
        replay = (
            jax.random.normal(key, (ROWS, 4)),
            jax.random.randint(key, (ROWS,), 0, 2),
            jax.random.normal(key, (ROWS,)),
        )
        return weights, target, _started(weights), replay

    def update(state: Any, key: Any) -> Any:
        weights, target, optimizer, (obs, action, reward) = state
        i = jax.random.randint(key, (batch_rows,), 0, ROWS - 1)
        wanted = reward[i] + DISCOUNT * _forward(target, obs[i + 1]).max(axis=1)

        def loss(weights: Any) -> Any:
            q = jnp.take_along_axis(_forward(weights, obs[i]), action[i][:, None], axis=1)[:, 0]
            error = jnp.abs(q - wanted)
            return jnp.where(error < 1, 0.5 * error**2, error - 0.5).mean()

        value, gradients = jax.value_and_grad(loss)(weights)
        weights, optimizer = _adam(weights, gradients, optimizer, 1e-3)
        return (weights, target, optimizer, state[3]), value

    return _program(begin, update, members)


def sac(members: int, width: int = 256, batch_rows: int = 256) -> Callable[[], None]:
    """Actor and two critics of two hidden layers on 17 inputs and 6 actions; actor, temperature, critics, targets."""
    inputs, actions = 17, 6

    def act(actor: Any, obs: Any, key: Any) -> tuple[Any, Any]:
        mean, raw = jnp.split(_forward(actor, obs), 2, axis=1)
        log_std = -5 + 3.5 * (1 + jnp.tanh(raw))
        noise = jax.random.normal(key, mean.shape)
        before = mean + jnp.exp(log_std) * noise
        slope = 2 * (math.log(2) - before - jax.nn.softplus(-2 * before))
        normal = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
        return jnp.tanh(before), (normal - slope).sum(axis=1)

    def value(critics: Any, obs: Any, action: Any) -> Any:
        joined = jnp.concatenate((obs, action), axis=1)
        return jnp.stack([_forward(critic, joined)[:, 0] for critic in critics])

    def begin(key: Any) -> Any:
        keys = jax.random.split(key, 4)
        actor = _network(keys[0], inputs, width, width, 2 * actions)
        critics = [_network(k, inputs + actions, width, width, 1) for k in keys[1:3]]
        replay = (
            jax.random.normal(keys[3], (ROWS, inputs)),
            jnp.tanh(jax.random.normal(key, (ROWS, actions))),
            jax.random.normal(key, (ROWS,)),
        )
        log_alpha = jnp.zeros(())
        learnt = (actor, critics, log_alpha)
        return learnt, jax.tree.map(lambda w: 0.9 * w, critics), tuple(map(_started, learnt)), replay

    def update(state: Any, key: Any) -> Any:
        (actor, critics, log_alpha), target, (of_actor, of_critics, of_alpha), (rows, taken, reward) = state
        rows_key, now, later = jax.random.split(key, 3)
        i = jax.random.randint(rows_key, (batch_rows,), 0, ROWS - 1)
        obs, alpha = rows[i], jnp.exp(log_alpha)

        def actor_loss(actor: Any) -> Any:
            action, log_prob = act(actor, obs, now)
            return (alpha * log_prob - value(critics, obs, action).min(axis=0)).mean(), log_prob

        (_, log_prob), gradients = jax.value_and_grad(actor_loss, has_aux=True)(actor)
        actor, of_actor = _adam(actor, gradients, of_actor, 3e-4)
        log_alpha, of_alpha = _adam(log_alpha, -alpha * (log_prob.mean() - actions), of_alpha, 3e-4)
        action, log_prob = act(actor, rows[i + 1], later)
        soft = value(target, rows[i + 1], action).min(axis=0) - jnp.exp(log_alpha) * log_prob
        wanted = reward[i] + DISCOUNT * soft

        def critic_loss(critics: Any) -> Any:
            return 0.5 * ((value(critics, obs, taken[i]) - wanted) ** 2).mean(axis=1).sum()

        loss, gradients = jax.value_and_grad(critic_loss)(critics)
        critics, of_critics = _adam(critics, gradients, of_critics, 3e-4)
        target = jax.tree.map(lambda t, w: t + TAU * (w - t), target, critics)
        return ((actor, critics, log_alpha), target, (of_actor, of_critics, of_alpha), state[3]), loss

    return _program(begin, update, members)
