"""Atari 2600: 104 games, 84x84 grey, stack of 4, skip of 4, sticky actions.

The defaults are the protocol of FIRE's DQN experiment (arXiv:2602.08040, rl/dqn), which the preset ``fire_paper_dqn``
pins. What is particular to it:

* an action sticks with probability 0.25 for a whole agent step; Machado et al. 2018 (arXiv:1709.06009) decide anew at
  each of its four emulator frames, which is ``sticky_unit: frame``;
* minimal action sets, rewards clipped to their sign, no end of an episode at the loss of a life;
* 27,000 agent steps per episode: its own limit of 100,000 is never reached, since the Gymnasium environment that it
  wraps ends an episode after 108,000 frames.

Where we differ, by one emulator frame and by rounding: EnvPool cannot start an episode without a no-op frame (it
crashes), and frames are made grey before the maximum and the resize instead of after them.

``backend: ale`` saves the emulator's state, so a resume need not step through the past as EnvPool's must. In the 57
games with references its course is EnvPool's bit for bit, and trials with either have one id, but for two settings for
which chance is drawn otherwise: ``sticky_unit: frame`` and more than one frame without action. With ``sticky_unit:
frame`` it must step through the past as well: the action that an emulator would repeat is not in its state.

EnvPool shows the first 210 rows of a screen. Those of Adventure, AirRaid, Carnival, JourneyEscape, KeystoneKapers,
KingKong, Klax, LaserGates, MrDo, Pacman, Pooyan, SirLancelot and SpaceWar have up to 250: ``backend: ale`` shows all.

A reset fills the whole frame stack with the first frame of the episode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal

import numpy as np

from plasticbench.contracts.task import DiscreteActions, EnvSpec, EnvStep, RestorableEnv, VectorEnv
from plasticbench.envs._ale import FRAME_SKIP, AleEnv
from plasticbench.envs._envpool import EnvPoolEnv
from plasticbench.envs._packing import packed_generators, restore_generators
from plasticbench.envs._scores import ATARI, ATARI_SOURCE, RAW_RETURN, score
from plasticbench.envs._task_names import TaskOf
from plasticbench.seeding import derive_generator
from plasticbench.settings import HalfOpenFraction, PositiveInt, Settings

Backend = Literal["envpool", "ale"]
ActionSet = Literal["minimal", "full"]
StickyUnit = Literal["step", "frame"]
Rewards = Literal["sign", "raw"]

_STACK, _HEIGHT, _WIDTH = 4, 84, 84
_FULL_ACTIONS = 18
_FEWER_ACTIONS = {"LostLuggage": 9, "Skiing": 9}
"""Games that know no more than these with ``action_set: full``: they have no button to press."""
_UNSCORED = (
    "Adventure AirRaid Atlantis2 Backgammon BasicMath Blackjack Carnival Casino Crossbow Darkchambers DonkeyKong "
    "Earthworld ElevatorAction Entombed Et FlagCapture Frogger Galaxian Hangman HauntedHouse HumanCannonball "
    "JourneyEscape Kaboom KeystoneKapers KingKong Klax Koolaid LaserGates LostLuggage MarioBros MiniatureGolf MrDo "
    "Othello Pacman Pitfall2 Pooyan SirLancelot SpaceWar Superman Tetris TicTacToe3d Trondead Turmoil VideoCheckers "
    "VideoChess VideoCube WordZapper"
).split()
"""Games without published returns of people and of chance."""
_GAMES_BY_ACTIONS = {
    3: "Backgammon Freeway Skiing",
    4: "Atlantis Atlantis2 Blackjack Breakout Casino Kaboom",
    5: "Frogger Pacman Surround Tetris VideoCheckers",
    6: (
        "AirRaid BasicMath Bowling Carnival DemonAttack Galaxian KingKong NameThisGame Pong Pooyan Qbert SirLancelot "
        "SpaceInvaders UpNDown"
    ),
    7: "Assault",
    8: "Gopher Phoenix Tutankham",
    9: "Asterix BeamRider CrazyClimber Enduro Koolaid LostLuggage MsPacman VideoPinball",
    10: "Amidar MrDo Othello TicTacToe3d TimePilot VideoChess WizardOfWor",
    12: "Turmoil",
    14: "Asteroids KeystoneKapers KungFuMaster",
    16: "JourneyEscape",
}
"""Sizes of the minimal action sets, known without an emulator; games that are not named need all 18 actions."""
_MINIMAL_ACTIONS = {game: count for count, games in _GAMES_BY_ACTIONS.items() for game in games.split()}


def tasks() -> tuple[str, ...]:
    """All games of the installed ROM set."""
    return tuple(sorted((*ATARI, *_UNSCORED)))


@cache
def _spec(task: str, action_set: ActionSet) -> EnvSpec:
    fewer = _MINIMAL_ACTIONS if action_set == "minimal" else _FEWER_ACTIONS
    count = fewer.get(task, _FULL_ACTIONS)
    return EnvSpec(
        obs_shape=(_STACK, _HEIGHT, _WIDTH),
        obs_dtype="uint8",
        actions=DiscreteActions(count=count),
        frame_stack=_STACK,
        obs_scale=1 / 255,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(Settings):
    """An Atari game. ``noop_max_frames``: each episode starts with 1 to that many emulator frames without action."""

    task: Annotated[str, TaskOf(tasks())]
    num_envs: PositiveInt = 4
    backend: Backend = "envpool"
    action_set: ActionSet = "minimal"
    sticky_probability: HalfOpenFraction = 0.25
    sticky_unit: StickyUnit = "step"
    rewards: Rewards = "sign"
    noop_max_frames: PositiveInt = 1
    max_episode_steps: PositiveInt = 27_000

    def inert(self) -> dict[str, str]:
        """Settings without effect, and why."""
        return {"sticky_unit": "sticky_probability is 0"} if self.sticky_probability == 0 else {}

    @property
    def spec(self) -> EnvSpec:
        """Shapes and actions, without starting an environment."""
        return _spec(self.task, self.action_set)

    @property
    def is_restorable(self) -> bool:
        """Whether the emulator's state can be reached: ale-py's, but not the action that its own stickiness holds."""
        return self.backend == "ale" and (self.sticky_unit == "step" or self.sticky_probability == 0)

    @property
    def _is_envpools(self) -> bool:
        """Whether EnvPool gives the same course, bit for bit: measured of these games alone."""
        is_step = self.sticky_unit == "step" or self.sticky_probability == 0
        return is_step and self.noop_max_frames == 1 and self.task in ATARI

    @property
    def identity(self) -> dict[str, str]:
        """What stands in trial ids in place of settings that change no result."""
        return {"backend": "envpool"} if self._is_envpools else {}

    @property
    def corrections(self) -> dict[str, int]:
        """Frames of ``ale`` differed from EnvPool's by rounding."""
        return {"ale_frames": 1} if self.backend == "ale" and not self._is_envpools else {}

    @property
    def score_source(self) -> str:
        """Where the two reference returns come from."""
        return ATARI[self.task].source("random play", ATARI_SOURCE) if self.has_references else RAW_RETURN

    @property
    def has_references(self) -> bool:
        """Whether its scores can be pooled with those of other tasks."""
        return self.task in ATARI

    def score(self, mean_return: float) -> float:
        """Human-normalised score; the return itself where no human played."""
        return score(ATARI.get(self.task), mean_return)

    def build(self, seeds: Sequence[int], num_threads: int) -> VectorEnv:
        """One game per seed; the ``ale`` backend steps them in the calling thread."""
        by_frame, by_step = self.sticky_probability, 0.0
        if self.sticky_unit == "step":
            by_frame, by_step = by_step, by_frame
        backend = self._backend(seeds, num_threads, repeat_action_probability=by_frame)
        return _ProtocolEnv(backend, StickyActions(by_step, seeds), self.rewards)

    def _backend(self, seeds: Sequence[int], num_threads: int, repeat_action_probability: float) -> VectorEnv:
        if self.backend == "ale":
            return AleEnv(
                self.spec,
                self.task,
                seeds,
                full_action_space=self.action_set == "full",
                repeat_action_probability=repeat_action_probability,
                noop_max_frames=self.noop_max_frames,
                max_episode_steps=self.max_episode_steps,
            )
        return EnvPoolEnv(
            self.spec,
            f"{self.task}-v5",
            seeds,
            num_threads,
            stack_num=_STACK,
            img_height=_HEIGHT,
            img_width=_WIDTH,
            frame_skip=FRAME_SKIP,
            full_action_space=self.action_set == "full",
            repeat_action_probability=repeat_action_probability,
            noop_max=self.noop_max_frames,
            use_fire_reset=False,
            max_episode_steps=self.max_episode_steps,
        )


