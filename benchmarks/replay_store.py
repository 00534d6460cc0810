"""What compressing a replay's frames saves and costs.

    python -m benchmarks.replay_store codecs                  # random play: bytes and time by codec and block
    python -m benchmarks.replay_store codecs --run DIR        # the frames that a run's agents met last
    python -m benchmarks.replay_store batches                 # a batch of a Nature CNN, compressed over raw
    python -m benchmarks.replay_store ahead                   # the same opened one update ahead, on a core that is idle
    python -m benchmarks.replay_store commits                 # the share of training for which commits block it

Times are of CPU, of one thread, best of several rounds, but for commits, which wait for the disk. zstandard and blosc2
are compared where they are installed; the product needs neither.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from plasticbench.agents._ahead import Ahead
from plasticbench.agents._replay import PopulationReplay, frame_pieces
from plasticbench.agents._replay_stores import replay_class
from plasticbench.agents._uniforms import MemberUniforms
from plasticbench.contracts.task import EnvSpec, EnvStep
from plasticbench.envs import atari
from plasticbench.seeding import Streams

NUM_ENVS, WARM_STEPS = 4, 100
PIXELS = atari.Config(task="Asterix").spec


class Codec(NamedTuple):
    """A block to bytes, and bytes with the block's length back."""

    compress: Callable[[bytes], bytes]
    open: Callable[[bytes, int], Any]


def codecs() -> dict[str, Codec]:
    """Those that are installed."""
    lz4: Any = importlib.import_module("lz4.block")
    opened = lambda data, size: lz4.decompress(data, uncompressed_size=size)  # noqa: E731
    found = {"lz4": Codec(lambda block: lz4.compress(block, store_size=False), opened)}
    for level in (3, 9):
        options = {"mode": "high_compression", "compression": level, "store_size": False}
        found[f"lz4 thorough {level}"] = Codec(lambda block, given=options: lz4.compress(block, **given), opened)
    try:
        zstd: Any = importlib.import_module("zstandard")
    except ImportError:
        return found
    reader = zstd.ZstdDecompressor()
    for level in (1, 3):
        found[f"zstd {level}"] = Codec(
            zstd.ZstdCompressor(level=level).compress, lambda data, _: reader.decompress(data)
        )
    return found | _blosc2()


def _blosc2() -> dict[str, Codec]:
    try:
        blosc2: Any = importlib.import_module("blosc2")
    except ImportError:
        return {}
    plain = {"typesize": 1, "filters": [blosc2.Filter.NOFILTER], "nthreads": 1, "clevel": 1}
    return {
        f"blosc2 {codec.name.lower()}": Codec(
            lambda block, codec=codec: blosc2.compress2(block, codec=codec, **plain),
            lambda data, _: blosc2.decompress2(data, nthreads=1),
        )
        for codec in (blosc2.Codec.ZSTD, blosc2.Codec.LZ4HC)
    }


def random_play(game: str, num_steps: int) -> np.ndarray:
    """Frames ``[E, steps, 84, 84]`` of environments that act by chance, without how their first episodes begin."""
    env = atari.Config(task=game, num_envs=NUM_ENVS).build(list(range(NUM_ENVS)), 1)
    rng, count, frames = np.random.default_rng(0), env.spec.actions.count, []  # type: ignore[union-attr]
    env.reset()
    for step in range(WARM_STEPS + num_steps):
        frame = env.step(rng.integers(count, size=NUM_ENVS)).obs[:, -1]
        if step >= WARM_STEPS:
            frames.append(frame.copy())
    env.close()
    return np.stack(frames, axis=1)


def of_run(folder: Path, num_steps: int) -> Iterator[tuple[str, np.ndarray]]:
    """The newest frames ``[E, steps, ...]`` of the first member of each population that wrote its last commit."""
    import safetensors.torch

    for segment in sorted((folder / "checkpoints").iterdir()):
        manifests = sorted(segment.glob("commit-*.json"))
        chunks = json.loads(manifests[-1].read_bytes())["chunks"] if manifests else []
        found: list[np.ndarray] = []
        for chunk in chunks:
            tensors = safetensors.torch.load_file(folder / "checkpoints" / chunk["file"]["path"])
            num_envs = tensors["age"].shape[1] // chunk["num_rows"]
            shape = PIXELS.frame_shape
            for _, frames in frame_pieces(chunk["first_row"], tensors, num_envs, shape):
                found.append(frames[0].numpy().reshape(-1, num_envs, *shape).swapaxes(0, 1))
        if found:
            yield segment.name, np.concatenate(found, axis=1)[:, -num_steps:]


