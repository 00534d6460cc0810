"""Compressed frames against raw ones: batches are equal bit for bit, whatever happened, and through all chunks."""

import itertools

import numpy as np
import pytest
import torch
from replay_rows import Course, fill
from small_runs import facts, prepare, run_all, small

from plasticbench.agents import _blocks
from plasticbench.agents._compressed_replay import CompressedReplay
from plasticbench.agents._replay import PopulationReplay
from plasticbench.contracts.task import DiscreteActions, EnvSpec, EnvStep
from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.segment import SegmentRun

CPU = torch.device("cpu")
ATARI, MINATAR, RGB = ((84, 84), 4), ((4, 10, 10), 1), ((3, 24, 16), 1)
STORES = (PopulationReplay, CompressedReplay)


def spec(shape: tuple[int, ...], stack: int) -> EnvSpec:
    obs_shape = (stack, *shape) if stack > 1 else shape
    return EnvSpec(obs_shape=obs_shape, obs_dtype="uint8", actions=DiscreteActions(count=4), frame_stack=stack)


class Pictures(Course):
    """Frames with a few pixels that are not black, different in every frame."""

    def __init__(self, shape: tuple[int, ...], members: int, envs: int, stack: int, seed: int) -> None:
        self.frame_shape = shape
        super().__init__(members, envs, stack, seed)
        self.frames = self.frames.astype(np.uint8)

    def new_frame(self) -> np.ndarray:
        shape = (*self.shape, *self.frame_shape)
        return np.where(self.rng.random(shape) < 0.02, self.rng.integers(1, 256, shape), 0).astype(np.uint8)


def assert_equal_batches(replays: list[PopulationReplay], seed: int = 0, rows: int = 50) -> None:
    uniforms = np.random.default_rng(seed).random((replays[0].num_members, rows))
    first, *others = (replay.sample(uniforms) for replay in replays)
    for other in others:
        for found, expected in zip(other, first, strict=True):
            assert torch.equal(torch.as_tensor(found), torch.as_tensor(expected))


def filled(pictures, capacity, steps, members=2, envs=2, n_step=1, **happens):
    """A raw and a compressed replay that have seen the same."""
    shape, stack = pictures
    replays = [kind(spec(shape, stack), members, envs, capacity, CPU, n_step=n_step, discount=0.9) for kind in STORES]
    for replay in replays:
        fill(replay, Pictures(shape, members, envs, stack, seed=3), steps, **happens)
    return replays


