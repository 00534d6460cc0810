"""A random share of the units is recycled."""

import numpy as np
import pytest
from treated import event, part, train, trained, update, weights


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.25, 2 + 2), (0.5, 4 + 3), (1.0, 8 + 6)])
def test_the_share_of_each_layer_is_recycled(share, expected) -> None:
    network = trained([[part("partial_reset", share=share)]])
    train(network, 3)
    before = weights(network, 0)
    report = event(network, [0], 3)
    assert report.measurements["recycled"].tolist() == [expected]
    changed = [(weights(network, 0)[f"{n}.weight"] != before[f"{n}.weight"]).any(dim=1).sum() for n in ("fc1", "fc2")]
    assert int(sum(changed)) >= expected


def test_recycled_units_are_silent_towards_their_readers() -> None:
    network = trained([[part("partial_reset", share=0.5)]])
    train(network, 3)
    event(network, [0], 3)
    assert int((weights(network, 0)["fc3.weight"] == 0).all(dim=0).sum()) == 3


def test_another_event_chooses_other_units_and_members_choose_for_themselves() -> None:
    network = trained([[part("partial_reset", share=0.5)]] * 2)
    chosen = []
    for step in (1, 2, 3):
        update(network, step)
        event(network, [0, 1], step)
        silent = (network.online.parameters["fc3.weight"].detach() == 0).all(dim=1)
        chosen.append(silent.numpy().copy())
    assert not all(np.array_equal(chosen[0], other) for other in chosen[1:])
    assert not all(np.array_equal(both[0], both[1]) for both in chosen)
