import numpy as np
import pytest

from plasticbench import plugins
from plasticbench.contracts.task import DiscreteActions, EnvSpec, EnvStep
from plasticbench.envs import label_bandit
from plasticbench.envs._world import World
from plasticbench.envs.scenarios import label_permutation, random_labels
from plasticbench.envs.scenarios._unchanged import Unchanged
from plasticbench.seeding import derive_generator, derive_seed

SEEDS = (3, 4)
PICTURES, CLASSES = label_bandit.pictures()
CONFIG = label_bandit.Config(num_envs=2, samples=50)


def _world(seeds=SEEDS, phases=4) -> World:
    return World(CONFIG, random_labels.Config(phases=phases).build(CONFIG.spec, seeds, 80, 2), seeds, num_threads=1)


def _rows(obs: np.ndarray) -> np.ndarray:
    """Which picture each is, ``[M, E]``."""
    same = (obs.reshape(-1, 1, 64) == PICTURES.reshape(1, -1, 64)).all(axis=-1)
    assert (same.sum(axis=1) == 1).all()
    return same.argmax(axis=1).reshape(obs.shape[:2])


def _labels(seed: int, phase: int) -> np.ndarray:
    return derive_generator(seed, "scenario", phase).integers(10, size=1438)


def _right(world: World, phase: int) -> np.ndarray:
    rows = _rows(world.obs)
    return np.stack([_labels(seed, phase)[rows[member]] for member, seed in enumerate(SEEDS)])


def test_an_episode_is_one_digit_and_its_class_is_worth_one() -> None:
    env = CONFIG.build([7], num_threads=1)
    order = derive_generator(7, "digits").integers(50, size=256)
    obs = env.reset()
    for row in order[:5]:
        np.testing.assert_array_equal(obs, PICTURES[[row]])
        answer = np.array([CLASSES[row] if row % 2 else (CLASSES[row] + 1) % 10])
        step = env.step(answer)
        assert (step.reward[0], step.terminated[0], step.truncated[0]) == (row % 2, True, False)
        np.testing.assert_array_equal(step.obs, obs)
        step = env.step(answer)
        assert (step.reward[0], step.terminated[0], step.truncated[0]) == (0, False, False)
        obs = step.obs


def test_digits_are_drawn_from_the_samples_alone_and_all_of_them_come() -> None:
    env = label_bandit.Config(samples=30).build([1], num_threads=1)
    seen = [env.reset()] + [env.step(np.array([0])).obs for _ in range(1000)]
    assert set(_rows(np.stack(seen)).flat) == set(range(30))


def test_scores_are_zero_for_random_answers_and_one_for_right_ones() -> None:
    assert CONFIG.score(0.1) == pytest.approx(0)
    assert CONFIG.score(1.0) == pytest.approx(1)
    assert CONFIG.score(0.55) == pytest.approx(0.5)


def test_each_phase_pays_for_labels_of_its_own_that_the_members_seed_draws() -> None:
    world = _world()
    for phase in range(4):
        world.change(phase, 20 * phase)
        for _ in range(10):
            right, wrong = _right(world, phase), np.array([[True, False], [False, True]])
            step = world.step((right + wrong) % 10)
            np.testing.assert_array_equal(step.raw_reward, ~wrong)
            np.testing.assert_array_equal(step.reward, ~wrong)
            assert not world.step(right).raw_reward.any()  # shows new digits
    returns, _, counts = world.episodes.drain(2)
    assert (returns.tolist(), counts.tolist()) == ([40, 40], [80, 80])


def test_labels_are_others_in_each_phase_and_for_each_member() -> None:
    tables = [_labels(seed, phase) for seed in SEEDS for phase in range(3)]
    shares = [(one == other).mean() for i, one in enumerate(tables) for other in tables[:i]]
    assert all(0.05 < share < 0.15 for share in shares)


