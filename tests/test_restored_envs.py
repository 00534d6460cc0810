"""Environments whose state is saved go on bit for bit, whatever moment they were saved at."""

import numpy as np
import pytest
from own_environments import forgotten, write_module

from plasticbench import plugins
from plasticbench.contracts.task import BoxActions, DiscreteActions, EnvConfig, EnvStep, RestorableEnv
from plasticbench.envs import _own_modules, atari, gymnasium, humanoid, minatar
from plasticbench.envs._journal import JournaledEnv, select_envs

SEEDS = [3, 4]
STICKY_GAMES = ("Asterix", "BeamRider", "DemonAttack")


def _actions(config: EnvConfig, num_envs: int, steps: int, seed: int = 0) -> np.ndarray:
    rng, space = np.random.default_rng(seed), config.spec.actions
    if isinstance(space, DiscreteActions):
        return rng.integers(space.count, size=(steps, num_envs))
    assert isinstance(space, BoxActions)
    low, high = np.array(space.low), np.array(space.high)
    return rng.uniform(low, high, (steps, num_envs, len(low))).astype(np.float32)


def _assert_goes_on_alike(config: EnvConfig, saved_after: int, steps: int) -> list[EnvStep]:
    """Saves, goes on, restores into new environments and compares every step; returns those steps."""
    actions = _actions(config, len(SEEDS), saved_after + steps)
    env = config.build(SEEDS, num_threads=1)
    assert isinstance(env, RestorableEnv)
    obs = env.reset()
    for action in actions[:saved_after]:
        obs = env.step(action).obs
    state = {name: value.copy() for name, value in env.save().items()}
    went_on = [env.step(action) for action in actions[saved_after:]]
    env.close()
    twin = config.build([99, 98], num_threads=1)
    assert isinstance(twin, RestorableEnv)
    np.testing.assert_array_equal(twin.restore(state), obs)
    for number, (action, expected) in enumerate(zip(actions[saved_after:], went_on, strict=True)):
        for name, ours, theirs in zip(EnvStep._fields, twin.step(action), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=f"{name}, step {number}")
    twin.close()
    return went_on


def _humanoid(task: str) -> None:
    config = humanoid.Config(task=task, action_repeat=2)
    for saved_after in (1, 17, 40):
        _assert_goes_on_alike(config, saved_after, steps=60)


@pytest.mark.parametrize("task", ["h1-reach-v0", "h1-balance_hard-v0"])
def test_robots_go_on_bit_for_bit_in_the_midst_of_contacts(task: str) -> None:
    _humanoid(task)


@pytest.mark.slow
@pytest.mark.parametrize("task", humanoid.tasks())
def test_robots_of_all_tasks_go_on_bit_for_bit(task: str) -> None:
    _humanoid(task)


@pytest.mark.parametrize("task", minatar.tasks())
def test_miniature_games_go_on_bit_for_bit(task: str) -> None:
    went_on = _assert_goes_on_alike(minatar.Config(task=task, max_episode_steps=150), saved_after=233, steps=600)
    assert any(step.terminated.any() or step.truncated.any() for step in went_on)


@pytest.mark.parametrize("saved_after", [0, 1, 150])
def test_an_emulator_goes_on_bit_for_bit(saved_after: int) -> None:
    _assert_goes_on_alike(atari.Config(task="Asterix", backend="ale"), saved_after, steps=60)


@pytest.mark.slow
@pytest.mark.parametrize("task", STICKY_GAMES)
def test_three_thousand_sticky_steps_of_an_emulator_are_the_same(task: str) -> None:
    went_on = _assert_goes_on_alike(atari.Config(task=task, backend="ale", noop_max_frames=30), 1_100, steps=3_000)
    assert any(step.terminated.any() for step in went_on)


