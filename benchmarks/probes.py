"""Time of every probe on trained agents, a line of JSON for each agent: ``python -m benchmarks.probes [CASE ...]``.

CPU milliseconds of one thread, the best of several rounds, with the default settings and a probe batch of 512 rows (of
the convolutional network 64, and one round); beside them what one update of the whole population takes. Probes that ask
for what an agent cannot show are left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from plasticbench import plugins
from plasticbench.agents import dqn, ppo, sac
from plasticbench.contracts.network import NetworkView
from plasticbench.contracts.task import BoxActions, DiscreteActions, EnvSpec, EnvStep
from plasticbench.learning.networks import mlp, nature_cnn
from plasticbench.seeding import Streams, derive_generator

NUM_ENVS, STARTS = 4, 600
MLP = mlp.Config(hidden=(64, 64))
VECTORS = EnvSpec(obs_shape=(8,), obs_dtype="float32", actions=DiscreteActions(count=4))
BOXES = EnvSpec(obs_shape=(8,), obs_dtype="float32", actions=BoxActions(low=(-1.0,) * 2, high=(1.0,) * 2))
FRAMES = EnvSpec(obs_shape=(4, 84, 84), obs_dtype="float32", actions=DiscreteActions(count=18))
REPLAY: dict[str, Any] = {"capacity_transitions": 2_000, "learning_starts_steps": STARTS}
CASES: Mapping[str, tuple[Any, EnvSpec, int, int]] = {
    # settings, what it acts in, members, rows of the probe batch
    "dqn_mlp_64_members_20_ms": (dqn.Config(network=MLP, **REPLAY), VECTORS, 20, 512),
    "sac_mlp_64_members_20_ms": (sac.Config(actor_network=MLP, critic_network=MLP, **REPLAY), BOXES, 20, 512),
    "ppo_mlp_64_members_20_ms": (ppo.Config(network=MLP, critic_network=MLP), VECTORS, 20, 512),
    "dqn_nature_cnn_members_1_ms": (dqn.Config(network=nature_cnn.Config(), **REPLAY), FRAMES, 1, 64),
}


def trained(config: Any, spec: EnvSpec, num_members: int) -> tuple[Any, float]:
    """An agent after its first updates on chance, and the milliseconds of one of them."""
    streams = [Streams(seed) for seed in range(num_members)]
    agent = config.build(
        spec=spec, num_envs=NUM_ENVS, streams=streams, budget_steps=2_000, device=torch.device("cpu"), parts=()
    )
    rng, shape = derive_generator(0, "chance"), (num_members, NUM_ENVS)
    obs = rng.standard_normal((*shape, *spec.obs_shape), dtype=np.float32)
    agent.begin(obs)
    step, durations_s = 0, list[float]()
    while len(durations_s) < 8:
        ends = rng.random((2, *shape)) < 0.05
        reward = rng.standard_normal(shape, dtype=np.float32)
        answer = EnvStep(obs, reward, reward, ends[0], ends[1] & ~ends[0])
        agent.observe(agent.act(obs, step), answer)
        step += NUM_ENVS
        start = time.process_time()
        for _ in agent.learn(step):
            durations_s.append(time.process_time() - start)
            start = time.process_time()
    return agent, 1e3 * min(durations_s)


def milliseconds(work: Callable[[], object], num_rounds: int) -> float:
    durations_s = []
    for _ in range(num_rounds):
        start = time.process_time()
        work()
        durations_s.append(time.process_time() - start)
    return round(1e3 * min(durations_s), 3)


def measure_all(config: Any, spec: EnvSpec, num_members: int, rows: int) -> dict[str, float]:
    num_rounds = 3 if rows == 512 else 1
    agent, update_ms = trained(config, spec, num_members)
    uniforms = derive_generator(0, "probe").random((num_members, rows))
    batch = agent.probe_batch(uniforms)
    times = {"one update": round(update_ms, 3), "views": milliseconds(lambda: agent.views(batch), num_rounds)}
    views: Sequence[NetworkView] = agent.views(batch)
    for kind in plugins.names("probes"):
        probe = plugins.config_from("probes", kind, {}).build()
        # A copy of a view shares nothing with the others: what probes leave for each other is counted to each.
        if any(probe.measure(dataclasses.replace(view)) for view in views):
            times[kind] = milliseconds(
                lambda probe=probe: [probe.measure(dataclasses.replace(view)) for view in views], num_rounds
            )
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; default: all")
    chosen = parser.parse_args().cases or list(CASES)
    torch.set_num_threads(1)
    for name in chosen:
        print(json.dumps({name: measure_all(*CASES[name])}), flush=True)


if __name__ == "__main__":
    main()
