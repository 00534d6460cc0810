"""Runs one segment of one population to its end, or to a request to stop; knows nothing of Ray.

Records go to the files of all trials that a member stands for. A commit first forces those files to disk, then names
their lengths, so that whatever a death left behind the last commit is cut off when the segment goes on.

Training waits while what it changes is copied, and goes on while the copy becomes files. Until the manifest of a commit
is there, the one before is the newest, and no other is begun.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from plasticbench import storage
from plasticbench.contracts.learner import SavedReplay
from plasticbench.platform.definition.reading import Benchmark
from plasticbench.platform.planning.lineage import PIECE_BYTES
from plasticbench.platform.planning.plan import Segment
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.beginning import begin_from, replay_from, stored_start
from plasticbench.platform.training.checkpoint import (
    CheckpointError,
    CheckpointStore,
    Commit,
    ReplayChunk,
    StorageError,
)
from plasticbench.platform.training.ends import sound_end
from plasticbench.platform.training.inherited import inherit_records
from plasticbench.platform.training.journal import ActionJournal
from plasticbench.platform.training.machine import machine
from plasticbench.platform.training.pictures import film_policies
from plasticbench.platform.training.trainer import Trainer
from plasticbench.platform.training.weights import save_weights
from plasticbench.records import Record, RecordWriter
from plasticbench.storage import Location
from plasticbench.tensor_files import Copies

_IO_THREADS = 16
ACTIONS = "environment/actions"
"""What courses call the past actions of their environments ``[T, N, ...]``."""

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def _at_once(function: Callable[[_In], _Out], items: Iterable[_In]) -> list[_Out]:
    # A population can stand for hundreds of trials, and each of their files waits for a disk or a server.
    with ThreadPoolExecutor(_IO_THREADS) as pool:
        return list(pool.map(function, items))


def _pieces(replay: SavedReplay, first_row: int) -> list[tuple[int, int]]:
    """Rows of a replay that says how large they are, in pieces that the host can hold while they pass."""
    row_bytes = getattr(replay, "row_bytes", 0)
    if not row_bytes:
        return [(first_row, replay.rows)]
    step = max(1, PIECE_BYTES // row_bytes)
    starts = range(first_row, max(replay.rows, first_row + 1), step)
    return [(start, min(start + step, replay.rows)) for start in starts]


_Rows = tuple[tuple[int, int], Mapping[str, Tensor]]
"""Where rows of a replay begin and end, and what it exports of them."""


def _exported(replay: SavedReplay, bounds: tuple[int, int]) -> Mapping[str, Tensor]:
    first_row, until_row = bounds
    if until_row == replay.rows:
        return replay.export(first_row)
    rows: Mapping[str, Tensor] = replay.export(first_row, until_row)  # type: ignore[call-arg]  # it has ``row_bytes``
    return rows


@dataclass(frozen=True, kw_only=True, slots=True)
class _Held:
    """A commit in memory; ``chunks`` are on the disk already, ``num_records`` those of each trial that are not."""

    number: int
    step: int
    tensors: Mapping[str, Tensor]
    plain: dict[str, Any]
    num_records: Sequence[int]
    rows: Sequence[_Rows]
    chunks: Sequence[ReplayChunk]
    until_row: int
    actions: np.ndarray | None
    first_action_step: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a segment stands, for people; and the committed length of each trial's record file, for the mirror.

    ``num_overvalued`` are the members whose values diverged (``analysis/divergence.py``) since this process took over;
    ``num_not_finite`` those of which something is not finite (``analysis/not_finite.py``).
    """

    segment: str
    step: int
    from_step: int
    to_step: int
    num_members: int
    steps_per_s: float
    last_evaluation: float | None
    record_bytes: Mapping[str, int]
    num_overvalued: int = 0
    num_not_finite: int = 0


