"""Updates that are recorded once and then replayed, so that hundreds of small launches cost the host one.

What is recorded is arithmetic alone: it reads nothing back to the host, and from one replay to the next only values
change, never addresses. Inputs are copied into buffers that stay where they are; weights, moments and counts of updates
change in place. ``CudaGraphs`` records on a GPU; ``tape.Tape`` does the same on CPUs, operation by operation.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

Work = Callable[[], Tensor]
"""Arithmetic without arguments; what it returns stays where it is from one replay to the next."""
Input = Tensor | float

_REHEARSALS = 2  # libraries choose kernels and take workspaces at first calls, which must not happen while recording


class Recording(NamedTuple):
    """``replay`` does the work again; ``output`` then holds what it returned."""

    output: Tensor
    replay: Callable[[], None]


class Recorder(Protocol):
    """How work is recorded."""

    def rehearse(self, work: Work) -> Tensor:
        """Does the work once, where it would be recorded."""
        ...

    def record(self, work: Work) -> Recording:
        """Does the work once and records it."""
        ...


@runtime_checkable
class Countable(Protocol):
    """An optimizer whose step is arithmetic alone, but for a count on the host.

    ``step`` counts; at a replay, which runs no Python, ``count`` does by itself. ``layout`` changes whenever what a
    step writes to has moved.
    """

    is_capturable: bool
    layout: int

    def count(self) -> None:
        """One more update of every parameter."""
        ...


class CudaGraphs:
    """Records as CUDA graphs, on a stream of its own; all of them share one pool of memory."""

    def __init__(self) -> None:
        self._stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._pool: Any = None

    def rehearse(self, work: Work) -> Tensor:
        """Does the work once on the stream that is recorded."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            output = work()
        torch.cuda.current_stream().wait_stream(self._stream)
        return output

    def record(self, work: Work) -> Recording:
        """Raises ``RuntimeError`` where something in the work cannot be part of a graph."""
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads of this process may use the device meanwhile.
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                output = work()
        except RuntimeError as error:
            raise RuntimeError(
                f"the update could not be recorded as a CUDA graph: {error}. Set execution.capture: never"
            ) from error
        self._pool = graph.pool()
        graph.replay()
        return Recording(output, graph.replay)


class CapturedUpdate:
    """An update of many variants, each of which is rehearsed, recorded, and replayed from then on.

    ``arithmetic(variant, inputs)`` returns metrics ``[M]`` by name. ``optimizers``: all that it steps.
    """

    def __init__(
        self,
        recorder: Recorder,
        arithmetic: Callable[[Any, Sequence[Input]], Mapping[str, Tensor]],
        optimizers: Sequence[Countable],
    ) -> None:
        self._recorder, self._arithmetic, self._optimizers = recorder, arithmetic, optimizers
        self._layout: tuple[int, ...] = ()
        self._programs: dict[Hashable, _Program] = {}
        self._rehearsals: dict[Hashable, int] = {}
        self.recorded = 0
        """How many recordings were made so far."""

    def __call__(self, variant: Hashable, inputs: Sequence[Input]) -> dict[str, Tensor]:
        """One update; the metrics are the caller's to keep."""
        layout = tuple(optimizer.layout for optimizer in self._optimizers)
        if layout != self._layout:
            self._layout, self._programs = layout, {}
        key = (variant, *((tuple(i.shape), i.dtype) if isinstance(i, Tensor) else i for i in inputs))
        if (program := self._programs.get(key)) is not None:
            program.fill(inputs)
            program.recording.replay()
            for optimizer in self._optimizers:
                optimizer.count()
        elif self._rehearsals.get(key, 0) < _REHEARSALS:
            self._rehearsals[key] = self._rehearsals.get(key, 0) + 1
            program = _Program(self._arithmetic, variant, inputs)
            return program.named(self._recorder.rehearse(program.work))
        else:
            program = self._programs[key] = _Program(self._arithmetic, variant, inputs)
            program.recording = self._recorder.record(program.work)
            self.recorded += 1
        return program.named(program.recording.output.clone())


class _Program:
    """One variant on its static inputs."""

    recording: Recording

    def __init__(
        self,
        arithmetic: Callable[[Any, Sequence[Input]], Mapping[str, Tensor]],
        variant: Hashable,
        inputs: Sequence[Input],
    ) -> None:
        self._arithmetic, self._variant = arithmetic, variant
        self._inputs = [i.clone() if isinstance(i, Tensor) else i for i in inputs]
        self._names: list[str] = []

    def fill(self, inputs: Sequence[Input]) -> None:
        for static, value in zip(self._inputs, inputs, strict=True):
            if isinstance(static, Tensor) and isinstance(value, Tensor):
                static.copy_(value, non_blocking=True)

    def work(self) -> Tensor:
        metrics = self._arithmetic(self._variant, self._inputs)
        self._names = list(metrics)
        return torch.stack([metric.detach() for metric in metrics.values()])

    def named(self, stacked: Tensor) -> dict[str, Tensor]:
        return dict(zip(self._names, stacked.unbind(), strict=True))
