"""The four populations that ``benchmarks.device`` trains, filled with chance, and whether two devices agree on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plasticbench import plugins
from plasticbench.agents import dqn, sac
from plasticbench.contracts.task import BoxActions, DiscreteActions, EnvSpec, EnvStep
from plasticbench.contracts.treatment import Part
from plasticbench.learning.captured_update import CudaGraphs, Recorder
from plasticbench.learning.networks import mlp
from plasticbench.learning.tape import Tape
from plasticbench.seeding import Streams, derive_generator

VECTOR = EnvSpec(obs_shape=(4,), obs_dtype="float32", actions=DiscreteActions(count=2))
PIXELS = EnvSpec(
    obs_shape=(4, 84, 84), obs_dtype="uint8", actions=DiscreteActions(count=9), frame_stack=4, obs_scale=1 / 255
)
BODY = EnvSpec(obs_shape=(51,), obs_dtype="float32", actions=BoxActions(low=(-1.0,) * 19, high=(1.0,) * 19))
FIRE = Part(family="treatments", kind="fire", config=plugins.config_from("treatments", "fire", {}), id="fire")

AGREES = {"training": 0.05, "replay of a recording": 0.05, "probes": 0.01, "reset": 1e-3}
"""Largest relative differences that rounding explains; what is loaded must be bit-equal. Training amplifies rounding:
its difference is relative to how far the weights have come, the others to the largest value."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """An agent on a shape of observations."""

    name: str
    config: Any
    spec: EnvSpec


CASES = (
    Case(name="dqn_mlp", config=dqn.Config(network=mlp.Config(hidden=(128, 128))), spec=VECTOR),
    Case(name="dqn_nature", config=dqn.PRESETS["fire_paper_dqn"], spec=PIXELS),
    Case(name="sac_mlp", config=sac.Config(), spec=BODY),
    Case(name="sac_simba", config=sac.PRESETS["fire_paper_sac"], spec=BODY),
)

ROUNDED = {
    case.name: replace(case, name=f"{case.name}_bfloat16", config=replace(case.config, precision="bfloat16"))
    for case in CASES
    if case.name in ("dqn_nature", "sac_simba")
}
"""Cases whose products read bfloat16, by those that they are compared with."""


def recorder_for(device: torch.device) -> Recorder:
    """Graphs on a GPU, tapes elsewhere."""
    return CudaGraphs() if device.type == "cuda" else Tape()


def filled(case: Case, members: int, device: torch.device, rows: int = 200) -> Any:
    """A population whose replay holds ``rows`` rows of chance, the same on every device."""
    config = case.config.fitted(2 * rows)
    streams = [Streams(seed) for seed in range(members)]
    agent = config.build(
        spec=case.spec, num_envs=1, streams=streams, budget_steps=rows, device=device, parts=[[FIRE]] * members
    )
    rng = derive_generator(0, "chance")
    step = _chance(rng, case.spec, members)
    agent.begin(step.obs)
    for _ in range(rows):
        step = _chance(rng, case.spec, members)
        agent.observe(agent.act(step.obs, 0), step)
    return agent


def _chance(rng: np.random.Generator, spec: EnvSpec, members: int) -> EnvStep:
    shape, no = (members, 1, *spec.obs_shape), np.zeros((members, 1), dtype=bool)
    if spec.obs_dtype == "uint8":
        obs: np.ndarray = rng.integers(0, 256, shape, dtype=np.uint8)
    else:
        obs = rng.standard_normal(shape, dtype=np.float32)
    reward = rng.standard_normal((members, 1), dtype=np.float32)
    return EnvStep(obs, reward, reward, no, no)


def differences(case: Case, device: torch.device, updates: int, members: int = 2) -> dict[str, float]:
    """How far a population on ``device`` is from its twin on the CPU, by what was compared."""
    host, other, recorded = (filled(case, members, where) for where in (torch.device("cpu"), device, device))
    recorded.capture_updates(recorder_for(device))
    start = _weights(host)
    for number in range(1, updates + 1):
        for agent in (host, other, recorded):
            agent.update(number)
    moved = _norm(_weights(host) - start)
    found = {
        "training": _norm(_weights(other) - _weights(host)) / moved,
        "replay of a recording": _norm(_weights(recorded) - _weights(other)) / moved,
    }
    found["loaded on the device"] = _reloaded(host, other, members)
    found["loaded on the CPU"] = _reloaded(other, host, members)
    found["probes"] = _apart(_measured(host, members), _measured(other, members))
    batch = np.full((members, 64), 0.5)
    for agent in (host, other):
        agent.treat(range(members), 0, updates, agent.probe_batch(batch))
    found["reset"] = _apart({"weights": _weights(host)}, {"weights": _weights(other)})
    return found


def rounding(case: Case, device: torch.device, members: int = 2) -> dict[str, float]:
    """How far outputs and gradients in bfloat16 lie from those in float32, of equal weights on equal rows.

    The largest relative difference of a network's outputs, and the largest angle between gradients in degrees.
    """
    exact, rounded = filled(case, members, device), filled(ROUNDED[case.name], members, device)
    batch = exact.probe_batch(derive_generator(0, "probe").random((members, 256)))
    apart: list[float] = []
    degrees: list[float] = []
    pairs = list(zip(exact.trained, rounded.trained, exact.losses(batch), rounded.losses(batch), strict=True))
    for ours, theirs, loss, rounded_loss in pairs:
        inputs = exact.inputs(batch)[ours.name]
        outputs, others = (trained.online.forward(inputs).detach() for trained in (ours, theirs))
        apart.append(_norm(others - outputs) / _norm(outputs))
        gradients = [own.online.gradient(of).double() for own, of in ((ours, loss), (theirs, rounded_loss))]
        cosine = torch.nn.functional.cosine_similarity(*gradients, dim=0).clamp(-1, 1)
        degrees.append(float(cosine.arccos().rad2deg()))
    return {"outputs": max(apart), "degrees": max(degrees)}


def disagreements(found: Mapping[str, float]) -> list[str]:
    """What differs by more than rounding explains."""
    return [name for name, value in found.items() if not value <= AGREES.get(name, 0.0)]


def _weights(agent: Any) -> Tensor:
    return torch.cat([trained.online.flat.detach().cpu() for trained in agent.trained])


def _norm(values: Tensor) -> float:
    return float(values.double().norm())


def _reloaded(saved: Any, into: Any, members: int) -> float:
    """Loads a state, and returns the largest difference of what is saved again; 0 is what it must be."""
    tensors, plain = saved.state_dict()
    before = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
    into.load_state_dict(before, plain, range(members))
    into.replay.restore(saved.replay.meta(), [(0, saved.replay.export(0))], range(members))
    return _apart(before, {name: tensor.detach().cpu() for name, tensor in into.state_dict()[0].items()})


def _measured(agent: Any, members: int) -> dict[str, Tensor]:
    """All probes of all networks but those that try something, some of which take minutes on a CPU."""
    batch = agent.probe_batch(derive_generator(0, "probe").random((members, 256)))
    configs = [plugins.load("probes", kind).Config() for kind in plugins.names("probes")]
    probes = [config.build() for config in configs if config.needs is None]
    return {
        f"{view.name}/{name}": torch.as_tensor(value).detach().cpu()
        for view in agent.views(batch)
        for probe in probes
        for name, value in probe.measure(view).items()
    }


def _apart(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """The largest difference, relative to the largest value of its name; infinite where names differ."""
    if ours.keys() != theirs.keys():
        return float("inf")
    pairs: Sequence[tuple[Tensor, Tensor]] = [(ours[name].double(), theirs[name].double()) for name in ours]
    return max(float((a - b).nan_to_num().abs().max() / a.abs().nan_to_num().max().clamp_min(1e-12)) for a, b in pairs)
