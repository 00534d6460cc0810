"""What a network answers before and after the update that its optimizer would make."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from plasticbench.contracts.network import Meaning, NetworkView


def before_and_after(view: NetworkView, wanted: Sequence[Meaning]) -> tuple[Meaning, Tensor, Tensor] | None:
    """The first of the ``wanted`` outputs that the network has, ``[M, N, ...]`` each; ``None`` if it has none."""
    workings = view.workings
    meaning = next((each for each in wanted if workings is not None and each in workings.meaning), None)
    if workings is None or meaning is None:
        return None
    place, now, update = workings.meaning[meaning], workings.parameters, workings.update
    later = {name: value + update[name] for name, value in now.items()}
    before, after = (workings.forward(weights, workings.inputs)[0][..., place] for weights in (now, later))
    return meaning, before, after
