"""What streams show, by hand; and when their phases begin."""

from itertools import pairwise

import numpy as np
import pytest
from small_streams import stream, tiny

from plasticbench import plugins
from plasticbench.envs._phases import change_updates

DATA = tiny()
STREAMS = {
    "binary_pairs": {"phases": 8},
    "class_incremental": {"phases": 4},
    "growing": {"phases": 4},
    "label_permutation": {"phases": 3},
    "permuted_inputs": {"phases": 3},
    "random_labels": {"phases": 3},
    "stationary": {},
    "warm_start": {"share": 0.25},
}


def test_every_stream_is_examined() -> None:
    assert sorted(STREAMS) == plugins.names("streams")


@pytest.mark.parametrize("kind", STREAMS)
def test_a_phase_depends_on_seed_and_number_alone_and_labels_are_outputs(kind: str) -> None:
    config = stream(kind, **STREAMS[kind])
    config.check(DATA)
    for index in range(len(config.lengths(DATA))):
        first, again = config.phase(DATA, 3, index), config.phase(DATA, 3, index)
        for one, other in zip(first.train, again.train, strict=True):
            np.testing.assert_array_equal(one, other)
        assert len(first.train.rows) == len(first.train.labels) > 0
        assert len(set(first.train.rows.tolist())) == len(first.train.rows)
        assert set(first.train.labels.tolist()) <= set(range(config.num_outputs(DATA)))
        assert config.measure == "online" or first.test is not None


@pytest.mark.parametrize("kind", sorted(STREAMS.keys() - {"stationary", "growing"}))
def test_seeds_differ(kind: str) -> None:
    config = stream(kind, **STREAMS[kind])
    phases = [config.phase(DATA, seed, 1 if kind != "warm_start" else 0) for seed in range(8)]
    shown = {(*one.train.rows.tolist(), *one.train.labels.tolist()) for one in phases}
    assert len(shown) > 1


def test_phases_share_the_budget_by_their_lengths() -> None:
    assert change_updates((1.0, 1.0), 100) == (50,)
    assert change_updates((1.0, 2.0, 3.0), 600) == (100, 300)
    assert change_updates((1.0,), 5) == ()
    with pytest.raises(ValueError, match="5 phases do not fit into a budget of 4 updates"):
        change_updates((1.0,) * 5, 4)


def test_warm_start_begins_with_a_share_and_ends_with_all() -> None:
    config = stream("warm_start", share=0.25)
    assert len(config.phase(DATA, 0, 0).train.rows) == 6
    assert sorted(config.phase(DATA, 0, 1).train.rows.tolist()) == list(range(24))
    assert config.lengths(DATA) == (1.0, 1.0)


def test_growing_data_keep_what_was_there_and_take_passes_in_proportion() -> None:
    config = stream("growing", phases=4)
    rows = [set(config.phase(DATA, 1, index).train.rows.tolist()) for index in range(4)]
    assert [len(own) for own in rows] == [6, 12, 18, 24]
    assert all(before < after for before, after in pairwise(rows))
    assert config.lengths(DATA) == (1.0, 2.0, 3.0, 4.0)
    assert stream("growing", phases=4, equal="updates").lengths(DATA) == (1.0,) * 4


def test_classes_come_two_by_two_and_tests_are_of_the_same_classes() -> None:
    seen, new = stream("class_incremental", phases=2), stream("class_incremental", phases=2, rows="new")
    first, second = (set(seen.phase(DATA, 5, index).train.labels.tolist()) for index in range(2))
    assert len(first) == 2
    assert second == {0, 1, 2, 3}
    assert set(new.phase(DATA, 5, 1).train.labels.tolist()) == second - first
    assert set(new.phase(DATA, 5, 1).test.labels.tolist()) == second - first
    assert set(new.phase(DATA, 5, 1).wider["seen_classes"].labels.tolist()) == second
    assert len(seen.phase(DATA, 5, 0).wider["all_classes"].rows) == len(DATA.test_labels)
    assert seen.lengths(DATA) == (2.0, 4.0)
    assert new.lengths(DATA) == (2.0, 2.0)
    assert new.differs
    assert not seen.differs


def test_the_first_phase_of_permuted_inputs_is_not_permuted() -> None:
    config = stream("permuted_inputs", phases=3)
    assert config.phase(DATA, 0, 0).permutation is None
    second, third = (config.phase(DATA, 0, index).permutation for index in (1, 2))
    assert sorted(second.tolist()) == list(range(18))
    assert second.tolist() != third.tolist()


def test_random_labels_are_drawn_anew_for_the_same_rows() -> None:
    config = stream("random_labels", phases=3, samples=10)
    first, second = (config.phase(DATA, 0, index).train for index in (0, 1))
    assert first.rows.tolist() == second.rows.tolist()
    assert first.labels.tolist() != second.labels.tolist()


def test_permuted_labels_rename_whole_classes() -> None:
    one = stream("label_permutation", phases=3).phase(DATA, 2, 2)
    names = {int(old): int(new) for old, new in zip(DATA.labels[one.train.rows], one.train.labels, strict=True)}
    assert sorted(names) == sorted(names.values()) == [0, 1, 2, 3]
    assert [names[int(old)] for old in DATA.test_labels[one.test.rows]] == one.test.labels.tolist()


def test_pairs_repeat_only_once_all_were_there() -> None:
    config = stream("binary_pairs", phases=8, samples_per_class=2)
    pairs = []
    for index in range(8):
        train = config.phase(DATA, 4, index).train
        assert train.labels.tolist() == [0, 0, 1, 1]
        pairs.append(tuple(DATA.labels[train.rows[[0, 2]]].tolist()))
    assert len(set(pairs[:6])) == 6
    assert set(pairs[6:]) <= set(pairs[:6])


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("random_labels", {"phases": 2, "samples": 25}, "samples: must be at most the 24 training rows of the data"),
        ("class_incremental", {"phases": 5}, "phases: must be at most the 4 classes of the data, got 5"),
        ("binary_pairs", {"phases": 2, "samples_per_class": 7}, "class 0 has 6 training rows, so 7 are too many"),
        ("growing", {"phases": 30}, "phases: must be at most the 24 training rows, got 30"),
        ("warm_start", {"share": 0.01}, "share: leaves no row of 24 for the first phase"),
    ],
)  # fmt: skip
def test_a_stream_longer_than_the_data_allow_is_refused(kind: str, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stream(kind, **settings).check(DATA)


def test_a_class_without_rows_is_named() -> None:
    empty = tiny()
    empty.labels[empty.labels == 2] = 1
    with pytest.raises(ValueError, match="class 2 has no training rows, so its phase would be empty"):
        stream("class_incremental", phases=2).check(empty)