class SegmentRun:
    """One segment from its own last commit, from the end of the segment it starts from, or from nothing."""

    def __init__(self, run_dir: Location, segment: Segment | str, benchmark: Benchmark | None = None) -> None:
        """An id is looked up in the plan; whoever runs many segments hands over segment and benchmark instead."""
        self._directory = directory = RunDirectory(run_dir)
        self.segment = segment if isinstance(segment, Segment) else directory.plan().segment(segment)
        directory.open_modules(benchmark)
        self.benchmark = benchmark or directory.benchmark()
        self._store = CheckpointStore(directory.checkpoints)
        torch.set_num_threads(max(1, int(self.segment.num_cpus)))
        self._end = sound_end(directory, self.segment, self.benchmark.budget_steps)
        self.is_complete = self._end is not None
        if self._end is not None:
            self.record_bytes = self._end.record_bytes
            return
        self._claim = self._store.claim(self.segment.id)  # before loading: from here on nobody else commits
        self._number = 0  # of the next commit
        self._chunks: tuple[ReplayChunk, ...] = ()
        self._saved_rows = 0
        self._journal = ActionJournal(self._store.folder, self.segment.id)
        self._copies = Copies()
        self._writing: Future[None] | None = None
        trials = [trial for member in self.segment.members for trial in member.trials]
        self._writers = self._open_records(trials, self._load())
        self._began = (time.monotonic(), self._trainer.step)
        self._note_machine(trials)

    def _open_records(self, trials: Sequence[str], begin: Commit | None) -> dict[str, RecordWriter]:
        lengths, checksums = (begin.record_bytes, begin.record_crc32) if begin is not None else ({}, {})
        if begin is not None:
            lengths = lengths | inherit_records(self._directory, self.segment, begin)
        self.record_bytes = {trial: lengths.get(trial, 0) for trial in trials}

        def opened(trial: str) -> RecordWriter:
            return RecordWriter(
                self._directory.record_file(trial), self.record_bytes[trial], committed_crc32=checksums.get(trial)
            )

        return dict(zip(trials, _at_once(opened, trials), strict=True))

    def _note_machine(self, trials: Sequence[str]) -> None:
        """Beside the records; a start of which no commit remained is written over, as it left nothing."""
        note = {"trials": trials, "step": self._trainer.step, **machine(self.benchmark.execution.device)}
        path = self._directory.machine_file(self.segment.id, self._number)
        storage.write_atomically(path, json.dumps(note, indent=1).encode())

    def _load(self) -> Commit | None:
        """Loads the state to begin with; returns the commit that it comes from, if any."""
        name, start = self.segment.id, self.segment.start
        own = self._store.latest(name, lambda commit: self._restore(commit, range(len(self.segment.members))))
        if own is not None:
            self._number = own.number + 1
            return own
        if start is None:
            self._trainer = Trainer(self.benchmark, self.segment)
            chosen = self.benchmark.method(self.segment.agent_method).agent.start
            if chosen is not None:
                begin_from(self._trainer.agent, stored_start(self._directory, chosen), chosen)
                replay_from(self._trainer.agent, self._directory, chosen)
            self._trainer.start()
            return None
        origin = self._store.latest(start, self._fork)
        if origin is None or not origin.complete:
            raise CheckpointError(
                f"segment {name}: {start}, where it starts, is not complete. If its end is damaged, remove its folder "
                f"in {self._store.folder}, and those of the segments that start from it, to train them again"
            )
        return origin

    def _fork(self, commit: Commit) -> None:
        if commit.complete:
            self._restore(commit, self.segment.parents)

    def _restore(self, commit: Commit, parents: Sequence[int]) -> None:
        """Begins at a commit. Raises ``CheckpointError`` if it is damaged, and may then be called with another one."""
        live = commit.inherited_chunks(parents)
        chunks = (
            (chunk.first_row, {name: [tensor[parent] for parent in chunk.parents] for name, tensor in tensors.items()})
            for chunk, tensors in self._store.load_chunks(live)
        )
        tensors = self._store.load_tensors(commit.tensors)
        if (actions := self._store.load_actions(commit)) is not None:
            tensors[ACTIONS] = torch.from_numpy(actions)
        trainer = Trainer(self.benchmark, self.segment)
        try:
            trainer.load_state_dict(tensors, commit.plain, chunks, step=commit.step, parents=parents)
        except CheckpointError:
            trainer.close()
            raise
        self._trainer, self._chunks, self._saved_rows = trainer, live, trainer.agent.replay.rows
        self._journal = ActionJournal(self._store.folder, self.segment.id)
        self._journal.go_on(commit.actions)

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Trains; returns whether the segment is complete."""
        if self._end is not None:
            return True
        last_commit = time.monotonic()
        with ThreadPoolExecutor(1) as beside:  # its end waits for what is being written, whatever was raised
            for records in self._trainer.advance():
                self._write(records)
                if should_stop():
                    break
                is_due = time.monotonic() - last_commit >= self.benchmark.checkpoint.every_s
                if is_due and (self._writing is None or self._writing.done()):
                    self._commit(beside)
                    last_commit = time.monotonic()
        self.is_complete = self._trainer.step >= self.segment.to_step
        if self.benchmark.tracking.weights == "final" and self._trainer.step >= self.benchmark.budget_steps:
            save_weights(self._trainer, self._directory)  # first, as nobody comes back to a complete segment
        self._commit()
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

    def _commit(self, beside: ThreadPoolExecutor | None = None) -> None:
        """Durable when it returns, or written ``beside`` the training; what fails there is raised by the next call."""
        try:
            writing, self._writing = self._writing, None
            if writing is not None:
                writing.result()
            held = self._held()
            if beside is None:
                self._publish(held)
            else:
                self._writing = beside.submit(self._publish, held)
        except OSError as error:
            raise StorageError(
                f"{self._directory.path}: what was trained since the last commit could not be saved: {error}. That "
                "commit is intact: mend this, and `plasticbench resume` goes on from it"
            ) from error

    def _publish(self, held: _Held) -> None:
        self._store.require_claim(self.segment.id, self._claim)
        records = list(self._writers.values())
        lengths = _at_once(lambda pair: pair[0].sync(pair[1]), zip(records, held.num_records, strict=True))
        saved = [self._save_rows(*bounds, held.number, rows) for bounds, rows in held.rows]
        commit = Commit(
            segment=self.segment.id,
            number=held.number,
            step=held.step,
            complete=held.step >= self.segment.to_step,
            record_bytes=dict(zip(self._writers, lengths, strict=True)),
            record_crc32={trial: writer.crc32 for trial, writer in self._writers.items()},
            plain=held.plain,
            tensors=self._store.save_tensors(self.segment.id, f"state-{held.number:08d}", held.tensors),
            chunks=(*held.chunks, *saved),
            actions=None if held.actions is None else self._journal.save(held.first_action_step, held.actions),
        )
        self._store.require_claim(self.segment.id, self._claim)  # writing may have taken long
        self._store.save(commit)
        self._chunks, self._saved_rows = commit.chunks, held.until_row
        self.record_bytes = commit.record_bytes

    def _held(self) -> _Held:
        """What a commit of this moment needs, in memory that training leaves as it is."""
        trainer, number = self._trainer, self._number
        self._number += 1  # even if nothing comes of it: files may be there that have it in their names
        tensors, plain = trainer.state_dict()
        actions = tensors.pop(ACTIONS).numpy() if len(tensors.get(ACTIONS, ())) else None  # later ones stand elsewhere
        rows, chunks = self._held_rows(number)
        num_envs = 0 if actions is None else actions.shape[1] // len(self.segment.members)
        return _Held(
            number=number,
            step=trainer.step,
            tensors=self._copies.of(tensors),
            plain=copy.deepcopy(plain),
            num_records=[writer.num_pending for writer in self._writers.values()],
            rows=rows,
            chunks=chunks,
            until_row=trainer.agent.replay.rows,
            actions=actions,
            first_action_step=trainer.step - num_envs * (0 if actions is None else len(actions)),
        )

    def _held_rows(self, number: int) -> tuple[list[_Rows], list[ReplayChunk]]:
        """Rows since the last commit, and the chunks that there are, without those of which no row is alive."""
        replay = self._trainer.agent.replay
        # The newest saved row was still open then, so it is saved again.
        *first, last = _pieces(replay, max(self._saved_rows - 1, replay.oldest_row, 0))
        chunks = [chunk for chunk in self._chunks if chunk.first_row + chunk.num_rows > replay.oldest_row]
        if first:  # one piece may wait in memory to be written, others may not
            self._store.require_claim(self.segment.id, self._claim)
        chunks += [self._save_rows(*bounds, number, _exported(replay, bounds)) for bounds in first]
        return [(last, _exported(replay, last))], chunks

    def _save_rows(self, first_row: int, until_row: int, number: int, rows: Mapping[str, Tensor]) -> ReplayChunk:
        return ReplayChunk(
            file=self._store.save_tensors(self.segment.id, f"replay-{first_row:012d}-{number:08d}", rows),
            first_row=first_row,
            num_rows=until_row - first_row,
            parents=tuple(range(len(self.segment.members))),
        )

    def _close(self) -> None:
        _at_once(RecordWriter.close, self._writers.values())
        self._trainer.close()

    @property
    def failed(self) -> dict[str, str]:
        """Trials that failed while their population went on, and what was raised, as Python prints it."""
        raised = dict(self._end.plain.get("failed", ())) if self._end is not None else self._trainer.course.failed
        members = self.segment.members
        return {trial: text for member, text in raised.items() for trial in members[member].trials}

    def progress(self) -> Progress:
        """Read from another thread while ``run`` is busy."""
        segment = self.segment
        if self.is_complete:
            return Progress(
                segment=segment.id,
                step=segment.to_step,
                from_step=segment.from_step,
                to_step=segment.to_step,
                num_members=len(segment.members),
                steps_per_s=0.0,
                last_evaluation=None,
                record_bytes=self.record_bytes,
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
            record_bytes=self.record_bytes,
            num_overvalued=self._trainer.num_overvalued,
            num_not_finite=self._trainer.num_not_finite,
        )
