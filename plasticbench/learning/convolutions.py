"""Convolutions of populations in four ways that differ in rounding alone, and the choice among them.

``by_member`` makes a call per member, ``channels_last`` the same on maps whose channels lie side by side, ``grouped``
one call with a group per member, ``unfolded`` one batched matrix product of all patches. On CPUs a call per member was
measured fastest. On a GPU it depends on the shapes, so the first call with each is timed, forth and back, and the
fastest remembered for as long as the process lives. ``prefer`` takes one for all shapes instead.

Shapes: ``x`` ``[M, B, in, h, w]``, ``weight`` ``[M, out, in, kh, kw]``, ``bias`` ``[M, out]``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor
from torch.nn import functional

from plasticbench.contracts.learner import Convolutions

Convolution = Callable[[Tensor, Tensor, Tensor, int, int], Tensor]

_TIMED_CALLS = 5
_chosen: dict[Hashable, Convolution] = {}
_preferred: list[Convolution] = []  # none or one, of this process


def by_member(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    """A call per member."""
    maps = [functional.conv2d(x[m], weight[m], bias[m], stride, padding) for m in range(x.shape[0])]
    return torch.stack(maps) if len(maps) > 1 else maps[0].unsqueeze(0)


def channels_last(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    """A call per member, on maps and kernels that lie channel by channel."""
    layout = torch.channels_last
    maps = [
        functional.conv2d(
            x[m].contiguous(memory_format=layout), weight[m].contiguous(memory_format=layout), bias[m], stride, padding
        ).permute(0, 2, 3, 1)
        for m in range(x.shape[0])
    ]
    return torch.stack(maps).permute(0, 1, 4, 2, 3)  # the next convolution finds them as it wants them


def grouped(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    """One call in which each member's channels are a group."""
    members, rows = x.shape[:2]
    merged = x.transpose(0, 1).flatten(1, 2)
    maps = functional.conv2d(merged, weight.flatten(0, 1), bias.flatten(), stride, padding, groups=members)
    return maps.view(rows, members, -1, *maps.shape[2:]).transpose(0, 1)


def unfolded(x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    """Patches as columns, times each member's kernels as rows."""
    members, rows, _, height, width = x.shape
    kernel = weight.shape[3:]
    patches = functional.unfold(x.flatten(0, 1), kernel, padding=padding, stride=stride)
    columns = patches.view(members, rows, *patches.shape[1:]).transpose(1, 2).flatten(2)  # [M, in kh kw, B positions]
    maps = torch.baddbmm(bias.unsqueeze(2), weight.flatten(2), columns)
    high, wide = ((size + 2 * padding - k) // stride + 1 for size, k in zip((height, width), kernel, strict=True))
    return maps.view(members, -1, rows, high, wide).transpose(1, 2)


CANDIDATES: tuple[Convolution, ...] = (grouped, unfolded, by_member, channels_last)


def prefer(way: Convolutions) -> None:
    """All convolutions of this process are made so from now on; ``auto``: as was measured."""
    _preferred[:] = [] if way == "auto" else [{made.__name__: made for made in CANDIDATES}[way]]


def convolution_for(x: Tensor, weight: Tensor, stride: int, padding: int) -> Convolution:
    """The way to convolve such tensors where they lie; while a graph is recorded nothing is timed."""
    if _preferred:
        return _preferred[0]
    if x.device.type == "cpu":
        return by_member
    if x.device.type != "cuda":
        return grouped
    is_rounded = torch.is_autocast_enabled(x.device.type)
    key = (x.shape, weight.shape, x.dtype, is_rounded, stride, padding, x.device, torch.is_grad_enabled())
    if key not in _chosen:
        if torch.cuda.is_current_stream_capturing():
            return grouped
        times = {candidate: _time_ms(candidate, x, weight, stride, padding) for candidate in CANDIDATES}
        _chosen[key] = min(times, key=times.__getitem__)
    return _chosen[key]


def choices() -> dict[str, str]:
    """What was chosen so far, by shapes, for people."""
    return {f"{tuple(key[0])} by {tuple(key[1])}": chosen.__name__ for key, chosen in _chosen.items()}  # type: ignore[index]


def _time_ms(candidate: Convolution, x: Tensor, weight: Tensor, stride: int, padding: int) -> float:
    """Of a call and its way back, where gradients are needed; infinite where memory does not suffice."""
    needs_gradient = torch.is_grad_enabled()
    inputs = x.detach().requires_grad_(needs_gradient)
    kernels = weight.detach().clone().requires_grad_(needs_gradient)
    bias = weight.new_zeros(weight.shape[:2])
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    try:
        for call in range(_TIMED_CALLS + 1):
            if call == 1:  # the first one chooses kernels
                start.record()
            maps = candidate(inputs, kernels, bias, stride, padding)
            if needs_gradient:
                torch.autograd.grad(maps.sum(), (inputs, kernels))
        end.record()
        end.synchronize()
    except torch.cuda.OutOfMemoryError:
        return float("inf")
    return float(start.elapsed_time(end))
