"""Runs one segment of one population to its end, or to a request to stop; knows nothing of Ray.

Records go to the files of all trials that a member stands for. A commit first forces those files to disk, then names
their lengths, so that whatever was written after the last commit is cut off when the segment goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from plasticbench.platform.benchmark import Benchmark
from plasticbench.platform.checkpoint import CheckpointError, CheckpointStore, Commit, ReplayChunk
from plasticbench.platform.pictures import film_policies
from plasticbench.platform.plan import Plan, Segment
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.trainer import Trainer
from plasticbench.platform.weights import save_weights
from plasticbench.records import Record, RecordWriter


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a segment stands: for people only, never for decisions."""

    segment: str
    step: int
    from_step: int
    to_step: int
    num_members: int
    steps_per_s: float
    last_evaluation: float | None


class SegmentRun:
    """One segment from its own last commit, from the end of the segment it starts from, or from nothing."""

    def __init__(self, run_dir: Path, segment_id: str) -> None:
        self._directory = directory = RunDirectory(run_dir)
        plan: Plan = directory.plan()
        self.segment: Segment = next(segment for segment in plan.segments if segment.id == segment_id)
        self.benchmark: Benchmark = directory.benchmark()
        self._store = CheckpointStore(directory.checkpoints)
        torch.set_num_threads(max(1, int(self.segment.num_cpus)))
        self._own = self._store.latest(segment_id)
        self.is_complete = self._own is not None and self._own.complete
        if self.is_complete:
            return
        self._number = self._own.number + 1 if self._own else 0
        self._trainer = Trainer(self.benchmark, self.segment)
        self._chunks: tuple[ReplayChunk, ...] = ()
        self._saved_rows = 0
        start_bytes = self._load()
        trials = [trial for member in self.segment.members for trial in member.trials]
        self._writers = {t: RecordWriter(directory.record_file(t), start_bytes.get(t, 0)) for t in trials}
        self._began = (time.monotonic(), self._trainer.step)

    def _load(self) -> dict[str, int]:
        """Loads the state to begin with; returns the committed length of each record file."""
        if self._own is not None:
            self._restore(self._own, tuple(range(len(self.segment.members))))
            return self._own.record_bytes
        if self.segment.start is None:
            self._trainer.start()
            return {}
        origin = self._store.latest(self.segment.start)
        if origin is None or not origin.complete:
            raise CheckpointError(f"segment {self.segment.id}: {self.segment.start}, where it starts, is not complete")
        self._restore(origin, self.segment.parents)
        return origin.record_bytes

    def _restore(self, commit: Commit, parents: tuple[int, ...]) -> None:
        self._chunks = commit.inherited_chunks(parents)
        chunks = (
            (chunk.first_row, {name: tensor[list(chunk.parents)] for name, tensor in tensors.items()})
            for chunk, tensors in self._store.load_chunks(self._chunks)
        )
        tensors = self._store.load_tensors(commit.tensors)
        self._trainer.load_state_dict(tensors, commit.plain, chunks, step=commit.step, parents=parents)
        self._saved_rows = self._trainer.agent.replay.rows

    def run(
        self,
        should_stop: Callable[[], bool] = lambda: False,
        on_commit: Callable[[dict[str, int]], None] = lambda record_bytes: None,
    ) -> bool:
        """Trains; returns whether the segment is complete. ``on_commit`` hears the committed record lengths."""
        if self.is_complete:
            return True
        last_commit = time.monotonic()
        for records in self._trainer.advance():
            self._write(records)
            if should_stop():
                break
            if time.monotonic() - last_commit >= self.benchmark.checkpoint.every_s:
                on_commit(self._commit())
                last_commit = time.monotonic()
        self.is_complete = self._trainer.step >= self.segment.to_step
        if self.benchmark.tracking.weights == "final" and self._trainer.step >= self.benchmark.budget_steps:
            save_weights(self._trainer, self._directory)  # first, as nobody comes back to a complete segment
        on_commit(self._commit())
        if self.benchmark.pictures is not None and self._trainer.step >= self.benchmark.budget_steps:
            film_policies(self._trainer, self._directory)
        self._close()
        return self.is_complete

    def _write(self, records: Iterable[Record]) -> None:
        by_trial: dict[str, list[Record]] = {}
        for record in records:
            by_trial.setdefault(record.trial, []).append(record)
        for trial, own in by_trial.items():
            self._writers[trial].write(own)

    def _commit(self) -> dict[str, int]:
        trainer, name = self._trainer, self.segment.id
        record_bytes = {trial: writer.sync() for trial, writer in self._writers.items()}
        tensors, plain = trainer.state_dict()
        commit = Commit(
            segment=name,
            number=self._number,
            step=trainer.step,
            complete=trainer.step >= self.segment.to_step,
            record_bytes=record_bytes,
            plain=plain,
            tensors=self._store.save_tensors(name, f"state-{self._number:08d}", tensors),
            chunks=self._live_chunks(),
        )
        self._store.save(commit)
        self._number += 1
        return record_bytes

    def _live_chunks(self) -> tuple[ReplayChunk, ...]:
        """Saves the rows since the last commit and leaves out chunks of which no row is alive."""
        replay = self._trainer.agent.replay
        # The newest saved row was still open then, so it is saved again.
        first_row = max(self._saved_rows - 1, replay.oldest_row, 0)
        file = self._store.save_tensors(
            self.segment.id, f"replay-{first_row:012d}-{self._number:08d}", replay.export(first_row)
        )
        new = ReplayChunk(
            file=file,
            first_row=first_row,
            num_rows=replay.rows - first_row,
            parents=tuple(range(len(self.segment.members))),
        )
        self._saved_rows = replay.rows
        old = (chunk for chunk in self._chunks if chunk.first_row + chunk.num_rows > replay.oldest_row)
        self._chunks = (*old, new)
        return self._chunks

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._trainer.close()

    def progress(self) -> Progress:
        """Read from another thread while ``run`` is busy."""
        segment = self.segment
        if self.is_complete:
            return Progress(
                segment.id, segment.to_step, segment.from_step, segment.to_step, len(segment.members), 0, None
            )
        seconds = max(time.monotonic() - self._began[0], 1e-9)
        return Progress(
            segment=segment.id,
            step=self._trainer.step,
            from_step=segment.from_step,
            to_step=segment.to_step,
            num_members=len(segment.members),
            steps_per_s=(self._trainer.step - self._began[1]) / seconds,
            last_evaluation=self._trainer.last_evaluation,
        )
