"""Measures any ``torch.nn.Module`` with the probes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import nn

from plasticbench import plugins
from plasticbench.contracts.network import Probe
from plasticbench.learning.module_views import Batch, Initial, view_of


def require_layers_alone(kinds: Sequence[str]) -> None:
    """Raises ``ValueError`` for a probe that needs more than a module shows, or that there is not."""
    for kind in kinds:
        needs = getattr(plugins.load("probes", kind).Config, "needs", None)
        if needs is not None:
            words = needs.replace("_", " ")
            raise ValueError(f"kinds: {kind!r} looks at {words}, which only agents of benchmark files show. Remove it")


def probe_module(
    module: nn.Module,
    batch: Batch,
    kinds: Sequence[str] | None = None,
    *,
    initial: Initial | None = None,
    ignore: Collection[str] = (),
) -> dict[str, float]:
    """Plasticity of a module: totals by probe (``dormant_ratio``), layers below them (``dormant_ratio/fc1``).

    ``kinds`` are probes with their default settings; without it, every probe that applies. See ``view_of`` for what is
    measured, and for ``ignore``. Raises ``ValueError`` for an unknown kind, and for a named one that has nothing to
    measure.
    """
    require_layers_alone(kinds or ())
    chosen = plugins.names("probes") if kinds is None else kinds
    probes: list[Probe] = [plugins.config_from("probes", kind, {}).build() for kind in chosen]
    view = view_of(module, batch, initial=initial, ignore=ignore)
    measured: dict[str, float] = {}
    for kind, probe in zip(chosen, probes, strict=True):
        values = probe.measure(view)
        if kinds is not None and not values:
            raise ValueError(f"kinds: {kind!r} has nothing to measure here: {plugins.summary('probes', kind)}")
        measured |= {f"{probe.label}/{layer}".rstrip("/"): float(value[0]) for layer, value in values.items()}
    return measured
