import numpy as np
import pytest

from plasticbench import plugins
from plasticbench.contracts.task import DiscreteActions, EnvSpec, Scenario
from plasticbench.envs import label_bandit
from plasticbench.envs.scenarios import observation_offset, observation_permutation
from plasticbench.seeding import derive_generator

PIXELS = EnvSpec(
    obs_shape=(4, 5, 3), obs_dtype="uint8", actions=DiscreteActions(count=2), frame_stack=4, obs_scale=1 / 255
)
VECTOR = EnvSpec(obs_shape=(6,), obs_dtype="float32", actions=DiscreteActions(count=2))
OF_NUMBERS = ("observation_offset",)  # which pixels would not hold
OWN_SPECS = dict.fromkeys(("label_permutation", "random_labels"), label_bandit.SPEC)
"""Of scenarios that change one task alone."""
SETTINGS = {
    "dynamics_drift": {"friction": (1.0, 0.5, 1.0)},
    "label_permutation": {"phases": 4},
    "level_sets": {"phases": 4},
    "random_labels": {"phases": 4},
    "repeat": {"tasks": ("A", "B"), "rounds": 2},
    "reward_flip": {"at": (0.5,)},
    "target_switch": {"angles_degrees": (0.0, 180.0)},
    "task_sequence": {"tasks": ("A", "B", "C")},
    "stationary": {},
    "observation_offset": {"at": (0.5,)},
    "observation_permutation": {"at": (0.5,)},
}


def _permutation(spec: EnvSpec, seeds: tuple[int, ...] = (0, 1), at: tuple[float, ...] = (0.5,)) -> Scenario:
    return observation_permutation.Config(at=at).build(spec, seeds, budget_steps=1000, num_envs=4)


def _observations(spec: EnvSpec, members: int = 2) -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 256, (members, 3, *spec.obs_shape))
    return values.astype(spec.obs_dtype)


def test_the_permutation_is_the_seeds_own_hand_checked() -> None:
    obs = _observations(VECTOR)
    order = derive_generator(1, "scenario", 1).permutation(6)
    assert _permutation(VECTOR).transform(obs, 1)[1, 2].tolist() == [obs[1, 2, i] for i in order]


def test_phase_zero_is_the_identity() -> None:
    obs = _observations(PIXELS)
    np.testing.assert_array_equal(_permutation(PIXELS).transform(obs, 0), obs)


def test_each_frame_of_a_stack_is_permuted_alike_within_itself() -> None:
    obs = _observations(PIXELS)
    obs[:] = obs[:, :, :1]  # four equal frames
    permuted = _permutation(PIXELS).transform(obs, 1)
    assert (permuted == permuted[:, :, :1]).all()
    assert (permuted != obs).any()
    np.testing.assert_array_equal(np.sort(permuted.reshape(2, 3, 4, -1)), np.sort(obs.reshape(2, 3, 4, -1)))


def test_members_and_phases_have_permutations_of_their_own() -> None:
    obs = np.broadcast_to(np.arange(6, dtype=np.float32), (2, 1, 6))
    scenario = _permutation(VECTOR, at=(0.3, 0.6))
    first, second = scenario.transform(obs, 1), scenario.transform(obs, 2)
    assert (first[0] != first[1]).any()
    assert (first != second).any()


def test_a_member_sees_the_same_alone_and_among_others() -> None:
    obs = _observations(PIXELS)
    alone = _permutation(PIXELS, seeds=(1,)).transform(obs[1:], 1)
    np.testing.assert_array_equal(alone, _permutation(PIXELS).transform(obs, 1)[1:])


def _offset(spec: EnvSpec, seeds: tuple[int, ...] = (0, 1)) -> Scenario:
    return observation_offset.Config(at=(0.3, 0.6)).build(spec, seeds, budget_steps=1000, num_envs=4)


