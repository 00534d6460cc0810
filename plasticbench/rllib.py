"""Resets and probes as callbacks, for people who keep their own RLlib script (DQN and SAC, new API stack).

Example::

    config.callbacks([partial(ResetCallback, "fire", every_steps=20_000), partial(ProbeCallback, ["dormant_ratio"])])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

try:
    from ray.rllib.callbacks.callbacks import RLlibCallback
    from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED, NUM_ENV_STEPS_SAMPLED_LIFETIME
except ImportError as error:
    raise ImportError("plasticbench.rllib needs RLlib: pip install 'ray[rllib]'") from error

from plasticbench import plugins
from plasticbench.agents.rllib import learner
from plasticbench.agents.rllib.learner import ask, sync_runners
from plasticbench.agents.rllib.replay import targets_of, transitions
from plasticbench.analysis.capture import require_layers_alone
from plasticbench.contracts.network import Probe
from plasticbench.contracts.treatment import Part
from plasticbench.learning.module_event import require_event_alone
from plasticbench.seeding import derive_generator, derive_seed


def _require_period(every_steps: Any) -> None:
    if isinstance(every_steps, bool) or not isinstance(every_steps, int | np.integer):
        raise ValueError(f"every_steps: must be a whole number of environment steps, got {every_steps!r}")
    if every_steps < 1:
        raise ValueError(f"every_steps: must be at least 1, got {every_steps}")


def _is_due(result: dict[str, Any], every_steps: int) -> bool:
    """Whether this iteration reached a multiple; what is asked of the result survives a restored checkpoint."""
    now = int(result[ENV_RUNNER_RESULTS][NUM_ENV_STEPS_SAMPLED_LIFETIME])
    before = now - int(result[ENV_RUNNER_RESULTS][NUM_ENV_STEPS_SAMPLED])
    return now // every_steps > before // every_steps


def _replay_sample(algorithm: Any, rows: int, seed: int) -> dict[str, np.ndarray] | None:
    episodes = [episode for episode in algorithm.local_replay_buffer.episodes if len(episode)]
    if not episodes:
        return None
    ends = np.cumsum([len(episode) for episode in episodes])
    chosen = derive_generator(seed, "probe").integers(ends[-1], size=rows)
    numbers = np.searchsorted(ends, chosen, side="right")
    return transitions(
        [
            (episodes[number], int(row - ends[number] + len(episodes[number])))
            for number, row in zip(numbers, chosen, strict=True)
        ],
        **targets_of(algorithm.config),
    )


class ResetCallback(RLlibCallback):
    """Applies a treatment at the end of every training iteration that reaches a multiple of ``every_steps``.

    The learner's networks, optimizers, target networks and temperature follow the treatment's rules, and environment
    runners have the new weights before their next sample.
    """

    def __init__(
        self, kind: str, every_steps: int, *, preset: str | None = None, seed: int = 0, **settings: Any
    ) -> None:
        """``kind``, ``preset`` and ``settings`` as in a benchmark file; ``every_steps`` counts environment steps.

        Raises ``ValueError`` for a treatment or setting that does not exist.
        """
        _require_period(every_steps)
        config = plugins.config_from("treatments", kind, settings, preset)
        require_event_alone(kind, config)
        self._part = Part(family="treatments", kind=kind, config=config, id=kind)
        self._every_steps, self._seed, self._initial = every_steps, seed, None

    def on_algorithm_init(self, *, algorithm: Any, **kwargs: Any) -> None:
        """Keeps the first weights, for treatments that go back to them; refuses parameters that nobody knows."""
        ask(algorithm, learner.require_known)
        self._initial = ask(algorithm, learner.weights)

    def on_train_result(self, *, algorithm: Any, result: dict[str, Any], **kwargs: Any) -> None:
        """Resets where it is due."""
        if not _is_due(result, self._every_steps):
            return
        seed = derive_seed(self._seed, int(result[ENV_RUNNER_RESULTS][NUM_ENV_STEPS_SAMPLED_LIFETIME]))
        batch = _replay_sample(algorithm, 512, seed)
        obs = torch.from_numpy(batch["obs"]) if batch is not None else None
        ask(algorithm, learner.treat, part=self._part, seed=seed, initial=self._initial, obs=obs)
        sync_runners(algorithm)


class ProbeCallback(RLlibCallback):
    """Measures the learner's networks on a replay sample; totals stand in ``result["plasticity"][network][probe]``."""

    def __init__(
        self, kinds: Sequence[str] | None = None, every_steps: int = 1, rows: int = 512, seed: int = 0
    ) -> None:
        """``kinds`` are probes with their default settings; without it, every probe that applies."""
        _require_period(every_steps)
        require_layers_alone(kinds or ())
        chosen = plugins.names("probes") if kinds is None else kinds
        self._probes: list[Probe] = [plugins.config_from("probes", kind, {}).build() for kind in chosen]
        self._every_steps, self._rows, self._seed, self._initial = every_steps, rows, seed, None

    def on_algorithm_init(self, *, algorithm: Any, **kwargs: Any) -> None:
        """Keeps the first weights, for probes that measure the distance from them; refuses what none can look at."""
        ask(algorithm, learner.require_known, rows_alone=True)
        self._initial = ask(algorithm, learner.weights)

    def on_train_result(self, *, algorithm: Any, result: dict[str, Any], **kwargs: Any) -> None:
        """Adds the measurements to the iteration's result."""
        batch = _replay_sample(algorithm, self._rows, self._seed) if _is_due(result, self._every_steps) else None
        if batch is None:
            return
        views = ask(algorithm, learner.views, batch=batch, initial=self._initial, previous=None)
        result["plasticity"] = {
            view.name: {
                probe.label: float(values[""][0]) for probe in self._probes if "" in (values := probe.measure(view))
            }
            for view in views
        }
