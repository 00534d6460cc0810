"""Updates per second: populations of small networks, and Nature-CNN populations against a plain PyTorch loop.

    python -m benchmarks.updates mlp      # MLP 2x128, batch 32, one thread: M = 1 and M = 20, in turn
    python -m benchmarks.updates jax      # the same, and SAC, beside plain JAX programs; needs `pip install jax`
    python -m benchmarks.updates acting   # what acting and observing take of a step with one update
    python -m benchmarks.updates nature   # two one-thread populations side by side, against an eager loop
    python -m benchmarks.updates dead     # M = 20 with half of all units dead, with denormal numbers and without
    python -m benchmarks.updates convolutions  # a Nature CNN in each precision, convolved in each way
    python -m benchmarks.updates treated  # eight treated methods x 3 seeds as one population, against `none` x 24

Prints one JSON object. Rates are member-updates per second, best of the rounds: of CPU time for the MLPs, which
use one thread, and of wall-clock time for the Nature CNNs. Compare ratios of one run only. ``stable_baselines3`` as a
peer of SAC: ``python -m benchmarks.sac stable_baselines3``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from plasticbench import plugins
from plasticbench.agents import dqn
from plasticbench.contracts.task import DiscreteActions, EnvSpec, EnvStep
from plasticbench.contracts.treatment import Part, hooks_of
from plasticbench.learning import convolutions
from plasticbench.learning.networks import mlp, nature_cnn
from plasticbench.seeding import Streams

VECTOR = EnvSpec(obs_shape=(4,), obs_dtype="float32", actions=DiscreteActions(count=2))
PIXELS = EnvSpec(
    obs_shape=(4, 84, 84), obs_dtype="uint8", actions=DiscreteActions(count=9), frame_stack=4, obs_scale=1 / 255
)
CPU = torch.device("cpu")


TREATED: dict[str, dict[str, Any]] = {
    "l2_init": {"strength": 1e-3},
    "l2_init, stronger": {"strength": 1e-2},
    "weight_clipping": {},
    "parseval": {"strength": 1e-4},
    "parseval, stronger": {"strength": 1e-3},
    "continual_backprop": {"replacement_rate": 1e-4},
    "hare_tortoise": {},
    "redo": {},
}
EVENT_PERIOD_UPDATES = 1_000
"""Of ReDo, the paper's period; Hare & Tortoise exchange their weights as often."""

UPDATES_UNTIL_STUCK = 1_500
"""0.9 to that power lies below all numbers."""


def filled_agent(
    config: dqn.Config, spec: EnvSpec, members: int, steps: int, parts: Sequence[Sequence[Part]] = ()
) -> dqn.DQN:
    agent = config.build(
        spec=spec,
        num_envs=1,
        streams=[Streams(seed) for seed in range(members)],
        budget_steps=10_000,
        device=torch.device("cpu"),
        parts=parts,
    )
    rng = np.random.default_rng(0)

    def obs() -> np.ndarray:
        return (rng.random((members, 1, *spec.obs_shape)) * 255).astype(spec.obs_dtype)

    no = np.zeros((members, 1), dtype=bool)
    agent.begin(obs())
    for _ in range(steps):
        reward = rng.standard_normal((members, 1)).astype(np.float32)
        agent.observe(rng.integers(0, spec.actions.count, (members, 1)), EnvStep(obs(), reward, reward, no, no))
    return agent


def rate(update: Callable[[], Any], seconds: float, clock: Callable[[], float] = time.perf_counter) -> float:
    """Calls per second of ``clock``."""
    count, start = 0, clock()
    while clock() - start < seconds:
        update()
        count += 1
    return count / (clock() - start)


