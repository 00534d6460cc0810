"""Replay of M members that stores each frame once.

Rows are points in time, shared by all members: row t holds the newest frame that each environment had shown before its
t-th action, that action, and what followed. A transition is its row; the next observation ends in row t + 1. Not every
row is a transition: the step that leads from an episode's end into the next one is none (next-step autoreset), and
neither is the row before environments are restarted.

Over n steps a transition is the same row with the discounted rewards of up to n rows (Sutton 1988; Mnih et al. 2016,
arXiv 1602.01783); the next observation ends in the row after the last of them. Nothing more is stored for it: the rows
of one course are those that follow each other without a row that is no transition, so fewer than n of them are the end
of an episode, or of what was seen of it. A row can be sampled once n rows have followed it, whatever they are; so rows
enter and leave in the order of time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from plasticbench.contracts.learner import MemberRows
from plasticbench.contracts.task import BoxActions, EnvSpec, EnvStep
from plasticbench.learning.replays import uniform

INDEX_ROW_BYTES = 10
"""What each transition takes on the host, wherever the rest of it lies: age, validity and a place in the queue."""

_SPARE_COURSES = 4  # each begins with a row for every further frame of a stack


class Choice(Protocol):
    """Which transitions are likely: ``learning/replays/<kind>.py``."""

    def places(self, uniforms: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Places counted from the oldest ``[M, B]`` for uniforms in [0, 1), of ``sizes`` ``[M]`` transitions."""
        ...


class Batch(NamedTuple):
    """Transitions ``[M, B]``; ``frames`` are those of the observation and of the next one: see ``observations``."""

    frames: Tensor  # [M, B, stack + 1, ...] overlapping over one step, [M, B, 2 stack, ...] over several
    action: Tensor
    reward: Tensor  # over several steps their discounted sum
    terminated: Tensor  # 1.0 where the next state is worth nothing, else 0.0
    discount: float | Tensor  # what the next state's value is weighed with


def observations(frames: Tensor, stack: int) -> tuple[Tensor, Tensor]:
    """Observation and next one ``[M, B, *obs_shape]`` from the frames of a batch, without a dimension of one frame."""
    if stack == 1:
        return frames[:, :, 0], frames[:, :, 1]
    return frames[:, :, :stack], frames[:, :, -stack:]


