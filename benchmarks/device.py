"""What a GPU makes of the learning core: first whether it agrees with the CPU, then how fast it is.

    python -m benchmarks.device                    # on CUDA, under 8 minutes; needs torch and numpy alone
    python -m benchmarks.device --out device.json  # the same, kept
    python -m benchmarks.device --dry              # on a CPU, under 2 minutes: all but the calls of CUDA

Correctness: for DQN (MLP, Nature CNN) and SAC (MLP, SimBa), two members are trained on both devices from the same
streams; their weights, what a recorded update makes of them, probes, a reset, and checkpoints of one device loaded on
the other are compared; and passes that are rounded to bfloat16 with those that are not. Speed: member-updates per
second of populations, made one by one and replayed from a recording, with the memory they take, operations per update,
launches of the host, and the share of the floor: the larger of bytes over bandwidth and operations over peak, both of
which are measured first. Prints a table and one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.device_cases import (
    AGREES,
    CASES,
    ROUNDED,
    Case,
    differences,
    disagreements,
    filled,
    recorder_for,
    rounding,
)
from benchmarks.device_floor import Limits, floor_s, launches, limits, operations
from benchmarks.updates import PIXELS, EagerLoop
from plasticbench.learning import convolutions

MEMBERS = (1, 4, 16, 64, 256)
TARGETS = {("dqn_nature", 16): 20, ("dqn_nature", 64): 40, ("sac_simba", 16): 10}
"""Member-updates per second over those of one member in a plain loop of single calls."""
FIGURE_4A_MEMBER_STEPS = 112.5e6
NEEDS_CUDA = (
    "no CUDA device was found. Run this on a machine with an NVIDIA GPU, or add --dry to run all but CUDA's calls"
)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_per_call(call: Any, device: torch.device, seconds: float) -> float:
    """The best of three stretches, each at least ``seconds`` long; the first calls, which record, are left out."""
    group = 4 if device.type == "cuda" else 1  # calls between two looks at the clock, which wait for the device
    for _ in range(4):
        call()
    best = float("inf")
    for _ in range(3):
        synchronize(device)
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds / 3 or count == 0:
            for _ in range(group):
                call()
            count += group
            synchronize(device)
        best = min(best, (time.perf_counter() - start) / count)
    return best


def measured(case: Case, members: int, device: torch.device, limit: Limits, seconds: float) -> dict[str, Any]:
    """Rates of one population, made and replayed."""
    row: dict[str, Any] = {"case": case.name, "members": members}
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    agent = filled(case, members, device)
    row["operations"] = operations(agent)
    least = floor_s(agent, limit)
    for way in ("made", "replayed"):
        if way == "replayed":
            agent.capture_updates(recorder_for(device))
        taken = seconds_per_call(agent.update, device, seconds)
        row[f"member_updates_per_s_{way}"] = round(members / taken, 1)
        row[f"share_of_floor_{way}"] = round(least / taken, 3)
        row[f"launches_{way}"] = launches(agent.update, device)
    row["memory_mib"] = round(torch.cuda.max_memory_allocated(device) / 2**20) if device.type == "cuda" else None
    return row


def rates(device: torch.device, args: argparse.Namespace, began: float) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of all cases, and what there was no time or memory for."""
    rows, left_out, limit = [], [], limits(device)
    for members in args.members:
        for case in (*CASES, *ROUNDED.values()):
            name = f"{case.name} M={members}"
            if time.monotonic() - began > args.limit_s:
                left_out.append(f"{name}: no time")
                continue
            try:
                rows.append(measured(case, members, device, limit, args.seconds))
            except torch.cuda.OutOfMemoryError:
                left_out.append(f"{name}: not enough memory")
                continue
            if len(rows) == 1:
                print("  ".join(rows[0]))
            print("  ".join(f"{value!s:>{len(key)}}" for key, value in rows[-1].items()), flush=True)
    return rows, left_out


def single(device: torch.device, seconds: float) -> dict[str, float]:
    """Updates per second of one member without a population: a plain loop, where there is one, or made one by one."""
    loop = EagerLoop(EagerLoop.nature, PIXELS, device)
    found = {"dqn_nature": 1 / seconds_per_call(loop.update, device, seconds)}
    simba = next(case for case in CASES if case.name == "sac_simba")
    found["sac_simba"] = 1 / seconds_per_call(filled(simba, 1, device).update, device, seconds)
    return {name: round(value, 1) for name, value in found.items()}


def conclusions(rows: list[dict[str, Any]], one: dict[str, float]) -> dict[str, Any]:
    """Measured ratios beside their targets, and the hours that Figure 4a's updates take."""
    best = {(row["case"], row["members"]): row["member_updates_per_s_replayed"] for row in rows}
    ratios = {
        f"{name} M={members} over one member": {
            "ratio": round(best[name, members] / one[name], 1),
            "target": target,
        }
        for (name, members), target in TARGETS.items()
        if (name, members) in best
    }
    nature = [rate for (name, _), rate in best.items() if name == "dqn_nature"]
    hours = FIGURE_4A_MEMBER_STEPS / max(nature) / 3600 if nature else None
    return {"ratios": ratios, "figure_4a_hours_of_updates_alone": hours and round(hours, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="on a CPU, with few updates and members")
    parser.add_argument("--seconds", type=float, help="per measurement; by default 1.5, and 0.05 with --dry")
    parser.add_argument("--members", type=int, nargs="*", help=f"by default {MEMBERS}, and (1, 2) with --dry")
    parser.add_argument("--updates", type=int, help="of each comparison; by default 200, and 5 with --dry")
    parser.add_argument("--limit-s", type=float, help="begin no measurement after so many seconds; 400, 60 with --dry")
    parser.add_argument("--out", type=Path, help="a file for the JSON object")
    args = parser.parse_args()
    if not args.dry and not torch.cuda.is_available():
        sys.exit(f"benchmarks.device: {NEEDS_CUDA}")
    usual = {"seconds": (1.5, 0.05), "members": (MEMBERS, (1, 2)), "updates": (200, 5), "limit_s": (400, 60)}
    for name, values in usual.items():
        if not getattr(args, name):
            setattr(args, name, values[args.dry])
    device, began = torch.device("cpu" if args.dry else "cuda"), time.monotonic()
    torch.backends.cudnn.allow_tf32 = False
    print(f"largest differences that rounding explains: {AGREES}, 0 for what is loaded")
    agreement, failed = {}, []
    for case in CASES:
        agreement[case.name] = differences(case, device, args.updates)
        failed += [f"{case.name}: {name}" for name in disagreements(agreement[case.name])]
        print(case.name, {name: f"{value:.1e}" for name, value in agreement[case.name].items()}, flush=True)
    rounded = {case.name: rounding(case, device) for case in CASES if case.name in ROUNDED}
    print(f"how far bfloat16 is from float32: {rounded}", flush=True)
    rows, left_out = rates(device, args, began)
    one = single(device, args.seconds)
    result = {
        "benchmark": "device",
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu (dry)",
        "torch": torch.__version__,
        "differences": agreement,
        "disagreements": failed,
        "rounding": rounded,
        "rows": rows,
        "left_out": left_out,
        "updates_per_s_of_one": one,
        **conclusions(rows, one),
        "convolutions": convolutions.choices(),
        "seconds": round(time.monotonic() - began),
    }
    print(json.dumps(result))
    if args.out:
        args.out.write_text(json.dumps(result, indent=1))
    sys.exit(f"benchmarks.device: the devices disagree on {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
