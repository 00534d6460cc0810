"""How soon commands answer: ``python -m benchmarks.starts [--rounds N]``. Prints JSON.

A tiny run (600 steps, 2 methods x 2 seeds) is made once; then all commands take turns, so that whatever else runs
meets each of them alike. Seconds are the least of all rounds, on the wall and of CPU, and stand beside ``plan``'s.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

_BENCHMARK = {
    "name": "tiny",
    "environments": [{"kind": "classic", "task": "CartPole-v1", "num_envs": 2}],
    "agent": {
        "kind": "dqn",
        "network": {"kind": "mlp", "hidden": [16, 16]},
        "learning_starts_steps": 50,
        "capacity_transitions": 300,
        "target_period_steps": 40,
    },
    "methods": {"none": {"kind": "none"}, "fire": {"kind": "fire"}},
    "resets": {"at": [0.5]},
    "seeds": 2,
    "budget_steps": 600,
    "evaluation": {"every_steps": 100, "episodes": 2, "num_envs": 2},
}


def _seconds(*arguments: str) -> tuple[float, float]:
    """Wall and CPU seconds of one command, with all that it starts and waits for."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "plasticbench", *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, cpu


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        config, out = f"{folder}/tiny.yaml", f"{folder}/run"
        Path(config).write_text(yaml.safe_dump(_BENCHMARK))
        first = _seconds("run", config, "--out", out)
        commands = {
            "help": ["--help"],
            "list treatments": ["list", "treatments"],
            "status": ["status", out],
            "leaderboard": ["leaderboard", out],
            "plan": ["plan", config],
            "resume, finished": ["resume", out],
            "run, finished": ["run", config, "--out", out],
        }
        least = {name: (float("inf"), float("inf")) for name in commands}
        for _ in range(rounds):
            for name, arguments in commands.items():
                least[name] = tuple(map(min, least[name], _seconds(*arguments)))  # type: ignore[assignment]
    plan = least["plan"]
    print(json.dumps({"the run itself": {"wall_s": round(first[0], 1), "cpu_s": round(first[1], 1)}}))
    for name, (wall_s, cpu_s) in least.items():
        ratios = {"wall_of_plan": round(wall_s / plan[0], 2), "cpu_of_plan": round(cpu_s / plan[1], 2)}
        print(json.dumps({name: {"wall_s": round(wall_s, 2), "cpu_s": round(cpu_s, 2), **ratios}}))


if __name__ == "__main__":
    main()
