"""Copies of tensors that training may change, and files that hold them."""

import mmap
import zlib

import numpy as np
import pytest
import safetensors.torch
import torch

from plasticbench import storage
from plasticbench.tensor_files import Copies, tensor_pieces, tensors_in


def test_a_file_in_pieces_is_one_of_safetensors() -> None:
    tensors = {
        "matrix": torch.randn(3, 40, 50),
        "transposed": torch.randn(4, 300, 400).transpose(1, 2),  # in more than one piece
        "column": torch.randn(1, 6, dtype=torch.float64)[:, 2],  # contiguous with a stride of 6
        "empty": torch.zeros(0, 4),
        "number": torch.tensor(3.0, dtype=torch.float64),
        "marks": torch.tensor([True, False]),
        "counts": torch.arange(5),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "frames": torch.arange(7, dtype=torch.uint8),
        "generators": torch.from_numpy(np.array([1, 2**64 - 1], dtype=np.uint64)),
        "tokens": torch.from_numpy(np.arange(3, dtype=np.uint16)),
        "masks": torch.from_numpy(np.arange(3, dtype=np.uint32)),
        "spectrum": torch.tensor([1 + 2j], dtype=torch.complex64),
    }
    pieces = list(tensor_pieces(tensors))
    assert len(pieces) > len(tensors) + 1
    file = b"".join(pieces)
    for loaded in (safetensors.torch.load(file), tensors_in(file)):
        assert loaded.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert loaded[name].dtype == tensor.dtype
            assert torch.equal(loaded[name], tensor)


def test_files_of_safetensors_itself_are_read_as_well() -> None:
    tensors = {"few": torch.arange(3, dtype=torch.uint8), "many": torch.randn(5, 4)}
    loaded = tensors_in(safetensors.torch.save(tensors, metadata={"made": "elsewhere"}))
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"few",
        bytes(100),
        (40).to_bytes(8, "little") + b"{",
        (2).to_bytes(8, "little") + b"[]",
        *(
            safetensors.torch.save({"rows": torch.ones(2, 3)}).replace(here, there)
            for here, there in ((b"F32", b"F31"), (b"[2,3]", b"[2,4]"), (b"shape", b"shade"), (b"[0,24]", b"[0,20]"))
        ),
    ],
)
def test_a_file_that_is_none_of_safetensors_is_refused(file) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        tensors_in(file)


def test_what_is_loaded_from_a_disk_is_mapped_and_to_write_to_it_leaves_the_file_as_it_is(tmp_path) -> None:
    path, rows = tmp_path / "rows.safetensors", torch.arange(600_000.0).view(2, -1)
    path.write_bytes(b"".join(tensor_pieces({"rows": rows})))
    file, crc32 = storage.checked(path)
    assert isinstance(file, mmap.mmap)
    assert crc32 == zlib.crc32(path.read_bytes())
    loaded = tensors_in(file)["rows"]
    loaded[1] = 0.0
    again = tensors_in(storage.checked(path)[0])["rows"]
    path.unlink()
    assert torch.equal(again, rows)


def test_a_copy_holds_what_was_and_takes_the_memory_of_the_one_before() -> None:
    flat, other = torch.arange(100.0), torch.arange(50)
    tensors = {"matrix": flat[:40].view(4, 10).T, "rest": flat[40:].view(6, 10), "few": other[:3]}
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    copies = Copies()
    first = copies.of(tensors)
    flat.zero_()
    other.zero_()
    assert all(torch.equal(first[name], before[name]) for name in tensors)
    assert first["matrix"].data_ptr() == first["rest"].data_ptr() - 4 * 40, "one copy of what lies together"
    assert first["matrix"].stride() == tensors["matrix"].stride()
    second = copies.of(tensors)
    assert second["rest"].data_ptr() == first["rest"].data_ptr()
    assert all(torch.equal(second[name], tensors[name]) for name in tensors)
    assert first["few"].tolist() == [0, 1, 2], "not the whole of a buffer that belongs to others"


def test_arrays_that_begin_at_one_address_are_copied_each() -> None:
    array = np.arange(10.0)
    tensors = {"few": torch.from_numpy(array[:3]), "all": torch.from_numpy(array)}
    copied = Copies().of(tensors)
    assert all(torch.equal(copied[name], tensor) for name, tensor in tensors.items())
