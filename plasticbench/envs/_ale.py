"""Atari through ale-py's Gymnasium environment, the slower second backend, written to agree with EnvPool."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
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


def average_columns(values: np.ndarray, target: int) -> np.ndarray:
    """``[..., size]`` to ``[..., target]``: means over the covered pixels, shares included, as OpenCV's INTER_AREA.

    Differences of the running integral, and not a product with a weight matrix: products this small wait for BLAS
    threads, which made a step twenty times as slow on a busy machine.
    """
    size = values.shape[-1]
    edges = np.arange(target + 1) * size / target
    pixels = np.minimum(edges.astype(int), size - 1)
    integral = np.cumsum(values, axis=-1, dtype=np.float64) - values
    means: np.ndarray = np.diff(integral[..., pixels] + (edges - pixels) * values[..., pixels]) * target / size
    return means


def resize(screen: np.ndarray, height: int, width: int) -> np.ndarray:
    """A grey screen ``[h, w]`` uint8 averaged down to ``[height, width]``."""
    means = average_columns(average_columns(screen, width).T, height).T
    # float32 drops the noise of the integrals, so that halves are halves and go to the even neighbour.
    resized: np.ndarray = np.rint(means.astype(np.float32)).astype(np.uint8)
    return resized


class _Game:
    """One game with frame skip, max over the last two frames, and a frame stack."""

    def __init__(self, env: Any, seed: int, obs_shape: tuple[int, ...], noop_max_frames: int) -> None:
        self._env = env
        self.noops = derive_generator(seed, "noop")
        self._noop_max_frames = noop_max_frames
        # Not reset(seed=...): it starts a game, and a second start shifts the flicker of some games by a frame.
        self._env.seed_game(seed)
        self._env.load_game()
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
        reward, screens = 0.0, []
        for frame in range(FRAME_SKIP):
            screen, frame_reward, terminated, _, _ = self._env.step(action)
            reward += frame_reward
            if frame >= FRAME_SKIP - 2:
                screens.append(screen)
            if terminated:
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
        self._games = [_Game(make(), seed, spec.obs_shape, noop_max_frames) for seed in seeds]
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