def _best_us(work: Callable[[], Any], rounds: int, count: int) -> float:
    """CPU time per item."""
    times = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return 1e6 * min(times) / count


def measure_codecs(name: str, frames: np.ndarray) -> None:
    """One row per codec and length of block."""
    for rows in (8, 16, 32):
        starts = range(0, frames.shape[1] - rows + 1, rows)
        blocks = [np.ascontiguousarray(own[start : start + rows]).tobytes() for own in frames for start in starts]
        size = len(blocks[0])
        for codec_name, codec in codecs().items():
            packed = [codec.compress(block) for block in blocks]
            compress_us = _best_us(lambda b=blocks, c=codec: [c.compress(one) for one in b], 2, rows * len(blocks))
            open_us = _best_us(lambda p=packed, c=codec, n=size: [c.open(one, n) for one in p], 5, len(blocks))
            lengths = [len(one) for one in packed]
            print(
                f"| {name} | {rows} | {codec_name} | {size / statistics.mean(lengths):.1f} | "
                f"{size / max(lengths):.1f} | {compress_us:.1f} | {open_us:.1f} |",
                flush=True,
            )


def filled(compressed: bool, members: int, frames: np.ndarray, rows: int) -> PopulationReplay:
    """A replay of environments that show ``frames`` over and over."""
    spec = EnvSpec(**{name: getattr(PIXELS, name) for name in ("obs_shape", "obs_dtype", "actions", "frame_stack")})
    replay = replay_class(compressed)(spec, members, NUM_ENVS, rows * NUM_ENVS, torch.device("cpu"))
    shape, stack = (members, NUM_ENVS), spec.frame_stack
    zeros, never = np.zeros(shape, np.float32), np.zeros(shape, bool)
    for row in range(rows - 2 * stack):
        shown = np.stack([frames[:, (row + age) % frames.shape[1]] for age in range(stack)], axis=1)
        obs = np.broadcast_to(shown, (members, *shown.shape))
        if row == 0:
            replay.begin(obs)
        replay.observe(np.zeros(shape, np.int64), EnvStep(obs, zeros, zeros, never, never))
    return replay


def batch_ms(replay: PopulationReplay, rounds: int = 60) -> float:
    """Median CPU time of a batch of 32."""
    rng, times = np.random.default_rng(0), []
    for _ in range(rounds):
        uniforms = rng.random((replay.num_members, 32))
        began = time.process_time()
        replay.sample(uniforms)
        times.append(time.process_time() - began)
    return 1e3 * statistics.median(times)


def measure_batches() -> None:
    """Milliseconds of a batch by number of members, in turn."""
    frames, found = random_play("BeamRider", 512), {}
    for members in (1, 4):
        replays = {name: filled(name == "compressed", members, frames, 1024) for name in ("raw", "compressed")}
        times = {name: min(batch_ms(replay) for _ in range(3)) for name, replay in replays.items()}
        found[f"M={members}"] = {f"{name}_ms": round(value, 2) for name, value in times.items()}
    print(json.dumps(found, indent=1))


def measure_ahead(rounds: int = 4, num_updates: int = 8) -> None:
    """Wall-clock time of an update within bursts, for work that waits as long as a GPU or a training core would."""
    frames = random_play("BeamRider", 400)
    print("| members | opener threads | ms a batch, nothing else to do | ms waited beside 20 ms of training |")
    print("| ---: | ---: | ---: | ---: |")
    for members, num_threads in itertools.product((3, 10), (0, 1, 2)):
        replay: Any = filled(True, members, frames, 300)
        if num_threads > 1:
            replay.open_with(num_threads)
        draws = MemberUniforms([Streams(seed) for seed in range(members)], "replay", (32,))
        ahead = Ahead(replay.sample, draws, torch.device("cpu"))
        waited: dict[float, list[float]] = {0.0: [], 0.02: []}
        for training_s, left in itertools.product(waited, [*reversed(range(num_updates))] * rounds):
            start = time.perf_counter()
            ahead.batch(more=left > 0 and num_threads > 0)
            waited[training_s].append(time.perf_counter() - start)
            time.sleep(training_s)
        idle, beside = (1e3 * statistics.median(taken) for taken in waited.values())
        print(f"| {members} | {num_threads} | {idle:.2f} | {beside:.2f} |")
        ahead.close()
        replay.close()