KINDS = [
    minatar.Config(task="Seaquest-MinAtar"),
    humanoid.Config(task="h1-walk-v0"),
    atari.Config(task="Asterix", backend="ale"),
]


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.task)
def test_a_saved_state_takes_the_place_of_all_past_actions(config: EnvConfig) -> None:
    actions = _actions(config, 2, 60)
    env, twin = (JournaledEnv(config, seeds, num_threads=1) for seeds in (SEEDS, [0, 1]))
    env.reset()
    for action in actions[:30]:
        env.step(action)
    state = env.state_dict()
    assert len(state["actions"]) == 0
    np.testing.assert_array_equal(twin.load_state_dict(state), env.obs)
    for action in actions[30:]:
        np.testing.assert_array_equal(env.step(action).obs, twin.step(action).obs)


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.task)
def test_a_fork_from_a_saved_state_gives_each_child_its_parents_course(config: EnvConfig) -> None:
    actions = _actions(config, 2, 40)
    parent, child = (JournaledEnv(config, seeds, num_threads=1) for seeds in (SEEDS, [0, 1, 2]))
    parent.reset()
    for action in actions[:20]:
        parent.step(action)
    obs = child.load_state_dict(select_envs(parent.state_dict(), [1, 1, 0]))
    np.testing.assert_array_equal(obs, parent.obs[[1, 1, 0]])
    for action in actions[20:]:
        found, expected = child.step(action[[1, 1, 0]]), parent.step(action)
        np.testing.assert_array_equal(found.obs, expected.obs[[1, 1, 0]])
        np.testing.assert_array_equal(found.raw_reward, expected.raw_reward[[1, 1, 0]])


def test_a_journal_of_an_earlier_version_goes_on_as_a_saved_state() -> None:
    config = minatar.Config(task="Seaquest-MinAtar")
    actions = _actions(config, 2, 90)
    old, new = (JournaledEnv(config, SEEDS, 1, saves_states=saves) for saves in (False, True))
    old.reset()
    for action in actions[:40]:
        old.step(action)
    journal = old.state_dict()
    assert journal.keys() == {"seeds", "actions"}
    assert len(journal["actions"]) == 40
    new.load_state_dict(journal)
    state = new.state_dict()
    assert len(state["actions"]) == 0
    # And back: who keeps a journal from here on keeps it since the state that was saved.
    again = JournaledEnv(config, SEEDS, 1, saves_states=False)
    again.load_state_dict(state)
    for action in actions[40:60]:
        np.testing.assert_array_equal(again.step(action).obs, old.step(action).obs)
    third = JournaledEnv(config, SEEDS, 1, saves_states=False)
    assert len(again.state_dict()["actions"]) == 20
    np.testing.assert_array_equal(third.load_state_dict(again.state_dict()), old.obs)


def test_a_game_that_envpool_began_goes_on_in_ale_and_not_the_other_way() -> None:
    envpools, ales = (atari.Config(task="Asterix", backend=backend) for backend in ("envpool", "ale"))
    actions = _actions(ales, 2, 60)
    env, twin = JournaledEnv(envpools, SEEDS, num_threads=1), JournaledEnv(ales, [0, 1], num_threads=1)
    env.reset()
    for action in actions[:30]:
        env.step(action)
    np.testing.assert_array_equal(twin.load_state_dict(env.state_dict()), env.obs)
    saved = twin.state_dict()
    for action in actions[30:]:
        np.testing.assert_array_equal(env.step(action).obs, twin.step(action).obs)
    with pytest.raises(ValueError, match="Go on with the backend that the run began with"):
        env.load_state_dict(saved)


def test_families_say_whether_they_can_be_saved() -> None:
    says = {kind: getattr(plugins.load("envs", kind).Config, "is_restorable", None) for kind in ("classic", "mujoco")}
    assert says == {"classic": None, "mujoco": None}
    assert not atari.Config(task="Asterix").is_restorable
    assert not atari.Config(task="Asterix", backend="ale", sticky_unit="frame").is_restorable


_COUNTER = """
    def state_dict(self):
        return {"age": self.age}

    def load_state_dict(self, state):
        self.age = state["age"]
"""