def bench_mlp(rounds: int, seconds: float) -> dict[str, float]:
    torch.set_num_threads(1)
    config = dqn.Config(network=mlp.Config(hidden=(128, 128)), batch_rows=32, capacity_transitions=2_000)
    agents = {members: filled_agent(config, VECTOR, members, 1_000) for members in (1, 20)}
    best, plain = dict.fromkeys(agents, 0.0), 0.0
    eager = EagerLoop(EagerLoop.mlp, VECTOR, fused=True)
    for agent in agents.values():
        rate(agent.update, seconds / 4)
    for _ in range(rounds):
        plain = max(plain, rate(eager.update, seconds, time.process_time))
        for members, agent in agents.items():
            best[members] = max(best[members], members * rate(agent.update, seconds, time.process_time))
    return {
        "member_updates_per_s_m1": round(best[1]),
        "member_updates_per_s_m20": round(best[20]),
        "updates_per_s_eager_loop": round(plain),
        "ratio_m20_to_m1": round(best[20] / best[1], 2),
        "ratio_m1_to_eager_loop": round(best[1] / plain, 2),
    }


def bench_jax(rounds: int, seconds: float) -> dict[str, Any]:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])  # JAX would take threads of its own
    torch.set_num_threads(1)
    from benchmarks import jax_peer, sac

    config = dqn.Config(network=mlp.Config(hidden=(128, 128)), batch_rows=32, capacity_transitions=2_000)
    calls: dict[str, tuple[int, Callable[[], Any]]] = {}
    for members in (1, 20):
        calls[f"dqn_m{members}"] = members, filled_agent(config, VECTOR, members, 1_000).update
        calls[f"jax_dqn_m{members}"] = members * jax_peer.UPDATES_PER_CALL, jax_peer.dqn(members)
    calls["sac"] = 1, sac.filled_agent(256, 256, 1).update
    calls["jax_sac"] = jax_peer.UPDATES_PER_CALL, jax_peer.sac(1)
    best = dict.fromkeys(calls, 0.0)
    for _, call in calls.values():
        rate(call, seconds / 4, time.process_time)
    for _ in range(rounds):
        for name, (updates, call) in calls.items():
            best[name] = max(best[name], updates * rate(call, seconds, time.process_time))
    ratios = {name: round(best[name] / best[f"jax_{name}"], 2) for name in ("dqn_m1", "dqn_m20", "sac")}
    return {"member_updates_per_cpu_s": {name: round(value) for name, value in best.items()}, "over_jax": ratios}


def bench_dead(rounds: int, seconds: float) -> dict[str, float]:
    """Units that pass nothing on get no gradients, until the means of these are the smallest numbers there are."""
    torch.set_num_threads(1)
    config = dqn.Config(network=mlp.Config(hidden=(128, 128)), batch_rows=32, capacity_transitions=2_000)
    agents = {name: filled_agent(config, VECTOR, 20, 1_000) for name in ("as_it_is", "denormals_kept", "nothing_dead")}
    switch, best = torch.set_flush_denormal, dict.fromkeys(agents, 0.0)
    for name, agent in agents.items():
        for layer in ("fc1", "fc2"):
            dead_units = 0 if name == "nothing_dead" else 64
            agent.q.online.parameters[f"{layer}.bias"].data[:, :dead_units] = -1e3
    for number in range(rounds + 1):
        for name, agent in agents.items():
            if name == "denormals_kept":
                torch.set_flush_denormal = lambda _: True  # type: ignore[assignment]
            for _ in range(0 if number else UPDATES_UNTIL_STUCK):
                agent.update()
            best[name] = max(best[name], 20 * rate(agent.update, seconds, time.process_time))
            torch.set_flush_denormal = switch
    shares = {f"{name}_to_kept": round(best[name] / best["denormals_kept"], 2) for name in ("as_it_is", "nothing_dead")}
    return {f"member_updates_per_s_{name}": round(value) for name, value in best.items()} | shares


