"""A recording on CPUs with the contract of a CUDA graph: what was done is done again on the same tensors, in order.

Below autograd every operation is noted with its arguments and results. A replay runs no Python of the work's own: what
the host decided or counted while it was recorded stays as it was, and a number that is read back to the host is an
error. So work that gives the same results from a tape would do so from a graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from plasticbench.learning.captured_update import Recording, Work

_READ_BACK = frozenset({"_local_scalar_dense", "nonzero", "equal", "masked_select", "unique_dim", "_unique2"})


class Tape:
    """A recorder of which any number of recordings can be made."""

    def rehearse(self, work: Work) -> Tensor:
        """Does the work once."""
        return work()

    def record(self, work: Work) -> Recording:
        """Raises ``RuntimeError`` where a number is read back to the host."""
        with Noting() as noted:
            output = work()
        return Recording(output, lambda: _replay(noted.operations))


class Noting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes operations while they are done."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        if func._schema.name.removeprefix("aten::") in _READ_BACK:
            raise RuntimeError(f"{func._schema.name} reads a number back to the host, which no graph can hold")
        result = func(*args, **(kwargs or {}))
        is_view = any(one.alias_info is not None and not one.alias_info.is_write for one in func._schema.returns)
        if not is_view:
            self.operations.append((func, args, kwargs or {}, result))
        return result


@torch.no_grad()
def _replay(operations: Sequence[tuple[Any, Any, Any, Any]]) -> None:
    for func, args, kwargs, result in operations:
        again = func(*args, **kwargs)
        if not func._schema.is_mutable:
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, Tensor):
                    old.copy_(new)
