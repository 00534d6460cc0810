"""Four ways to convolve a population are one convolution, member by member."""

import pytest
import torch
from small_runs import small

from plasticbench.learning.convolutions import CANDIDATES, by_member, channels_last, convolution_for, prefer
from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.training.trainer import build_course


def tensors(members, rows, channels, size, out, kernel):
    generator = torch.Generator().manual_seed(0)
    shapes = ((members, rows, channels, size, size + 1), (members, out, channels, kernel, kernel), (members, out))
    return [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]


def test_a_convolution_worked_by_hand():
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).view(1, 1, 1, 2, 3).repeat(2, 1, 1, 1, 1)
    weight = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 2.0], [0.0, 0.0]]]).view(2, 1, 1, 2, 2)
    bias = torch.tensor([[10.0], [0.0]])
    for convolve in CANDIDATES:
        assert convolve(x, weight, bias, 1, 0).flatten(1).tolist() == [[16.0, 18.0], [4.0, 6.0]]


@pytest.mark.parametrize("convolve", CANDIDATES)
@pytest.mark.parametrize(("members", "stride", "padding"), [(1, 1, 0), (3, 2, 0), (3, 1, 1), (2, 3, 2)])
def test_all_ways_agree_forth_and_back(convolve, members, stride, padding):
    inputs = tensors(members, 4, 3, 9, 5, 3)
    maps, expected = convolve(*inputs, stride, padding), by_member(*inputs, stride, padding)
    torch.testing.assert_close(maps, expected, rtol=1e-5, atol=1e-5)
    pull = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad(maps, inputs, pull)
    for ours, theirs in zip(found, torch.autograd.grad(expected, inputs, pull), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_channels_lie_side_by_side_from_one_convolution_to_the_next():
    x, weight, bias = tensors(2, 4, 3, 9, 5, 3)
    for convolve, is_last in ((channels_last, True), (by_member, False)):
        for maps in convolve(x, weight, bias, 1, 0).relu():
            assert maps.is_contiguous(memory_format=torch.channels_last) == is_last


def test_cpus_make_a_call_per_member_and_what_is_not_timed_is_grouped():
    x, weight, _ = tensors(2, 4, 3, 9, 5, 3)
    assert convolution_for(x, weight, 1, 0) is by_member
    assert convolution_for(x.detach().to("meta"), weight.detach().to("meta"), 1, 0).__name__ == "grouped"


@pytest.mark.parametrize("way", ["by_member", "channels_last", "grouped"])
def test_the_way_that_a_benchmark_prefers_is_taken_until_another_leaves_it_open(way):
    x, weight, _ = tensors(2, 4, 3, 9, 5, 3)
    prefer(way)
    try:
        assert convolution_for(x, weight, 1, 0).__name__ == way
    finally:
        prefer("auto")
    assert convolution_for(x, weight, 1, 0) is by_member


def test_a_population_convolves_as_its_file_says_and_the_next_one_as_its_own_does():
    x, weight, _ = tensors(2, 4, 3, 9, 5, 3)
    for execution, expected in (({"convolutions": "grouped"}, "grouped"), ({}, "by_member")):
        benchmark = from_dict(
            small(
                environments=[{"kind": "minatar", "task": "Breakout-MinAtar"}],
                agent=small()["agent"] | {"network": {"kind": "minatar_cnn"}},
                execution=execution,
            )
        )
        segment = make_plan(benchmark).segments[0]
        build_course(benchmark, segment, [None] * len(segment.members)).close()
        assert convolution_for(x, weight, 1, 0).__name__ == expected
