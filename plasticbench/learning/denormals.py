"""Numbers that float32 has no normal form for are zeros while networks are trained.

Adam's mean of gradients falls by a tenth at each update of a weight whose unit is dead, until rounding holds it at a
few of the smallest numbers there are: for ever, since nine tenths of four of them are four. Processors take some
hundred cycles for an operation on one, so a population with dead units would be trained far slower. What is lost lies
below 1.2e-38, which no weight that moves by more can show.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_SMALLEST = 5e-324  # of float64: taken for zero under the same switch of the processor


@contextmanager
def flushed() -> Iterator[None]:
    """Inside, this thread takes them for zeros; where the processor cannot, nothing changes."""
    was_flushed = _SMALLEST * 1.0 == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(was_flushed)