def bench_acting(rounds: int, seconds: float) -> dict[str, float]:
    """A step of the environments without them: forward, epsilon, observe; then the one update that is due."""
    torch.set_num_threads(1)
    config = dqn.Config(
        network=mlp.Config(hidden=(128, 128)), batch_rows=32, capacity_transitions=2_000, epsilon_start=0.05
    )
    shares = {}
    for members in (1, 20):
        agent, no = filled_agent(config, VECTOR, members, 1_000), np.zeros((members, 1), dtype=bool)
        obs, reward = np.zeros((members, 1, 4), np.float32), np.zeros((members, 1), np.float32)

        def acting(agent: Any = agent, step: EnvStep = EnvStep(obs, reward, reward, no, no)) -> None:  # noqa: B008
            agent.observe(agent.act(step.obs, 2_000), step)

        best = {"acting": 0.0, "update": 0.0}
        for _ in range(rounds):
            for name, call in (("acting", acting), ("update", agent.update)):
                best[name] = max(best[name], rate(call, seconds, time.process_time))
        shares[f"share_of_acting_m{members}"] = round(best["update"] / (best["update"] + best["acting"]), 3)
    return shares


def bench_convolutions(rounds: int, seconds: float) -> dict[str, float]:
    torch.set_num_threads(1)
    settings: dict[str, Any] = {"network": nature_cnn.Config(), "batch_rows": 32, "capacity_transitions": 500}
    agents = {
        precision: filled_agent(dqn.Config(**settings, precision=precision), PIXELS, 3, 300)
        for precision in ("float32", "bfloat16")
    }
    best: dict[str, float] = {}
    for _ in range(rounds):
        for way, (precision, agent) in itertools.product(convolutions.CANDIDATES, agents.items()):
            convolutions.prefer(way.__name__)  # type: ignore[arg-type]
            name = f"{precision}_{way.__name__}"
            best[name] = max(best.get(name, 0.0), 3 * rate(agent.update, seconds, time.process_time))
    ratios = {f"{name}_to_float32_by_member": round(one / best["float32_by_member"], 2) for name, one in best.items()}
    return {f"member_updates_per_s_{name}": round(one, 1) for name, one in best.items()} | ratios


def treated_parts(seeds: int) -> list[list[Part]]:
    """Methods x seeds, as a plan orders them."""
    parts = []
    for name, settings in TREATED.items():
        kind = name.partition(",")[0]
        config = plugins.config_from("treatments", kind, settings)
        parts += [[Part(family="treatments", kind=kind, config=config, id=name)]] * seeds
    return parts


def updating(agent: dqn.DQN) -> Callable[[], None]:
    """Updates, with the events of the parts that have any."""
    clock = itertools.count(1)
    with_events = [m for m, own in enumerate(agent.parts) if "event" in hooks_of(own[0].config.build())]

    def update() -> None:
        step = next(clock)
        agent.update(step)
        if with_events and step % EVENT_PERIOD_UPDATES == 0:
            batch = agent.probe_batch(np.full((len(agent.streams), 256), 0.5))
            for kind in {agent.parts[m][0].kind for m in with_events}:
                agent.treat([m for m in with_events if agent.parts[m][0].kind == kind], 0, step, batch)

    return update


def bench_treated(rounds: int, seconds: float) -> dict[str, float]:
    torch.set_num_threads(1)
    config = dqn.Config(network=mlp.Config(hidden=(128, 128)), batch_rows=32, capacity_transitions=2_000)
    parts = treated_parts(seeds=3)
    plain = filled_agent(config, VECTOR, len(parts), 1_000)
    treated = filled_agent(config, VECTOR, len(parts), 1_000, parts)
    best = {"none": 0.0, "treated": 0.0}
    calls = {"none": updating(plain), "treated": updating(treated)}
    for _ in range(rounds):
        for name, call in calls.items():
            best[name] = max(best[name], len(parts) * rate(call, seconds, time.process_time))
    return {
        "members": len(parts),
        "member_updates_per_s_none": round(best["none"]),
        "member_updates_per_s_treated": round(best["treated"]),
        "cost_ratio_treated_to_none": round(best["none"] / best["treated"], 2),
    }


