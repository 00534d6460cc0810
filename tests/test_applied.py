"""When a part acts: from its beginning on, at its pace, and after a restart as if there had been none."""

import torch
from treated import part, train, trained, weights


def _due(network, steps) -> list[int]:
    return [step for step in steps if network.parts.due(step)]


def test_a_part_leaves_no_trace_before_it_begins() -> None:
    late, never = trained([[part("l2_init", strength=1.0, begin_step=5)]]), trained([[]])
    for network in (late, never):
        train(network, 5)
    assert all(torch.equal(value, weights(never, 0)[name]) for name, value in weights(late, 0).items())
    assert late.parts.applications[0].state is None
    for network in (late, never):
        train(network, 1, first=6)
    assert not torch.equal(weights(late, 0)["fc1.weight"], weights(never, 0)["fc1.weight"])


def test_a_paced_part_acts_in_the_first_update_of_each_period() -> None:
    assert _due(trained([[part("l2_init", every_steps=4)]]), range(1, 14)) == [4, 8, 12]
    assert _due(trained([[part("l2_init", every_steps=4)]]), [3, 6, 7, 13, 14]) == [6, 13]
    assert _due(trained([[part("l2_init", every_steps=4, begin_step=6)]]), range(1, 14)) == [8, 12]


def test_the_pace_goes_on_where_it_was_saved() -> None:
    parts = [[part("l2_init", every_steps=4)]]
    saved, restored = trained(parts), trained(parts)
    assert _due(saved, [3, 6]) == [6]
    restored.load_state_dict(saved.state_dict(), [0], saved.parts.plain_state())
    assert _due(restored, [7, 8]) == [8]
