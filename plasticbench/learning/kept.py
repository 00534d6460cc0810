"""What a pass with gradients leaves in memory until the gradients are there."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def kept_bytes(module: nn.Module, inputs: Tensor) -> tuple[int, int]:
    """Bytes that autograd keeps for the gradient of a training pass, weights and buffers left out; and of outputs."""
    own = {tensor.untyped_storage()._cdata for tensor in (*module.parameters(), *module.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no two share an address

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    module.train()
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        outputs: Tensor = module(inputs)
    return sum(storage.nbytes() for storage in kept.values()), outputs.numel() * outputs.element_size()
