"""The memory that a population asks for covers what its process really takes, with the replay full."""

import os
import subprocess
import sys

import pytest
from small_runs import prepare

from plasticbench.learning.blueprint import Blueprint
from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.disk import disk_use
from plasticbench.platform.planning.plan import make_plan

_MEASURE = """
import sys
from pathlib import Path
import numpy as np, torch
from plasticbench.platform.cluster import runner  # what every worker imports
from plasticbench.platform.training.segment import SegmentRun

run = SegmentRun(Path(sys.argv[1]), sys.argv[2])
for held in vars(run._trainer.agent.replay).values():  # memory counts once it is touched
    if isinstance(held, torch.Tensor):
        held.zero_()
    elif isinstance(held, np.ndarray):
        held[...] = 0
run.run(lambda: run._trainer.step >= 400)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) * 1024)
"""
_WHOLE = """
import sys
from pathlib import Path
from plasticbench.platform.cluster import runner
from plasticbench.platform.training.segment import SegmentRun

SegmentRun(Path(sys.argv[1]), sys.argv[2]).run()
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) * 1024)
"""
ATARI = {
    "environments": [{"kind": "atari", "task": "Asterix", "num_envs": 8}],
    "agent": {
        "kind": "dqn",
        "network": {"kind": "nature_cnn"},
        "learning_starts_steps": 200,
        "replay_ratio": 0.25,
        "capacity_transitions": 100_000,
    },
}
ON_POLICY = {
    "environments": [{"kind": "atari", "task": "Asterix", "num_envs": 8}],
    "agent": {"kind": "ppo", "preset": "cleanrl_ppo_atari", "rollout_steps": 400, "minibatches": 1},
}
HUMANOID = {
    "environments": [{"kind": "humanoid", "task": "h1-stand-v0"}],
    "agent": {"kind": "sac", "preset": "fire_paper_sac", "learning_starts_steps": 390, "capacity_transitions": 100_000},
}


@pytest.mark.slow
@pytest.mark.parametrize(("parts", "seeds"), [(ATARI, 1), (HUMANOID, 2), (ON_POLICY, 2)])
def test_a_population_stays_within_the_memory_that_it_asks_for(tmp_path, parts, seeds):
    cadence = {"evaluation": {"every_steps": 400, "steps": 80}, "probes": {"every_steps": 200}}
    data = {"name": "memory", "methods": {"none": {"kind": "none"}}, "seeds": seeds, "budget_steps": 100_000}
    plan = prepare(tmp_path, data | cadence | parts)
    (segment,) = plan.segments
    peak_bytes = _peak_bytes(_MEASURE, tmp_path, segment.id)
    assert 0.5 * segment.memory_bytes < peak_bytes <= segment.memory_bytes


@pytest.mark.slow
def test_a_run_with_compressed_frames_takes_the_memory_and_the_disk_that_its_plan_says(tmp_path):
    data = {
        "name": "compressed",
        "environments": [{"kind": "atari", "task": "BeamRider", "num_envs": 4}],
        "agent": ATARI["agent"] | {"learning_starts_steps": 2_900, "capacity_transitions": 3_000},
        "methods": {"none": {"kind": "none"}},
        "seeds": 2,
        "budget_steps": 3_000,
        "evaluation": {"every_steps": 3_000, "steps": 80},
        "probes": {"every_steps": 1_500},
        "tracking": {"weights": "none"},
        "checkpoint": {"every_s": 1},  # so that two commits are left, as the plan counts
        "execution": {"replay_store": "compressed"},
    }
    plan = prepare(tmp_path, data)
    (segment,) = plan.segments
    peak_bytes = _peak_bytes(_WHOLE, tmp_path, segment.id)
    assert peak_bytes == pytest.approx(segment.memory_bytes, rel=0.3)
    left_bytes = sum(file.stat().st_size for file in (tmp_path / "checkpoints").rglob("*") if file.is_file())
    assert left_bytes == pytest.approx(disk_use(from_dict(data), plan).parts["checkpoints"], rel=0.3)


def _supervised(network, batch_rows, **environment):
    images = {"kind": "images", "data": {"kind": "digits"}, "stream": {"kind": "stationary"}}
    return {
        "name": "supervised",
        "environments": [environment or images],
        "learner": {"kind": "classifier", "network": network, "batch_rows": batch_rows},
        "methods": {"none": {"kind": "none"}},
        "seeds": 4,
        "budget_updates": 3,
        "evaluation": {"every_updates": 3},
        "records": {"every_updates": 3},
        "probes": {"every_updates": 3, "batch_rows": 32, "kinds": ["dfi", "dormant_ratio", "srank", "weight_norm"]},
    }


def test_an_error_while_a_module_is_measured_is_not_taken_for_one_that_keeps_nothing(monkeypatch):
    def broken(blueprint):
        raise AttributeError("no such attribute")

    monkeypatch.setattr(Blueprint, "row_bytes", property(broken))
    with pytest.raises(AttributeError, match="no such attribute"):
        make_plan(from_dict(_supervised({"kind": "resnet18", "width": 4}, 8)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "batch_rows"),
    [
        ({"kind": "mlp"}, 32),
        ({"kind": "resnet18", "width": 16}, 512),  # mostly what passes keep
        ({"kind": "resnet18", "width": 32}, 16),  # mostly weights
        ({"kind": "vit_tiny", "width": 96, "num_blocks": 4}, 512),
    ],
)
def test_networks_of_images_take_the_memory_that_their_plan_says(tmp_path, network, batch_rows):
    (segment,) = prepare(tmp_path, _supervised(network, batch_rows)).segments
    assert _peak_bytes(_WHOLE, tmp_path, segment.id) == pytest.approx(segment.memory_bytes, rel=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("probe", ["dfi", "hessian_trace"])
def test_a_network_of_tokens_takes_the_memory_that_its_plan_says(tmp_path, probe):
    text = tmp_path / "text"
    text.write_text("".join(chr(97 + i * i % 23) for i in range(4_000)))
    tokens = {"kind": "tokens", "corpora": [str(text)], "mixtures": [[1.0]], "context": 64}
    data = _supervised({"kind": "gpt"}, 32, **tokens)
    kinds = {"every_updates": 3, "batch_rows": 32, "kinds": [{"kind": probe}]}
    (segment,) = prepare(tmp_path / "run", data | {"probes": kinds}).segments
    assert _peak_bytes(_WHOLE, tmp_path / "run", segment.id) == pytest.approx(segment.memory_bytes, rel=0.3)


def _peak_bytes(code, *arguments) -> int:
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    told = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True, check=True
    )
    ray_worker_bytes = 64 << 20  # what Ray adds to a process that it starts
    return int(told.stdout.splitlines()[-1]) + ray_worker_bytes
