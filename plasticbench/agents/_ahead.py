"""Batches that are opened one update ahead of the training, so that whoever trains never waits for compressed frames.

Within a burst of updates nothing enters the replay, so the batch of the next one can be sampled while the present one
is trained on: the draws and the numbers stay the same. On a GPU it is copied on a stream of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plasticbench.agents._replay import Batch
from plasticbench.agents._uniforms import MemberUniforms


class Ahead:
    """Samples with ``sample(uniforms)``, whose uniforms are the next ``draws``."""

    def __init__(self, sample: Callable[[np.ndarray], Batch], draws: MemberUniforms, device: torch.device) -> None:
        self._sample, self._draws = sample, draws
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead")
        self._stream: Any = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._next: Future[tuple[Batch, Any]] | None = None

    def batch(self, *, more: bool) -> Batch:
        """The next one; ``more``: another will follow before anything enters the replay."""
        if self._next is None:
            found, copied = self._sample(self._draws.draw()), None
        else:
            found, copied = self._next.result()
        self._next = self._thread.submit(self._copied, self._draws.draw(), self._event()) if more else None
        if copied is not None:
            self._hand_over(found, copied)
        return found

    def _event(self) -> Any:
        """What the device was told so far, among it what entered the replay."""
        return None if self._stream is None else torch.cuda.current_stream().record_event()

    def _copied(self, uniforms: np.ndarray, told: Any) -> tuple[Batch, Any]:
        if self._stream is None:
            return self._sample(uniforms), None
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(told)
            return self._sample(uniforms), self._stream.record_event()

    @staticmethod
    def _hand_over(batch: Batch, copied: Any) -> None:
        """From the stream of copies to that of the training, which its memory must outlive."""
        training = torch.cuda.current_stream()
        training.wait_event(copied)
        for values in batch:
            if isinstance(values, Tensor):
                values.record_stream(training)

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown()