def test_permuted_classes_swap_their_names_and_all_digits_of_one_keep_a_name_in_common() -> None:
    scenario = label_permutation.Config(phases=4).build(CONFIG.spec, SEEDS, 80, 2)
    assert (scenario.change_steps, scenario.clears_replay) == ((20, 40, 60), True)
    world = World(CONFIG, scenario, SEEDS, num_threads=1)
    for phase in range(3):
        world.change(phase, 20 * phase)
        names = np.stack([derive_generator(seed, "scenario", phase).permutation(10) for seed in SEEDS])
        right = np.take_along_axis(names, CLASSES[_rows(world.obs)], axis=1)
        np.testing.assert_array_equal(world.step(right).raw_reward, 1)
        assert not world.step(right).raw_reward.any()  # shows new digits
    assert len({tuple(own) for own in names}) == len(SEEDS)
    with pytest.raises(ValueError, match=r"kind: label_permutation gives new labels to the pictures of 'kind: label_b"):
        label_permutation.Config().build(
            EnvSpec(obs_shape=(6,), obs_dtype="float32", actions=DiscreteActions(count=2)), SEEDS, 1_000, 1
        )


def test_changes_split_the_budget_evenly_and_do_not_restart_the_digits() -> None:
    scenario = random_labels.Config(phases=4).build(CONFIG.spec, SEEDS, 81, 2)
    assert scenario.change_steps == (20, 40, 62)
    assert scenario.clears_replay
    assert not random_labels.Config(replay="keep").build(CONFIG.spec, SEEDS, 800, 2).clears_replay
    world, seed = _world(), derive_seed(SEEDS[1], "environment", 0, 1)
    order = derive_generator(seed, "digits").integers(50, size=256)
    for phase in range(3):
        world.change(phase, 20 * phase)
        assert _rows(world.obs)[1, 1] == order[phase]
        world.step(np.zeros((2, 2), int))
        world.step(np.zeros((2, 2), int))


def test_without_the_scenario_answers_are_the_digits_own_classes() -> None:
    world = World(CONFIG, Unchanged(), SEEDS, num_threads=1)
    assert world.step(CLASSES[_rows(world.obs)]).raw_reward.all()


def test_a_member_is_the_same_alone_and_among_others_and_goes_on_as_saved() -> None:
    world, alone, actions = _world(), _world(seeds=SEEDS[1:]), np.random.default_rng(0).integers(0, 10, (31, 2, 2))
    for world_now in (world, alone):
        world_now.change(2, 4)
    seen = [world.step(action) for action in actions]
    for step, action in zip(seen, actions, strict=True):
        own = alone.step(action[1:])
        for theirs, ours in zip(step, own, strict=True):
            np.testing.assert_array_equal(theirs[1:], ours)
    restored = _world()
    restored.load_state_dict(world.state_dict(), [0, 1], phase=2, replay=True)
    for action in actions:
        for theirs, ours in zip(world.step(action), restored.step(action), strict=True):
            np.testing.assert_array_equal(theirs, ours)


def test_pictures_that_are_no_digits_are_paid_as_any_other() -> None:
    scenario = random_labels.Config().build(CONFIG.spec, (0,), 1_000, 1)
    silent, ended = np.zeros((1, 1, 1, 8, 8), np.uint8), np.ones((1, 1), bool)
    nothing = np.zeros((1, 1), np.float32)
    step = EnvStep(silent, nothing, nothing, ended, ~ended)
    assert scenario.reward(step, 0, silent, np.full((1, 1), 3)).reward.shape == (1, 1)


def test_other_tasks_and_phases_that_do_not_fit_are_refused() -> None:
    other = EnvSpec(obs_shape=(6,), obs_dtype="float32", actions=DiscreteActions(count=2))
    with pytest.raises(
        ValueError, match=r"kind: random_labels gives new labels to the pictures of 'kind: label_bandit"
    ):
        random_labels.Config().build(other, SEEDS, 1_000, 1)
    for budget, stride in ((16, 2), (12, 1)):
        with pytest.raises(ValueError, match=f"phases: must each begin on a step.*budget of {budget} steps, got 16"):
            random_labels.Config().build(CONFIG.spec, SEEDS, budget, stride)
    with pytest.raises(ValueError, match="phases: must be at least 2, got 1"):
        random_labels.Config(phases=1)
    with pytest.raises(ValueError, match=r"samples: .*1438.*got 2000"):
        plugins.config_from("envs", "label_bandit", {"samples": 2_000})