@pytest.mark.parametrize("pictures", [ATARI, MINATAR, RGB])
@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("steps", [7, 31, 32, 150])
def test_batches_are_those_of_the_raw_replay_also_after_the_ring_began_anew(pictures, n_step, steps):
    replays = filled(pictures, 100, steps, n_step=n_step, restart_at=steps // 2, change_at=[steps // 3])
    assert_equal_batches(replays)


def test_blocks_of_rows_that_left_the_ring_are_dropped():
    _, replay = filled(MINATAR, 100, 400)
    assert len(replay._blocks) <= 50 / _blocks.BLOCK_ROWS + 2
    replay.clear()
    assert not replay._blocks


@pytest.mark.parametrize("steps", [3, 15, 16, 40])
def test_a_cleared_replay_begins_anew(steps):
    replays = filled(ATARI, 100, steps)
    for replay in replays:
        replay.clear()
        fill(replay, Pictures((84, 84), 2, 2, 4, seed=4), 40)
    assert_equal_batches(replays)


SMALL = ((20, 20), 4)


@pytest.mark.parametrize("written", list(itertools.product(STORES, repeat=3)))
@pytest.mark.parametrize("cleared", [False, True])
def test_chunks_of_either_store_in_any_order_restore_either_for_forked_members(written, cleared):
    """A run may change its store whenever it is resumed: each commit goes on from what another one wrote."""
    shape, stack = SMALL
    parents, meta, course = [1, 0, 1], {}, Pictures(shape, 2, 2, stack, seed=5)
    replay, chunks, saved = PopulationReplay(spec(shape, stack), 2, 2, 60, CPU), [], 0
    fill(replay, course, 23)
    for kind in written:
        again = kind(spec(shape, stack), 2, 2, 60, CPU)
        again.restore(replay.meta(), [(replay.oldest_row, replay.export(0))], [0, 1])
        replay = again
        if cleared:
            replay.clear()
        fill(replay, course, 9)
        first = max(saved - 1, replay.oldest_row, 0)
        chunks.append((first, replay.export(first)))
        meta, saved = replay.meta(), replay.rows
    chunks = [(first, {name: t[parents] for name, t in chunk.items()}) for first, chunk in chunks]
    twins = [kind(spec(shape, stack), 3, 2, 60, CPU) for kind in STORES]
    for twin in twins:
        twin.restore(meta, chunks, parents)
    assert_equal_batches(twins)
    uniforms = np.random.default_rng(0).random((2, 30))
    assert torch.equal(twins[0].sample(uniforms[parents]).frames, replay.sample(uniforms).frames[parents])
    for _ in range(35):
        action, step = course.rng.integers(0, 4, course.shape), course.step()
        for twin in twins:
            twin.observe(action[parents], EnvStep(*(field[parents] for field in step)))
    assert_equal_batches(twins)


def test_forks_share_the_blocks_of_their_past_and_a_commit_writes_them_as_they_are():
    _, replay = filled(ATARI, 400, 60)
    chunk = {name: values[[0, 0, 1, 0]] for name, values in replay.export(0).items()}
    forked = CompressedReplay(spec((84, 84), 4), 4, 2, 400, CPU)
    forked.restore(replay.meta(), [(0, chunk)], [0, 0, 1, 0])
    number = min(forked._blocks)
    first, second, other, third = (forked._blocks[number][2 * member] for member in range(4))
    assert first is second is third
    assert other is not first
    assert forked._blocks[number][:2] == replay._blocks[number][:2]
    assert forked.export(0).keys() == chunk.keys()
    assert all(torch.equal(values, chunk[name]) for name, values in forked.export(0).items())


def test_what_is_exported_of_a_row_is_what_its_block_takes():
    _, replay = filled(ATARI, 400, 100)
    written = sum(values.nbytes for values in replay.export(0).values())
    assert 0.8 < replay.row_bytes * replay.rows / written < 1.25


def test_frames_of_another_codec_are_named():
    _, replay = filled(MINATAR, 100, 40)
    chunk = {name.replace("lz4", "zpaq"): values for name, values in replay.export(0).items()}
    for kind in STORES:
        fresh = kind(spec((4, 10, 10), 1), 2, 2, 100, CPU)
        with pytest.raises(ValueError, match="compressed by zpaq, and this version reads lz4"):
            fresh.restore(replay.meta(), [(0, chunk)], [0, 1])


def pictured(store: str) -> dict:
    """DQN on MinAtar with a fork half-way and a ring that begins anew before it."""
    return small(
        environments=[{"kind": "minatar", "task": "Breakout-MinAtar", "num_envs": 2}],
        agent=small()["agent"]
        | {"network": {"kind": "minatar_cnn"}, "replay_ratio": 0.25, "capacity_transitions": 120},
        execution={"replay_store": store},
    )


def test_a_run_gives_equal_records_whichever_store_holds_its_frames_and_wherever_it_was_changed(tmp_path):
    raw = run_all(tmp_path / "raw", pictured("raw"))
    plan = prepare(tmp_path / "changed", pictured("raw"))
    directory = RunDirectory(tmp_path / "changed")
    for number, segment in enumerate(plan.segments):
        for store in itertools.cycle(["compressed", "raw", "compressed"][number:]):
            directory.create(from_dict(pictured(store)), plan)
            countdown = itertools.count(1)
            run = SegmentRun(directory.path, segment.id)
            assert isinstance(run._trainer.agent.replay, CompressedReplay) == (store == "compressed")
            if run.run(should_stop=lambda countdown=countdown: next(countdown) >= 37):
                break
    assert facts(directory.path, plan) == facts(tmp_path / "raw", raw)


def test_a_damaged_chunk_is_passed_over_for_the_commit_before(tmp_path, caplog):
    plan = prepare(tmp_path, pictured("compressed"))
    for stop in (20, 40):
        countdown = itertools.count(1)
        SegmentRun(tmp_path, plan.segments[0].id).run(should_stop=lambda c=countdown, n=stop: next(c) >= n)
    newest = max((tmp_path / "checkpoints" / plan.segments[0].id).glob("replay-*"))
    damaged = bytearray(newest.read_bytes())
    damaged[-1] ^= 1
    newest.write_bytes(damaged)
    assert SegmentRun(tmp_path, plan.segments[0].id)._trainer.step == 40
    assert f"{newest.name}: damaged: its checksum differs" in caplog.text
    assert newest.read_bytes() == damaged