class PopulationReplay:
    """Rings of ``capacity_transitions`` per member; indices live on the host, frames on ``device``.

    ``CompressedReplay`` holds frames otherwise, and all else alike.

    ``discount`` weighs each step's reward within ``n_step``, and what follows after them. Memory is taken for
    ``expected_transitions`` where that is less, and for more only once there are more.
    """

    _tensors: tuple[str, ...] = ("frames", "action", "outcome")
    """What lies on the device, each in an attribute with an underscore before its name."""
    is_compressed = False

    def __init__(
        self,
        spec: EnvSpec,
        num_members: int,
        num_envs: int,
        capacity_transitions: int,
        device: torch.device,
        *,
        n_step: int = 1,
        discount: float = 1.0,
        expected_transitions: int | None = None,
    ) -> None:
        self._stack, self._n_step, self.discount = spec.frame_stack, n_step, discount
        self._weights = torch.tensor([discount**step for step in range(n_step + 1)], device=device)
        self._num_rows = capacity_transitions // num_envs
        if self._num_rows < (rows := self._stack + n_step + 1):
            raise ValueError(
                f"capacity_transitions: must be at least {rows * num_envs} for {num_envs} environments with "
                f"{self._stack} stacked frames and transitions over {n_step} steps, got {capacity_transitions}"
            )
        self.num_members, self.num_envs, self.device = num_members, num_envs, device
        self._held_rows = self._num_rows
        if expected_transitions is not None:
            self._held_rows = min(self._num_rows, expected_transitions // num_envs + _SPARE_COURSES * self._stack)
        slots = self._held_rows * num_envs
        shape = (num_members, slots)
        is_box = isinstance(spec.actions, BoxActions)
        action_shape = (len(spec.actions.low),) if isinstance(spec.actions, BoxActions) else ()
        self._take_frames(spec, slots)
        # Rows at the start of a course have no action; zeros are one that networks of values know.
        self._action = torch.zeros(*shape, *action_shape, dtype=torch.float32 if is_box else torch.int64, device=device)
        self._outcome = torch.zeros(*shape, 2, device=device)  # reward, terminated
        self._age = np.zeros(shape, dtype=np.uint8)  # steps since the episode's start, at most stack - 1
        self._valid = np.zeros(shape, dtype=bool)
        self._queue = np.zeros(shape, dtype=np.int64)  # slots of transitions, oldest first, as a ring of their own
        self._head = np.zeros(num_members, dtype=np.int64)
        self._tail = np.zeros(num_members, dtype=np.int64)
        self._members = np.arange(num_members)[:, None]
        self._first_slot = np.arange(num_members) * slots  # of each member, in all of them together
        self._current_age = np.zeros((num_members, num_envs), dtype=np.uint8)
        self._ended = np.zeros((num_members, num_envs), dtype=bool)
        self.rows = 0  # written since the beginning
        self._cleared_row = 0
        self._stored_rows = 0  # completed since the last ``clear``

    def open_with(self, num_threads: int) -> None:
        """So many threads open what is compressed from now on, until ``close``."""

    def close(self) -> None:
        """Ends what ``open_with`` began."""

    def _take_frames(self, spec: EnvSpec, slots: int) -> None:
        shape, dtype = (self.num_members, slots, *spec.frame_shape), getattr(torch, spec.obs_dtype)
        self._frames = torch.empty(shape, dtype=dtype, device=self.device)

    @property
    def steps_since_clear(self) -> int:
        """Agent steps of each member that were stored since the last ``clear``; the same for all members."""
        return self._stored_rows * self.num_envs

    def has(self, steps: int) -> bool:
        """Whether so many agent steps were stored since the last ``clear``, and every member has a transition.

        The same for all members: the first step after a ``clear`` may lead out of an episode that is over.
        """
        return self.steps_since_clear >= steps and self._stored_rows >= self._n_step + (self._cleared_row > 0)

    @property
    def sizes(self) -> np.ndarray:
        """Transitions that can be sampled, ``[M]``."""
        return self._tail - self._head

    def begin(self, obs: np.ndarray, ended: np.ndarray | None = None) -> None:
        """Starts a new course at observations ``[M, E, *obs_shape]``: nothing before them is their past.

        ``ended`` ``[M, E]``: which of them are the last of their episodes, so that the next step leads into another
        one; by default none is.
        """
        stacked = obs if self._stack > 1 else obs[:, :, None]
        self._ended[:] = False if ended is None else ended
        for age in range(self._stack):
            self._current_age[:] = age
            self._write_row(stacked[:, :, age])

    def observe(self, action: np.ndarray, step: EnvStep) -> None:
        """Completes the open row with its action ``[M, E]`` and opens the next; ``step`` is shaped ``[M, E, ...]``."""
        first = ((self.rows - 1) % self._num_rows) * self.num_envs
        now = slice(first, first + self.num_envs)
        self._action[:, now] = torch.as_tensor(action, device=self.device)
        outcome = np.stack((step.reward, step.terminated.astype(np.float32)), axis=-1)
        self._outcome[:, now] = torch.from_numpy(outcome).to(self.device)
        self._valid[:, now] = ~self._ended
        self._current_age = np.where(self._ended, 0, np.minimum(self._current_age + 1, self._stack - 1)).astype(
            np.uint8
        )
        self._ended = step.terminated | step.truncated
        self._stored_rows += 1
        self._write_row(step.obs[:, :, -1] if self._stack > 1 else step.obs)

    def clear(self) -> None:
        """Forgets all transitions; the next call must be ``begin``."""
        self._head = self._tail.copy()
        self._valid[:] = False
        self._cleared_row = self.rows
        self._stored_rows = 0

    def silence(self, members: Sequence[int]) -> None:
        """What these members saw, did and earned becomes zeros, but for whole numbers, which are always finite."""
        for values in self._stored.values():
            if values.is_floating_point():
                values[list(members)] = 0.0

    def sample(self, uniforms: np.ndarray, chosen: Choice = uniform.Config()) -> Batch:  # noqa: B008 (it is frozen)
        """The transitions that uniforms ``[M, B]`` in [0, 1) point to, by default any of them alike."""
        slots = self._queue.shape[1]
        nth = chosen.places(uniforms, self.sizes)
        return self.transitions(self._queue[self._members, (self._head[:, None] + nth) % slots])

    def transitions(self, slot: np.ndarray) -> Batch:
        """Those that begin at each member's slots ``[M, B]``."""
        if self._n_step > 1:
            return self._over_several_steps(slot)
        frames = self._frames_at(self._frame_slots(slot, newest=1))
        rows = self._rows(slot)  # once for both
        outcome, action = (_at(stored, rows, slot.shape) for stored in (self._outcome, self._action))
        return Batch(frames, action, outcome[..., 0], outcome[..., 1], self.discount)

    def _over_several_steps(self, slot: np.ndarray) -> Batch:
        path = self._later(slot[..., None], np.arange(self._n_step))
        # After the first row that is no transition another episode goes on, or another course.
        goes_on = np.logical_and.accumulate(self._valid[self._members[..., None], path], axis=-1)
        steps = goes_on.sum(axis=-1)
        next_frames = self._frame_slots(self._later(slot, steps), newest=0)
        frames = np.concatenate((self._frame_slots(slot, newest=0), next_frames), axis=-1)
        rewards = self._taken(self._outcome, path)[..., 0] * self._weights[:-1]
        return Batch(
            self._frames_at(frames),
            self._taken(self._action, slot),
            torch.where(torch.from_numpy(goes_on).to(self.device), rewards, 0.0).sum(-1),
            self._taken(self._outcome, self._later(slot, steps - 1))[..., 1],
            self._weights[torch.from_numpy(steps).to(self.device)],
        )

    def latest_courses(self, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the last complete rows, oldest first: slots ``[rows, E]``, outcomes and validity ``[M, rows, E, ...]``.

        Outcomes are pairs: the reward, and whether the next state is worth nothing.
        """
        slots = self._row_slots(max(self.rows - 1 - rows, self.oldest_row), self.rows - 1).reshape(-1, self.num_envs)
        outcome = self._outcome[:, torch.from_numpy(slots.ravel()).to(self.device)].cpu().numpy()
        return slots, outcome.reshape(self.num_members, *slots.shape, 2), self._valid[:, slots]

    def _frame_slots(self, slot: np.ndarray, newest: int) -> np.ndarray:
        """Slots of the frames of an observation, up to that of ``newest`` rows later.

        An episode younger than the stack repeats its first.
        """
        past = -self._age[self._members, slot].astype(np.int64)
        offsets = np.arange(1 - self._stack, newest + 1)
        return self._later(slot[..., None], np.maximum(offsets, past[..., None]))

    def _frames_at(self, slot: np.ndarray) -> Tensor:
        return self._taken(self._frames, slot)

    def _later(self, slot: np.ndarray, rows: np.ndarray) -> np.ndarray:
        found: np.ndarray = (slot + rows * self.num_envs) % self._queue.shape[1]
        return found

    def _taken(self, stored: Tensor, slot: np.ndarray) -> Tensor:
        """Entries of ``stored`` ``[M, slots, ...]`` at each member's slots ``[M, ...]``."""
        return _at(stored, self._rows(slot), slot.shape)

    def _rows(self, slot: np.ndarray) -> Tensor:
        """Flat indices of each member's slots ``[M, ...]`` in what is stored ``[M, slots, ...]``."""
        return torch.from_numpy((self._first_slot.reshape(-1, *(1,) * (slot.ndim - 1)) + slot).ravel()).to(self.device)

    def _hold(self, rows: int) -> None:
        """Takes memory for so many rows, if there is less. A ring that is not whole has never begun anew."""
        if rows <= self._held_rows or self._held_rows == self._num_rows:
            return
        self._held_rows = min(self._num_rows, max(rows, self._held_rows + self._held_rows // 16))
        slots = self._held_rows * self.num_envs
        for name, old in self._stored.items():
            take = torch.empty if name == "frames" else torch.zeros
            new = take(self.num_members, slots, *old.shape[2:], dtype=old.dtype, device=old.device)
            new[:, : old.shape[1]] = old
            setattr(self, f"_{name}", new)
        for name in ("_age", "_valid", "_queue"):
            old = getattr(self, name)
            setattr(self, name, np.concatenate((old, np.zeros((len(old), slots - old.shape[1]), old.dtype)), axis=1))
        self._first_slot = np.arange(self.num_members) * slots

    def _write_row(self, frame: np.ndarray) -> None:
        self._hold(self.rows + self._stack)
        first = (self.rows % self._num_rows) * self.num_envs
        # The oldest transition still alive must have its whole stack of frames.
        expiring = ((self.rows + self._stack - 1) % self._num_rows) * self.num_envs
        if self.rows + self._stack - 1 >= self._num_rows:
            gone = self._valid[:, expiring : expiring + self.num_envs]
            self._head += gone.sum(axis=1)
            gone[:] = False
        self._valid[:, first : first + self.num_envs] = False
        self._write_frame(first, frame)
        self._age[:, first : first + self.num_envs] = self._current_age
        self.rows += 1
        if self.rows > self._n_step:
            self._append(self._row_slots(self.rows - 1 - self._n_step, self.rows - self._n_step))

    def _write_frame(self, first: int, frame: np.ndarray) -> None:
        self._frames[:, first : first + self.num_envs] = torch.from_numpy(np.ascontiguousarray(frame)).to(self.device)

    def _append(self, slots: np.ndarray) -> None:
        is_transition = self._valid[:, slots]
        place = (self._tail[:, None] + np.cumsum(is_transition, axis=1) - 1) % self._queue.shape[1]
        member, env = np.nonzero(is_transition)
        self._queue[member, place[member, env]] = slots[env]
        self._tail += is_transition.sum(axis=1)

    def meta(self) -> dict[str, Any]:
        """Plain data that, with the chunks of all live rows, restores the replay."""
        return {
            "rows": self.rows,
            "cleared_row": self._cleared_row,
            "stored_rows": self._stored_rows,
            "current_age": self._current_age.tolist(),
            "ended": self._ended.tolist(),
        }

    @property
    def oldest_row(self) -> int:
        """The first row that a restored replay still needs."""
        return max(0, self.rows - self._num_rows, self._cleared_row)

    @property
    def _stored(self) -> dict[str, Tensor]:
        return {name: getattr(self, f"_{name}") for name in self._tensors}

    @property
    def row_bytes(self) -> int:
        """Of what is exported of a row of all members."""
        stored = self._stored.values()
        per_slot = sum(tensor[0, 0].numel() * tensor.element_size() for tensor in stored) + 2  # age and valid
        return self.num_members * self.num_envs * per_slot

    def export(self, since_row: int, until_row: int | None = None) -> dict[str, Tensor]:
        """Rows ``[max(since_row, oldest_row), until_row)`` as tensors ``[M, rows, E, ...]``, by default to the last.

        The last row is still open.
        """
        index = self._row_slots(max(since_row, self.oldest_row), self.rows if until_row is None else until_row)
        on_device = torch.from_numpy(index).to(self.device)
        host = {"age": torch.from_numpy(self._age[:, index]), "valid": torch.from_numpy(self._valid[:, index])}
        return host | {name: tensor.index_select(1, on_device).cpu() for name, tensor in self._stored.items()}

    def restore(self, meta: dict[str, Any], chunks: Iterable[tuple[int, MemberRows]], parents: Sequence[int]) -> None:
        """Loads chunks (first row, tensors in this population's order) in order of export.

        Member i goes on as the saved member ``parents[i]``.
        """
        self.rows, self._cleared_row = meta["rows"], meta["cleared_row"]
        # Version 0.1 did not save it; it counts for the first steps after a clear alone.
        self._stored_rows = meta.get("stored_rows", max(0, self.rows - self._cleared_row - self._stack))
        self._current_age = np.array(meta["current_age"], dtype=np.uint8)[list(parents)]
        self._ended = np.array(meta["ended"], dtype=bool)[list(parents)]
        self._hold(self.rows + self._stack)
        for first_row, chunk in chunks:
            self._restore_chunk(first_row, chunk)
        self._rebuild_queue()

    def _restore_chunk(self, first_row: int, chunk: MemberRows) -> None:
        for name in ("action", "outcome"):
            self._restore_rows(self._stored[name], first_row, chunk[name])
        self._restore_frames(first_row, chunk)
        for name in ("age", "valid"):
            self._restore_rows(torch.from_numpy(getattr(self, f"_{name}")), first_row, chunk[name])

    def _restore_frames(self, first_row: int, chunk: MemberRows) -> None:
        for row, frames in frame_pieces(first_row, chunk, self.num_envs, self._frames.shape[2:]):
            self._restore_rows(self._frames, row, frames)

    def _restore_rows(self, stored: Tensor, first_row: int, values: Iterable[Tensor]) -> None:
        """Writes each member's consecutive rows ``[rows * E, ...]`` as they lie."""
        for own, rows in zip(stored, values, strict=True):
            for here, there in self._spans(first_row, len(rows) // self.num_envs):
                own[here] = rows[there]

    def _spans(self, first_row: int, num_rows: int) -> Iterator[tuple[slice, slice]]:
        """Where in the ring consecutive rows lie, and where among themselves: in two pieces where the ring begins."""
        start_row, stop_row = max(first_row, self.oldest_row), first_row + num_rows
        while start_row < stop_row:
            place = start_row % self._num_rows
            count = min(stop_row - start_row, self._num_rows - place)
            places = (place, start_row - first_row)
            here, there = (slice(row * self.num_envs, (row + count) * self.num_envs) for row in places)
            yield here, there
            start_row += count

    def _rebuild_queue(self) -> None:
        oldest = max(self.rows - self._num_rows + self._stack - 1, self._cleared_row, 0)
        dead = np.ones(self._valid.shape[1], dtype=bool)
        dead[self._row_slots(oldest, self.rows - 1)] = False
        self._valid[:, dead] = False
        live = self._row_slots(oldest, self.rows - self._n_step)
        self._head[:] = 0
        for member in range(self.num_members):
            slots = live[self._valid[member, live]]
            self._queue[member, : len(slots)] = slots
            self._tail[member] = len(slots)

    def _row_slots(self, start_row: int, stop_row: int) -> np.ndarray:
        rows = np.arange(start_row, stop_row) % self._num_rows
        return (rows[:, None] * self.num_envs + np.arange(self.num_envs)).reshape(-1)


def frame_pieces(
    first_row: int, chunk: MemberRows, num_envs: int, frame_shape: Sequence[int]
) -> Iterator[tuple[int, Iterable[Tensor]]]:
    """Frames of a chunk, of each member ``[rows * E, *frame_shape]``, with the row at which each piece begins."""
    if "frames" in chunk:
        yield first_row, chunk["frames"]
        return
    from plasticbench.agents import _blocks  # written by a replay that compresses

    yield from _blocks.frame_pieces(first_row, chunk, num_envs, frame_shape)


def _at(stored: Tensor, rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    values = stored.flatten(0, 1).index_select(0, rows)
    return values.view(*shape, *values.shape[1:])
