"""The memory that a population asks for covers what its process really takes, with the replay full."""

import os
import subprocess
import sys

import pytest
from small_runs import prepare

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
    command = [sys.executable, "-W", "ignore", "-c", _MEASURE, str(tmp_path), segment.id]
    told = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True, check=True
    )
    ray_worker_bytes = 64 << 20  # what Ray adds to a process that it starts
    peak_bytes = int(told.stdout.splitlines()[-1]) + ray_worker_bytes
    assert 0.5 * segment.memory_bytes < peak_bytes <= segment.memory_bytes
