"""Passes forth and back through linear layers one behind the other, without autograd's graph.

A small update spends more time on the graph than on arithmetic. Here the pass forth keeps what each layer read, and the
pass back writes every gradient where it belongs in the flat buffer. Both make the very calls that autograd makes, with
operands that lie in memory as its do, so that values and gradients are the same bit for bit.

Shape legend: ``M`` members, ``B`` rows, ``I`` inputs and ``O`` outputs of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from plasticbench.learning.layers import LayerSpec

_ALIGNMENT_BYTES = 64  # of new memory


class _Layer(NamedTuple):
    """Views of the flat buffers of weights and gradients."""

    weight_MIO: Tensor
    bias_M1O: Tensor
    weight_gradient_MIO: Tensor
    bias_gradient_M1O: Tensor
    is_aligned: bool  # products round otherwise where they are written to other addresses than those of new memory


def is_chain(specs: Sequence[LayerSpec]) -> bool:
    """Whether these are linear layers with ReLU between them, of which the last may have siblings."""
    outputs = [spec for spec in specs if spec.wiring == "sibling"]
    hidden = specs[: len(specs) - len(outputs) - 1]
    return (
        all(len(spec.weight_shape) == 2 and spec.reads == "identity" for spec in specs)
        and all(spec.wiring == "chain" for spec in specs[: len(hidden) + 1])
        and all(spec.activation == "relu" for spec in hidden)
    )


class Chain:
    """The layers of a network for which ``is_chain`` holds, by views ``[M, ...]`` of their weights and gradients."""

    def __init__(self, specs: Sequence[LayerSpec], weights: dict[str, Tensor], gradients: dict[str, Tensor]) -> None:
        def layer(spec: LayerSpec) -> _Layer:
            weight, bias = f"{spec.name}.weight", f"{spec.name}.bias"
            held = [views[name] for views in (weights, gradients) for name in (weight, bias)]
            weight_gradient = held[2].transpose(1, 2)
            is_aligned = weight_gradient.data_ptr() % _ALIGNMENT_BYTES == 0
            return _Layer(
                held[0].transpose(1, 2), held[1].unsqueeze(1), weight_gradient, held[3].unsqueeze(1), is_aligned
            )

        layers = [layer(spec) for spec in specs]
        num_hidden = max(i for i, spec in enumerate(specs) if spec.wiring != "sibling")
        self._hidden, self._outputs = layers[:num_hidden], layers[num_hidden:]
        self._read: list[Tensor] = []

    @torch.no_grad()
    def forward(self, x: Tensor, *, keeps: bool = False) -> Tensor:
        """Outputs ``[M, B, outputs]`` of ``[M, B, ...]``; with ``keeps``, ``backward`` may follow once."""
        x = x.flatten(2)
        read = [x]
        for layer in self._hidden:
            x = torch.baddbmm(layer.bias_M1O, x, layer.weight_MIO).relu_()
            read.append(x)
        if keeps:
            self._read = read
        outputs = [torch.baddbmm(layer.bias_M1O, x, layer.weight_MIO) for layer in self._outputs]
        return torch.cat(outputs, dim=-1) if len(outputs) > 1 else outputs[0]

    @torch.no_grad()
    def backward(self, pull: Tensor | None) -> None:
        """Writes all gradients for one of the outputs, ``[M, B, outputs]``, which a loss has left there."""
        assert pull is not None, "the loss depends on the outputs"
        read, self._read = self._read, []
        pulls = torch.split_with_sizes(pull, [layer.weight_MIO.shape[2] for layer in self._outputs], dim=-1)
        pulled: Tensor | None = None
        for layer, own in zip(self._outputs, pulls, strict=True):
            _write(layer, read[-1], own)
            if self._hidden:
                back = torch.bmm(own, layer.weight_MIO.transpose(1, 2))
                pulled = back if pulled is None else pulled + back
        for number in range(len(self._hidden) - 1, -1, -1):
            layer = self._hidden[number]
            pulled = torch.ops.aten.threshold_backward(pulled, read[number + 1], 0)
            _write(layer, read[number], pulled)
            if number:
                pulled = torch.bmm(pulled, layer.weight_MIO.transpose(1, 2))


def _write(layer: _Layer, read: Tensor, pull: Tensor) -> None:
    transposed = read.transpose(1, 2)
    if layer.is_aligned:
        torch.bmm(transposed, pull, out=layer.weight_gradient_MIO)
    else:
        layer.weight_gradient_MIO.copy_(torch.bmm(transposed, pull))
    torch.sum(pull, dim=1, keepdim=True, out=layer.bias_gradient_M1O)