def test_offsets_are_the_seeds_own_vectors_and_constant_within_a_phase() -> None:
    obs = _observations(VECTOR)
    scenario = _offset(VECTOR)
    for phase in (1, 2):
        for member in (0, 1):
            vector = 2 * derive_generator(member, "scenario", phase).standard_normal(6)
            moved = scenario.transform(obs, phase)[member] - obs[member]
            np.testing.assert_allclose(moved, np.tile(vector, (3, 1)), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(scenario.transform(obs, 0), obs)
    np.testing.assert_array_equal(_offset(VECTOR, (1,)).transform(obs[1:], 1), scenario.transform(obs, 1)[1:])
    assert scenario.change_steps == (300, 600)
    assert scenario.transform(obs, 1).dtype == np.float32


def test_offsets_are_alike_for_the_frames_of_a_stack_and_refused_for_pixels() -> None:
    stacked = EnvSpec(obs_shape=(4, 5), obs_dtype="float32", actions=DiscreteActions(count=2), frame_stack=4)
    moved = _offset(stacked).transform(np.zeros((2, 3, 4, 5), np.float32), 1)
    assert (moved == moved[:, :1, :1]).all()
    with pytest.raises(ValueError, match=r"kind: observation_offset needs observations that are numbers, got uint8"):
        _offset(PIXELS)


@pytest.mark.parametrize(
    "at, budget_steps, num_envs, expected",
    [
        ((0.5,), 2_500_001, 4, (1_250_000,)),
        ((0.5,), 1001, 8, (504,)),
        ((0.1,), 30, 1, (3,)),
        ((0.25, 0.75), 40_000, 1, (10_000, 30_000)),
    ],
)
def test_changes_are_rounded_up_to_whole_vector_steps(
    at: tuple[float, ...], budget_steps: int, num_envs: int, expected: tuple[int, ...]
) -> None:
    scenario = observation_permutation.Config(at=at).build(VECTOR, [0], budget_steps, num_envs)
    assert scenario.change_steps == expected


def test_replay_rule_decides_whether_changes_clear_the_replay() -> None:
    for rule, clears in (("keep", False), ("clear", True)):
        config = plugins.config_from("scenarios", "observation_permutation", {"at": (0.5,), "replay": rule})
        assert config.build(VECTOR, [0], 100, 1).clears_replay is clears


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"at": (0.0,)}, "at:.*got 0.0"),
        ({"at": (1.0,)}, "at:.*got 1.0"),
        ({"at": (0.5, 0.5)}, "at:.*ascending"),
        ({"at": ()}, "at:"),
        ({"at": (0.5,), "replay": "cleared"}, "replay:.*'cleared'.*Did you mean 'clear'"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plugins.config_from("scenarios", "observation_permutation", settings)


def test_changes_that_fall_together_or_outside_the_budget_are_refused() -> None:
    for at, budget_steps, num_envs in (((0.51, 0.52), 100, 10), ((0.99,), 100, 10), ((0.001,), 100, 1)):
        with pytest.raises(ValueError, match="at: changes must fall"):
            observation_permutation.Config(at=at).build(VECTOR, [0], budget_steps, num_envs)


@pytest.mark.parametrize(
    ("kind", "spec"),
    [pytest.param(kind, OWN_SPECS.get(kind, VECTOR), id=f"{kind}-own") for kind in plugins.names("scenarios")]
    + [
        pytest.param(kind, PIXELS, id=f"{kind}-pixels")
        for kind in plugins.names("scenarios")
        if kind not in (*OF_NUMBERS, *OWN_SPECS)
    ],
)
def test_every_scenario_keeps_its_promises(kind: str, spec: EnvSpec) -> None:
    config = plugins.config_from("scenarios", kind, SETTINGS[kind])
    scenario = config.build(spec, [3, 4], budget_steps=1000, num_envs=8)
    assert list(scenario.change_steps) == sorted(set(scenario.change_steps))
    assert all(0 < step < 1000 and step % 8 == 0 for step in scenario.change_steps)
    assert scenario.clears_replay in (True, False)
    obs = _observations(spec)
    before = obs.copy()
    for phase in range(len(scenario.change_steps) + 1):
        seen = scenario.transform(obs, phase)
        assert (seen.shape, seen.dtype) == (obs.shape, obs.dtype)
        np.testing.assert_array_equal(obs, before)
        np.testing.assert_array_equal(seen, config.build(spec, [3, 4], 1000, 8).transform(obs, phase))