PRESETS = {
    "fire_paper_dqn": Config(
        task="Asterix",
        num_envs=4,
        backend="envpool",
        action_set="minimal",
        sticky_probability=0.25,
        sticky_unit="step",
        rewards="sign",
        noop_max_frames=1,
        max_episode_steps=27_000,
    )
}


class StickyActions:
    """Repeats an environment's last action with some probability; an episode starts from the no-op (action 0)."""

    _BLOCK = 1024  # draws are made in blocks, because one call per environment and step would cost more than the game

    def __init__(self, probability: float, seeds: Sequence[int]) -> None:
        self._probability = probability
        self._generators = [derive_generator(seed, "sticky") for seed in seeds]
        self._draws = np.empty((len(seeds), 0))
        self._position = 0
        self._before = packed_generators(self._generators)  # where the draws of this block began
        self._last = np.zeros(len(seeds), np.int64)

    def apply(self, actions: np.ndarray, resets: np.ndarray) -> np.ndarray:
        """The actions ``[N]`` that the games receive; ``resets`` [N] marks environments that begin an episode now."""
        if self._probability == 0.0:
            return actions
        if self._position == self._draws.shape[1]:
            self._draw()
        sticks = self._draws[:, self._position] < self._probability
        self._position += 1
        self._last = np.where(resets, 0, np.where(sticks, self._last, actions))
        return self._last

    def _draw(self) -> None:
        self._before = packed_generators(self._generators)
        self._draws = np.stack([generator.random(self._BLOCK) for generator in self._generators])
        self._position = 0

    def save(self) -> dict[str, np.ndarray]:
        """The last actions, and where in its draws each environment is."""
        position = np.full(len(self._generators), self._position if self._draws.size else -1)
        return {"generators": self._before, "position": position, "last": self._last.copy()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes on as saved; environments that are stepped together are equally far."""
        restore_generators(self._generators, state["generators"])
        position, *others = set(state["position"].tolist())
        assert not others, "of one population"
        if position >= 0:
            self._draw()
            self._position = position
        self._last = state["last"].copy()


class _ProtocolEnv:
    """Adds to either backend what the protocol does with whole agent steps: sticky actions and clipped rewards."""

    def __init__(self, backend: VectorEnv, sticky: StickyActions, rewards: Rewards) -> None:
        self.spec = backend.spec
        self.num_envs = backend.num_envs
        self._backend = backend
        self._sticky = sticky
        self._rewards = rewards
        self._ended = np.zeros(self.num_envs, bool)

    def reset(self) -> np.ndarray:
        """First observations."""
        return self._backend.reset()

    def step(self, actions: np.ndarray) -> EnvStep:
        """Steps all environments."""
        step = self._backend.step(self._sticky.apply(actions, resets=self._ended))
        self._ended = step.terminated | step.truncated
        return step._replace(reward=np.sign(step.raw_reward)) if self._rewards == "sign" else step

    def save(self) -> dict[str, np.ndarray]:
        """The backend's state and the sticky actions', if the backend is restorable."""
        assert isinstance(self._backend, RestorableEnv)
        sticky = {f"sticky/{name}": value for name, value in self._sticky.save().items()}
        return self._backend.save() | sticky

    def restore(self, state: Mapping[str, np.ndarray]) -> np.ndarray:
        """Goes on as saved."""
        assert isinstance(self._backend, RestorableEnv)
        sticky = {name.removeprefix("sticky/"): value for name, value in state.items() if name.startswith("sticky/")}
        self._sticky.restore(sticky)
        self._ended = state["ended"].copy()
        return self._backend.restore(state)

    def close(self) -> None:
        """Frees threads and memory."""
        self._backend.close()