def commit_benchmark(store: str) -> dict[str, Any]:
    """Ten members with a Nature CNN."""
    return {
        "name": "commits",
        "environments": [{"kind": "atari", "preset": "fire_paper_dqn", "task": "BeamRider", "num_envs": 4}],
        "agent": {"kind": "dqn", "preset": "fire_paper_dqn", "learning_starts_steps": 4_000}
        | {"capacity_transitions": 10_000},
        "methods": {"none": {"kind": "none"}},
        "seeds": 10,
        "budget_steps": 2_500_000,
        "evaluation": {"every_steps": 2_500_000, "steps": 4},
        "probes": {"every_steps": 2_500_000, "batch_rows": 8},
        "execution": {"replay_store": store},
    }


def measure_commits(num_steps: int) -> None:
    """Milliseconds of a commit after so many further steps of the environments, and their share of its period."""
    from plasticbench.platform.definition.reading import from_dict
    from plasticbench.platform.planning.plan import make_plan
    from plasticbench.platform.rundir import RunDirectory
    from plasticbench.platform.training.segment import SegmentRun

    found = {}
    for store in ("raw", "compressed"):
        with tempfile.TemporaryDirectory() as folder:
            benchmark = from_dict(commit_benchmark(store))
            plan = make_plan(benchmark)
            RunDirectory(Path(folder)).create(benchmark, plan)
            run = SegmentRun(Path(folder), plan.segments[0].id)
            blocked, busy, written, course = [], [], [], run._trainer.advance()
            with ThreadPoolExecutor(1) as beside:
                for _ in range(4):
                    for records in itertools.islice(course, num_steps):
                        run._write(records)
                    began, began_busy = time.perf_counter(), time.thread_time()
                    run._commit(beside)
                    blocked.append(time.perf_counter() - began)
                    busy.append(time.thread_time() - began_busy)
                    run._writing.result()  # type: ignore[union-attr]
                    written.append(time.perf_counter() - began)
            chunk = max(run._chunks[1:], key=lambda chunk: chunk.first_row).file.num_bytes or 0
        seconds = statistics.median(blocked[1:])
        share = {f"share_at_{period:g}_s": round(seconds / period, 4) for period in (30.0, 600.0)}
        named = {"blocked": blocked, "blocked_cpu": busy, "written": written}
        times = {f"{name}_ms": round(1000 * statistics.median(found[1:])) for name, found in named.items()}
        times["first_blocked_ms"] = round(1000 * blocked[0])
        found[store] = {**times, "chunk_mb": round(chunk / 1e6, 1), **share}
    print(json.dumps(found, indent=1))


def main() -> None:
    """Prints a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["codecs", "batches", "ahead", "commits"])
    parser.add_argument("--games", nargs="*", default=["Asterix", "BeamRider", "DemonAttack"])
    parser.add_argument("--run", type=Path, help="a run directory whose replays hold Atari frames")
    parser.add_argument(
        "--steps", type=int, default=800, help="of the environments: frames of each, or between commits"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "batches":
        measure_batches()
    elif given.what == "ahead":
        measure_ahead()
    elif given.what == "commits":
        measure_commits(given.steps)
    else:
        print("| frames | block rows | codec | ratio | worst block | us to compress a frame | us to open a block |")
        print("| --- | ---: | --- | ---: | ---: | ---: | ---: |")
        plays = (
            of_run(given.run, given.steps)
            if given.run
            else ((game, random_play(game, given.steps)) for game in given.games)
        )
        for name, frames in plays:
            measure_codecs(name, frames)


if __name__ == "__main__":
    main()