def _own(tmp_path, methods: str, **settings: object) -> EnvConfig:
    write_module(tmp_path)
    path = tmp_path / "mine.py"
    path.write_text(path.read_text().replace("\n\ngymnasium.register", f"\n{methods}\n\ngymnasium.register"))
    with _own_modules.searching([tmp_path]):
        return gymnasium.Config(task="mine:Mine-v0", low_return=0.0, high_return=1.0, **settings)


def test_an_environment_of_yours_that_gives_its_state_goes_on_bit_for_bit(tmp_path) -> None:
    with forgotten():
        config = _own(tmp_path, _COUNTER, max_episode_steps=13)
        assert config.is_restorable
        went_on = _assert_goes_on_alike(config, saved_after=7, steps=50)
        assert any(step.truncated.any() for step in went_on)


@pytest.mark.parametrize(
    ("methods", "settings"),
    [
        ("", {}),
        (_COUNTER, {"wrappers": ({"kind": "FrameStackObservation", "stack_size": 2},)}),
        ("    def state_dict(self):\n        return {'a': object()}\n\n    load_state_dict = None\n", {}),
        ("    def state_dict(self):\n        return {'a': object()}\n\n    load_state_dict = state_dict\n", {}),
    ],
)  # fmt: skip
def test_without_a_whole_state_in_plain_data_the_actions_are_kept(tmp_path, methods, settings) -> None:
    with forgotten():
        assert not _own(tmp_path, methods, **settings).is_restorable


class _Fragile:
    """A game of MinAtar whose first member raises at some step."""

    def __init__(self, config, seeds, raises_at):
        self._env, self._seeds, self._left = minatar.Config.build(config, seeds, 1), list(seeds), raises_at
        self.spec, self.num_envs = self._env.spec, self._env.num_envs

    def __getattr__(self, name):
        return getattr(self._env, name)

    def save(self):
        return self._env.save() | {"left": np.full(self.num_envs, self._left)}

    def restore(self, state):
        self._left = int(state["left"][0])
        return self._env.restore({name: value for name, value in state.items() if name != "left"})

    def reset(self):
        return self._env.reset()

    def step(self, actions):
        self._left -= 1
        if SEEDS[0] in self._seeds and self._left == 0:
            raise ValueError("it fell apart")
        return self._env.step(actions)


def test_a_member_that_raises_after_a_commit_is_found_from_the_saved_state(monkeypatch) -> None:
    config = minatar.Config(task="Breakout-MinAtar")
    actions, plain = _actions(config, 2, 60), config.build(SEEDS, 1)

    class Config(minatar.Config):
        def build(self, seeds, num_threads):
            return _Fragile(self, seeds, raises_at=40)

    env = JournaledEnv(Config(task="Breakout-MinAtar"), SEEDS, 1, per_member=1)
    env.reset()
    plain.reset()
    for number, action in enumerate(actions):
        step, expected = env.step(action), plain.step(action)
        if number == 25:
            assert len(env.state_dict()["actions"]) == 0
        np.testing.assert_array_equal(step.obs[1], expected.obs[1])
    assert env.broken.keys() == {0}
    assert "it fell apart" in env.broken[0]
    # And it is gone on with: the broken one shows zeros, the other one goes on.
    state = env.state_dict()
    twin = JournaledEnv(Config(task="Breakout-MinAtar"), SEEDS, 1, per_member=1)
    np.testing.assert_array_equal(twin.load_state_dict(state), env.obs)
    for action in actions[:20]:
        np.testing.assert_array_equal(twin.step(action).obs[1], plain.step(action).obs[1])
    assert twin.broken.keys() == {0}


def test_a_second_member_that_raises_after_going_on_is_noticed() -> None:
    class Config(minatar.Config):
        def build(self, seeds, num_threads):
            return _Fragile(self, seeds, raises_at=10)

    three = [*SEEDS, 7]
    config = Config(task="Breakout-MinAtar")
    env = JournaledEnv(config, three, 1, per_member=1, broken={2: "before"})
    env.reset()
    for action in _actions(config, 3, 12):
        env.step(action)
    assert env.broken.keys() == {0, 2}
    marks = env.state_dict()["broken"]
    np.testing.assert_array_equal(marks, [True, False, True])