class EagerLoop:
    """What a careful single-file script does: modules, ``torch.optim.Adam``, a replay of stacked frames."""

    def __init__(
        self, network: Callable[[], nn.Module], spec: EnvSpec, device: torch.device = CPU, **adam: Any
    ) -> None:
        self.online, self.target, self.device = network().to(device), network().to(device), device
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=6.25e-5, eps=1.5e-4, **adam)
        rng = np.random.default_rng(0)
        self.obs, self.scale = (rng.random((1_000, *spec.obs_shape)) * 255).astype(spec.obs_dtype), spec.obs_scale
        self.action = rng.integers(0, spec.actions.count, 1_000)
        self.reward = rng.standard_normal(1_000).astype(np.float32)
        self.rng = rng

    @staticmethod
    def mlp() -> nn.Module:
        """Two hidden layers of 128."""
        return nn.Sequential(nn.Linear(4, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2))

    @staticmethod
    def nature() -> nn.Module:
        """The network of Mnih et al. 2015."""
        convolutions = (nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Conv2d(64, 64, 3))
        return nn.Sequential(*convolutions, nn.ReLU(), nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 9))

    def update(self) -> None:
        """One gradient step."""
        rows = self.rng.integers(0, 999, 32)
        obs, next_obs = (torch.from_numpy(self.obs[i]).to(self.device).float() * self.scale for i in (rows, rows + 1))
        action, reward = (torch.from_numpy(values[rows]).to(self.device) for values in (self.action, self.reward))
        with torch.no_grad():
            target = reward + 0.99 * self.target(next_obs).amax(dim=1)
        q = self.online(obs).gather(1, action.unsqueeze(1)).squeeze(1)
        loss = nn.functional.smooth_l1_loss(q, target)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def _population_worker(members: int, commands: Any, results: Any) -> None:
    torch.set_num_threads(1)
    config = dqn.Config(
        network=nature_cnn.Config(), learning_rate=6.25e-5, adam_eps=1.5e-4, batch_rows=32, capacity_transitions=1_000
    )
    agent = filled_agent(config, PIXELS, members, 500)
    rate(agent.update, 1.0)
    with FlopCounterMode(display=False) as counter:
        agent.update()
    square = torch.rand(1024, 1024)
    results.put((counter.get_total_flops() / members, 2 * 1024**3 * rate(lambda: square @ square, 1.0)))
    while (seconds := commands.get()) is not None:
        results.put(members * rate(agent.update, seconds))


def bench_nature(rounds: int, seconds: float, members: int) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    queues = [(context.Queue(), context.Queue()) for _ in range(2)]
    workers = [context.Process(target=_population_worker, args=(members, *pair)) for pair in queues]
    for worker in workers:
        worker.start()
    limits = [results.get() for _, results in queues]  # operations per update, and per second of large products
    eager = EagerLoop(EagerLoop.nature, PIXELS)
    rate(eager.update, 1.0)
    ours, plain = 0.0, 0.0
    for _ in range(rounds):
        plain = max(plain, rate(eager.update, seconds))
        for commands, _ in queues:
            commands.put(seconds)
        ours = max(ours, sum(results.get() for _, results in queues))
    for commands, _ in queues:
        commands.put(None)
    for worker in workers:
        worker.join()
    return {
        "members_per_population": members,
        "eager_threads": torch.get_num_threads(),
        "member_updates_per_s_two_populations": round(ours, 1),
        "updates_per_s_eager_loop": round(plain, 1),
        "ratio": round(ours / plain, 2),
        "gflops_per_update": round(limits[0][0] / 1e9, 2),
        "gflops_per_s_of_large_products_both_cores": round(sum(limit for _, limit in limits) / 1e9, 1),
        "share_of_that_limit": round(ours * limits[0][0] / sum(limit for _, limit in limits), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("mlp", "jax", "dead", "acting", "nature", "convolutions", "treated"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="per measurement")
    parser.add_argument("--members", type=int, default=3, help="per Nature-CNN population")
    args = parser.parse_args()
    if args.what == "nature":
        result: dict[str, Any] = bench_nature(args.rounds, args.seconds, args.members)
    else:
        benches = {"mlp": bench_mlp, "jax": bench_jax, "dead": bench_dead, "acting": bench_acting}
        benches |= {"treated": bench_treated, "convolutions": bench_convolutions}
        result = benches[args.what](args.rounds, args.seconds)
    print(json.dumps({"benchmark": f"updates {args.what}", "cores": os.cpu_count(), **result}))


if __name__ == "__main__":
    main()
