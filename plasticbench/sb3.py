"""Treatments and probes for DQN, SAC and PPO of stable-baselines3, as callbacks.

Example::

    from plasticbench.sb3 import ProbeCallback, ResetCallback

    callbacks = [ResetCallback("fire", every=50_000), ProbeCallback(every=10_000)]
    model.learn(1_000_000, callback=callbacks)
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
import torch

from plasticbench import plugins
from plasticbench.analysis.capture import require_layers_alone
from plasticbench.contracts.treatment import Report
from plasticbench.learning.module_event import ModuleSubject, require_event_alone, reset_module, uses_original
from plasticbench.learning.module_parts import free_parameters
from plasticbench.learning.module_state import copy_to_target, require_optimizer_of
from plasticbench.modules import probe
from plasticbench.schedules import Every
from plasticbench.seeding import derive_seed

try:
    from stable_baselines3 import PPO, SAC
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.policies import BasePolicy
except ImportError as error:
    raise ImportError("plasticbench.sb3 needs stable-baselines3: pip install stable-baselines3") from error

from plasticbench._sb3_networks import (
    SHARED,
    Network,
    copied,
    networks,
    rebuilt,
    require_rebuildable,
    sample,
    views,
)


class _Periodic(BaseCallback):
    """Does something once each time that the model's clock, ``num_timesteps``, has passed a multiple of ``every``.

    DQN and SAC are interrupted right there. A rollout of PPO belongs to the policy that collected it, so there the
    subclass says on which side of the rollout it acts.
    """

    def __init__(self, every: int, seed: int) -> None:
        super().__init__()
        if isinstance(every, bool) or not isinstance(every, int | np.integer):
            raise ValueError(f"every: must be a whole number of environment steps, got {every!r}")
        self._every, self._seed = Every(every=int(every)).every, seed
        self._periods, self._is_due = 0, False
        self._initial: BasePolicy | None = None

    def _on_training_start(self) -> None:
        self._periods, self._is_due = self.num_timesteps // self._every, False
        if self._initial is None and self.model._n_updates == 0:
            self._initial = copied(self.model)

    def _on_step(self) -> bool:
        if self.num_timesteps // self._every > self._periods:
            self._periods, self._is_due = self.num_timesteps // self._every, True
        if not isinstance(self.model, PPO):
            self._act_if_due()
        return True

    def _act_if_due(self) -> None:
        if self._is_due:
            self._is_due = False
            self._act(derive_seed(self._seed, self.num_timesteps))

    @abstractmethod
    def _act(self, seed: int) -> None:
        """What the callback is for; ``seed`` depends on its own seed and the step."""


class ResetCallback(_Periodic):
    """Resets all networks, with target networks, optimizers and temperature, by the treatment's rules.

    PPO is reset before it collects the next rollout. Raises ``ValueError`` for bad settings, at the latest when the
    training begins. Logs what the treatment measures under ``reset/<network>``.
    """

    def __init__(self, kind: str, *, every: int, preset: str | None = None, seed: int = 0, **settings: Any) -> None:
        """Names and settings as in a benchmark file.

        Args:
            kind: a treatment that acts at events: ``plasticbench list treatments``.
            every: environment steps (``num_timesteps``) from one reset to the next.
            preset: a named set of settings, such as ``fire_paper_dqn``, that ``settings`` override.
            seed: decides the fresh weights, together with the step.
            settings: fields of the treatment's ``Config``, among them ``optimizer``, ``target`` and ``temperature``.
        """
        super().__init__(every, seed)
        self._config = plugins.config_from("treatments", kind, settings, preset)
        require_event_alone(kind, self._config)
        self._kind, self._settings = kind, settings

    def _init_callback(self) -> None:
        found = networks(self.model)
        require_rebuildable(self.model)
        for network in found:
            subject = self._subject(network, 0)
            require_optimizer_of(subject.module, network.optimizer, subject.left_alone)
            assert subject.online.layers, "refuses what no treatment can rewrite"
        name = type(self.model).__name__
        if "target" in self._settings and not any(network.target_path for network in found):
            raise ValueError(f"target: has no effect, because {name} has no target network. Remove it")
        if any(network.ignore for network in found) and getattr(self._config, "target", "keep") == "same_operation":
            raise ValueError(
                "target: 'same_operation' is not defined where critics share the actor's feature extractor and their "
                "target has its own. Choose target='sync', or policy_kwargs with share_features_extractor=False"
            )
        if "temperature" in self._settings and not _learns_temperature(self.model):
            raise ValueError(f"temperature: has no effect, because this {name} learns none. Remove it")

    def _on_training_start(self) -> None:
        super()._on_training_start()
        if uses_original(self._config) and self._initial is None:
            raise ValueError(
                "init_source: 'original' needs the weights from before the first update, but this model was already "
                "trained. Use this callback from the start, or init_source='fresh'"
            )

    def _on_rollout_start(self) -> None:
        self._act_if_due()

    def _act(self, seed: int) -> None:
        touched: set[str] = set()
        for network in networks(self.model):
            report = self._reset(network, derive_seed(seed, network.name))
            if network.ignore and getattr(self._config, "target", "keep") == "sync_touched":
                target, online = network.target(self.model.policy), network.online(self.model.policy)
                assert target is not None
                copy_to_target(target, online, {name for name in touched if name.startswith(f"{SHARED}.")})
            touched |= report.touched
        if _learns_temperature(self.model) and getattr(self._config, "temperature", "keep") == "reset":
            _reset_temperature(self.model)

    def _subject(self, network: Network, seed: int) -> ModuleSubject:
        policy = self.model.policy
        return ModuleSubject(
            module=network.online(policy),
            seed=seed,
            initial=None if self._initial is None else network.online(self._initial).state_dict(),
            optimizer=network.optimizer,
            target_module=network.target(policy),
            outputs=network.outputs,
            ignore=network.ignore,
            fresh=lambda: network.online(rebuilt(self.model)),
        )

    def _reset(self, network: Network, seed: int) -> Report:
        report = reset_module(self._kind, self._config, self._subject(network, seed))
        for name, value in report.measurements.items():
            self.logger.record(f"reset/{network.name}/{name}", float(value[0]))
        return report


class ProbeCallback(_Periodic):
    """Logs the plasticity of every network under ``plasticity/<network>``, and leaves no trace in the training.

    Measured on a sample of the replay (of PPO: of the rollout). Gradients are those of the latest update.
    """

    def __init__(self, *, every: int, kinds: Sequence[str] | None = None, rows: int = 256, seed: int = 0) -> None:
        """Which probes, when, and on how much.

        Args:
            every: environment steps (``num_timesteps``) from one measurement to the next.
            kinds: probes (``plasticbench list probes``); without it, every probe that applies.
            rows: size of the sample.
            seed: decides the sample, together with the step.
        """
        super().__init__(every, seed)
        require_layers_alone(kinds or ())
        if rows < 1:
            raise ValueError(f"rows: must be at least 1, got {rows}")
        self._kinds, self._rows = kinds, rows

    def _init_callback(self) -> None:
        networks(self.model)
        if self._initial is None and self.model._n_updates == 0:
            require_rebuildable(self.model)

    def _on_rollout_end(self) -> None:
        self._act_if_due()

    def _act(self, seed: int) -> None:
        batch = sample(self.model, self._rows, seed)
        if batch is None:
            return
        initial = {} if self._initial is None else views(self.model, self._initial, batch)
        for name, (module, inputs) in views(self.model, self.model.policy, batch).items():
            start = initial[name].module if name in initial else None
            for key, value in probe(module, inputs, self._kinds, initial=start, ignore=free_parameters(module)).items():
                if "/" not in key:  # values of single layers would fill the table
                    self.logger.record(f"plasticity/{name}/{key}", value)


def _learns_temperature(model: BaseAlgorithm) -> TypeGuard[SAC]:
    return isinstance(model, SAC) and model.ent_coef_optimizer is not None


@torch.no_grad()
def _reset_temperature(model: SAC) -> None:
    """Back to the start that ``ent_coef`` names (``auto_0.1``; 1 without a number), with a new optimizer state."""
    assert model.log_ent_coef is not None
    assert model.ent_coef_optimizer is not None
    _, _, start = str(model.ent_coef).partition("_")
    model.log_ent_coef.fill_(math.log(float(start or 1.0)))
    for value in model.ent_coef_optimizer.state.get(model.log_ent_coef, {}).values():
        value.zero_()
