"""Atari through ale-py's Gymnasium environment, the slower second backend, written to agree with EnvPool."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from plasticbench.contracts.task import EnvSpec, EnvStep
from plasticbench.envs._packing import packed, packed_generators, restore_generators, unpacked
from plasticbench.seeding import derive_generator

FRAME_SKIP = 4
_NOOP = 0


def rom_name(task: str) -> str:
    """``BeamRider`` is ``beam_rider`` to ale-py."""
    if task == "TicTacToe3d":
        return "tic_tac_toe_3d"
    return re.sub(r"(?<!^)(?=[A-Z])", "_", task).lower()


@cache
def covered(size: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of ``size`` pixels each of ``target`` covers, and with what share: ``[most, target]``, filled up with 0.

    In single precision, and without shares below a thousandth, as OpenCV's INTER_AREA has them.
    """
    length, pixels = size / target, []
    for index in range(target):
        begin = index * length
        end, cell = begin + length, min(length, size - begin)
        first, last = math.ceil(begin), min(math.floor(end), size - 1)
        whole = [(pixel, 1.0) for pixel in range(first, last)]
        shares = [(first - 1, first - begin), *whole, (last, min(end - last, 1.0))]
        pixels.append([(pixel, share / cell) for pixel, share in shares if share > 1e-3])
    most = max(map(len, pixels))
    filled = [own + [(0, 0.0)] * (most - len(own)) for own in pixels]
    found = np.array(filled).transpose(2, 1, 0)  # [2, most, target]
    return found[0].astype(int), found[1].astype(np.float32)


def average_columns(values: np.ndarray, target: int) -> np.ndarray:
    """``[..., size]`` to ``[..., target]``: means over the covered pixels, added from left to right."""
    columns, shares = covered(values.shape[-1], target)
    means: np.ndarray = values[..., columns[0]] * shares[0]
    for column, share in zip(columns[1:], shares[1:], strict=True):
        means += values[..., column] * share
    return means


def resize(screen: np.ndarray, height: int, width: int) -> np.ndarray:
    """A grey screen ``[h, w]`` uint8 averaged down to ``[height, width]``, bit for bit as EnvPool has it."""
    means = average_columns(average_columns(screen.astype(np.float32), width).T, height).T
    resized: np.ndarray = np.rint(means).astype(np.uint8)
    return resized


class _Game:
    """One game with frame skip, max over the last two frames, and a frame stack."""

    def __init__(
        self, env: Any, seed: int, obs_shape: tuple[int, ...], *, full_actions: bool, noop_max_frames: int
    ) -> None:
        self._env, self._ale = env, env.ale
        self.noops = derive_generator(seed, "noop")
        self._noop_max_frames = noop_max_frames
        # Not reset(seed=...): it starts a game, and a second start shifts the flicker of some games by a frame.
        self._env.seed_game(seed)
        self._env.load_game()
        self._actions = self._ale.getLegalActionSet() if full_actions else self._ale.getMinimalActionSet()
        self.stack = np.zeros(obs_shape, np.uint8)
        self.elapsed = 0

    def reset(self) -> None:
        """Starts an episode; the whole stack becomes its first frame."""
        screen, _ = self._env.reset()
        for _ in range(self.noops.integers(1, self._noop_max_frames, endpoint=True)):
            screen, *_ = self._env.step(_NOOP)
        self.stack[:] = resize(screen, *self.stack.shape[1:])
        self.elapsed = 0

    def step(self, action: int) -> tuple[float, bool]:
        """Reward and whether the game is over. A game that ends before the last two frames repeats its last one."""
        reward, screens, code, terminated = 0.0, [], self._actions[action], False
        for frame in range(FRAME_SKIP):
            reward += self._ale.act(code)
            if frame >= FRAME_SKIP - 2:
                screens.append(self._ale.getScreenGrayscale())
            if terminated := self._ale.game_over(with_truncation=False):
                break
        self.stack[:-1] = self.stack[1:].copy()
        if screens:
            self.stack[-1] = resize(np.maximum.reduce(screens), *self.stack.shape[1:])
        self.elapsed += 1
        return reward, terminated

    def save(self) -> bytes:
        """The emulator with its generator; the stack, the generator of no-ops and ``elapsed`` are saved beside it."""
        state: bytes = self._env.ale.cloneState(include_rng=True).serialize()
        return state

    def restore(self, state: bytes) -> None:
        """Goes on as saved."""
        from ale_py import ALEState

        self._env.ale.restoreState(ALEState(state))

    def close(self) -> None:
        """Frees the emulator."""
        self._env.close()


class AleEnv:
    """Games stepped one after the other as a ``VectorEnv``; rewards as the game gives them."""

    def __init__(
        self,
        spec: EnvSpec,
        task: str,
        seeds: Sequence[int],
        *,
        full_action_space: bool,
        repeat_action_probability: float,
        noop_max_frames: int,
        max_episode_steps: int,
    ) -> None:
        from ale_py import ALEInterface, LoggerMode
        from ale_py.env import AtariEnv

        ALEInterface.setLoggerMode(LoggerMode.Error)  # AtariEnv sets it too, but after a banner was printed

        self.spec = spec
        self.num_envs = len(seeds)
        self._max_episode_steps = max_episode_steps
        make = partial(
            AtariEnv,
            rom_name(task),
            obs_type="grayscale",
            frameskip=1,
            repeat_action_probability=repeat_action_probability,
            full_action_space=full_action_space,
        )
        game = partial(_Game, obs_shape=spec.obs_shape, full_actions=full_action_space, noop_max_frames=noop_max_frames)
        self._games = [game(make(), seed) for seed in seeds]
        self._ended = np.zeros(self.num_envs, bool)

    def reset(self) -> np.ndarray:
        """First observations."""
        for game in self._games:
            game.reset()
        return self._observe()

    def step(self, actions: np.ndarray) -> EnvStep:
        """Steps all environments."""
        raw_reward = np.zeros(self.num_envs, np.float32)
        terminated = np.zeros(self.num_envs, bool)
        for i, (game, action) in enumerate(zip(self._games, actions.tolist(), strict=True)):
            if self._ended[i]:
                game.reset()
            else:
                raw_reward[i], terminated[i] = game.step(action)
        elapsed = np.array([game.elapsed for game in self._games])
        truncated = (elapsed >= self._max_episode_steps) & ~terminated
        self._ended = terminated | truncated
        return EnvStep(self._observe(), raw_reward, raw_reward, terminated, truncated)

    def save(self) -> dict[str, np.ndarray]:
        """Emulators, frame stacks, and what decides about episodes."""
        return {
            "emulators": packed([game.save() for game in self._games]),
            "stacks": self._observe(),
            "noops": packed_generators([game.noops for game in self._games]),
            "elapsed": np.array([game.elapsed for game in self._games]),
            "ended": self._ended.copy(),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> np.ndarray:
        """Goes on as saved."""
        restore_generators([game.noops for game in self._games], state["noops"])
        for index, (game, emulator) in enumerate(zip(self._games, unpacked(state["emulators"]), strict=True)):
            game.restore(emulator)
            game.stack[:] = state["stacks"][index]
            game.elapsed = int(state["elapsed"][index])
        self._ended = state["ended"].copy()
        return self._observe()

    def close(self) -> None:
        """Frees the emulators."""
        for game in self._games:
            game.close()

    def _observe(self) -> np.ndarray:
        return np.stack([game.stack for game in self._games])
