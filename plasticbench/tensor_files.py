"""Copies of tensors that training may change meanwhile, and files in the format of safetensors, piece by piece."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mmap

    from torch import Tensor

_TYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "complex64": "C64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}
_NAMES = {kind: name for name, kind in _TYPES.items()}
_PIECE_BYTES = 1 << 20  # of a tensor that is larger, each of its members is a piece


class Copies:
    """Copies whose memory is used again: to touch new memory takes ten times as long as to fill what was touched.

    Tensors that are views of one buffer are copied with it, as it lies, since its parts may be transposed.
    """

    def __init__(self) -> None:
        self._memory: list[Tensor] = []  # bytes

    def of(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Equal tensors in the host's memory, until the next call."""
        shown: dict[tuple[int, int], int] = {}  # bytes by buffer
        for tensor in tensors.values():
            buffer = _buffer(tensor)
            shown[buffer] = shown.get(buffer, 0) + tensor.nbytes
        spare, self._memory = self._memory, []
        copied: dict[tuple[int, int], Tensor] = {}
        found = {}
        for name, tensor in tensors.items():
            buffer = _buffer(tensor)
            if buffer[1] > 2 * shown[buffer]:  # most of it belongs to others
                found[name] = tensor.detach().to("cpu", copy=True)
                continue
            if buffer not in copied:
                copied[buffer] = self._copy(_bytes_of(tensor), spare)
            found[name] = tensor.new_empty(0, device="cpu").set_(
                copied[buffer].untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride()
            )
        return found

    def _copy(self, buffer: Tensor, spare: list[Tensor]) -> Tensor:
        place = next((place for place, one in enumerate(spare) if len(one) == len(buffer)), None)
        if place is not None:
            own = spare.pop(place)
        else:
            own = buffer.new_empty(len(buffer), device="cpu", pin_memory=buffer.is_cuda)
        self._memory.append(own)
        return own.copy_(buffer)


def _buffer(tensor: Tensor) -> tuple[int, int]:
    """Address and bytes of what a tensor lies in: arrays of NumPy may begin at one address and end elsewhere."""
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.nbytes()


def _bytes_of(tensor: Tensor) -> Tensor:
    import torch

    buffer = torch.empty(0, dtype=torch.uint8, device=tensor.device)
    return buffer.set_(tensor.untyped_storage(), 0, (tensor.untyped_storage().nbytes(),), (1,))


def tensor_pieces(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """What ``safetensors.torch.save`` makes of tensors on the host, without a copy of all of it."""
    ordered = sorted(tensors.items(), key=lambda named: (-named[1].element_size(), named[0]))
    header, end = {}, 0
    for name, tensor in ordered:
        begin, end = end, end + tensor.nbytes
        kind = _TYPES[str(tensor.dtype).removeprefix("torch.")]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for _, tensor in ordered:
        # Member by member transposed matrices are copied in tiles, several times as fast as all together.
        for part in tensor if tensor.dim() > 1 and tensor.nbytes > _PIECE_BYTES else (tensor,):
            yield _memory(part)


def tensors_in(file: mmap.mmap | bytes) -> dict[str, Tensor]:
    """Inverse of ``tensor_pieces``, in the memory of ``file``. Raises ``ValueError`` for any other file."""
    import numpy as np
    import torch

    data = np.frombuffer(file, dtype=np.uint8)
    try:
        start = 8 + int.from_bytes(data[:8].tobytes(), "little")
        header = json.loads(data[8:start].tobytes())
        found = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bytes are not to be written to, and these are nobody else's
            for name, about in header.items():
                if name != "__metadata__":
                    begin, end = about["data_offsets"]
                    part = torch.from_numpy(data[start + begin : start + end])
                    found[name] = part.view(getattr(torch, _NAMES[about["dtype"]])).view(about["shape"])
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(repr(error)) from error
    return found


def _memory(tensor: Tensor) -> memoryview:
    import torch

    whole = tensor.detach().cpu().contiguous()
    # Of a dimension of length 1 any stride counts as contiguous, and bytes are seen through a stride of 1 alone.
    return whole.as_strided((whole.numel(),), (1,)).view(torch.uint8).numpy().data
