"""What M members did and saw since they learnt last, step by step, and what they learnt from then.

Rows are steps of the environments. Not every row is learnt from: the step that leads from an episode's end into the
next one is no transition (next-step autoreset), and what a member did before its policy was rewritten is not what that
policy would do. Such rows keep their place, so that all members have batches of equal size, and weigh nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from plasticbench.agents._advantages import generalized_advantages
from plasticbench.contracts.learner import MemberRows
from plasticbench.contracts.task import BoxActions, EnvSpec, EnvStep

_HOST = ("log_prob", "value", "next_value", "reward")
_FLAGS = ("terminated", "is_last", "counts")


class Rows(NamedTuple):
    """Steps ``[M, B]`` that are learnt from; ``facts`` ``[M, B, 5]`` holds what ``fact`` names."""

    obs: Tensor  # as it was stored
    action: Tensor  # int64, or before it was clipped to what is allowed
    facts: Tensor

    @property
    def log_prob(self) -> Tensor:
        """Of the action, by the policy that took it."""
        return self.facts[..., 0]

    @property
    def value(self) -> Tensor:
        """Of the observation, when the action was taken."""
        return self.facts[..., 1]

    @property
    def advantage(self) -> Tensor:
        """Of the action."""
        return self.facts[..., 2]

    @property
    def target(self) -> Tensor:
        """What the value is drawn to."""
        return self.facts[..., 3]

    @property
    def weight(self) -> Tensor:
        """1.0 where the row is a transition of the present policy, else 0.0."""
        return self.facts[..., 4]

    def part(self, start: int, stop: int) -> Rows:
        """Some of the rows, as views."""
        return Rows(*(values[:, start:stop] for values in self))

    def taken(self, index: np.ndarray) -> Rows:
        """The rows at each member's ``index`` ``[M, N]``."""
        members, rows = self.facts.shape[:2]
        flat = torch.from_numpy((np.arange(members)[:, None] * rows + index).ravel()).to(self.facts.device)
        return Rows(*(v.flatten(0, 1).index_select(0, flat).view(*index.shape, *v.shape[2:]) for v in self))


class Rollouts:
    """The rollout under way, of ``num_rows`` steps of E environments, and the rows that were learnt from last.

    As what an agent learns from (``SavedReplay``) it has no rows to save one by one: it is small, and is saved whole.
    """

    rows = oldest_row = 0

    def __init__(
        self, spec: EnvSpec, num_members: int, num_envs: int, num_rows: int, device: torch.device, obs_dtype: str
    ) -> None:
        self.num_rows, self.device = num_rows, device
        self._shape = (num_members, num_rows, num_envs)
        self._obs_shape, self._obs_dtype = spec.obs_shape, getattr(torch, obs_dtype)
        box = spec.actions
        self._action_shape = (len(box.low),) if isinstance(box, BoxActions) else ()
        self._action_dtype = torch.float32 if isinstance(box, BoxActions) else torch.int64
        self.latest = np.zeros((num_members, num_envs, *spec.obs_shape), dtype=spec.obs_dtype)
        self._ended = np.zeros((num_members, num_envs), dtype=bool)
        self.learnt: Rows | None = None
        self._host = {name: np.zeros(self._shape, dtype=np.float32) for name in _HOST}
        self._flags = {name: np.zeros(self._shape, dtype=bool) for name in _FLAGS}
        self._begin_rollout()

    def _begin_rollout(self) -> None:
        """The tensors of the rollout before are those of ``learnt``, so that nothing is copied."""
        self.length, self._is_cut = 0, False
        self._obs = torch.empty(*self._shape, *self._obs_shape, dtype=self._obs_dtype, device=self.device)
        self._action = torch.empty(*self._shape, *self._action_shape, dtype=self._action_dtype, device=self.device)

    @property
    def is_complete(self) -> bool:
        """Whether it is time to learn."""
        return self.length == self.num_rows

    @property
    def needs_cut(self) -> bool:
        """Whether a new course would begin behind rows that are still to be learnt from."""
        return self.length > 0 and not self._is_cut

    def begin(self, obs: np.ndarray, ended: np.ndarray | None, value_before: np.ndarray | None) -> None:
        """A new course at ``obs``; ``value_before`` ``[M, E]`` is what the last observation of the one before is worth.

        ``ended``: whose episodes are over, so that the next step leads into others; by default nobody's.
        """
        if value_before is not None:
            self._host["next_value"][:, self.length - 1] = value_before
            self._flags["is_last"][:, self.length - 1] = True
            self._is_cut = True
        self.latest = obs
        self._ended = np.zeros(self._shape[::2], dtype=bool) if ended is None else ended.copy()

    def act(self, obs: Tensor, action: Tensor, log_prob: np.ndarray, value: np.ndarray) -> None:
        """What is done at the next row; ``[M, E, ...]``."""
        now = self.length
        self._obs[:, now], self._action[:, now] = obs, action
        self._host["log_prob"][:, now], self._host["value"][:, now] = log_prob, value
        if self.needs_cut:
            self._host["next_value"][:, now - 1] = value

    @property
    def is_transition(self) -> np.ndarray:
        """Whether the step under way belongs to an episode, ``[M, E]``."""
        return ~self._ended

    def observe(self, step: EnvStep, reward: np.ndarray) -> None:
        """What followed; ``reward`` ``[M, E]`` is what is learnt from."""
        now, self._is_cut = self.length, False
        self._host["reward"][:, now] = reward
        self._flags["terminated"][:, now] = step.terminated
        self._flags["counts"][:, now] = ~self._ended
        self._ended = step.terminated | step.truncated
        self._flags["is_last"][:, now] = self._ended
        self.latest = step.obs
        self.length += 1

    def finish(self, value: np.ndarray, discount: float, trace_decay: float) -> Rows:
        """The rows to learn from, ``[M, num_rows E]``; ``value`` ``[M, E]`` is that of the latest observation."""
        host, flags = self._host, self._flags
        if not self._is_cut:
            host["next_value"][:, -1] = value
        advantage = generalized_advantages(
            host["reward"],
            host["value"],
            host["next_value"],
            flags["terminated"],
            flags["is_last"],
            discount,
            trace_decay,
        )
        columns = (host["log_prob"], host["value"], advantage, advantage + host["value"], flags["counts"])
        facts = torch.from_numpy(np.stack(columns, axis=-1).astype(np.float32, copy=False)).to(self.device)
        self.learnt = Rows(*(values.flatten(1, 2) for values in (self._obs, self._action, facts)))
        self._begin_rollout()
        return self.learnt

    def sample(self, uniforms: np.ndarray) -> Rows | None:
        """Rows that were learnt from last, chosen by uniforms ``[M, N]``; ``None`` before there are any."""
        if self.learnt is None:
            return None
        return self.learnt.taken((uniforms * self.learnt.facts.shape[1]).astype(np.int64))

    def forget(self, members: Sequence[int]) -> None:
        """What these members have done in the rollout under way is learnt from no more: their policy is another one."""
        self._flags["counts"][list(members), : self.length] = False

    def silence(self, members: Sequence[int]) -> None:
        """All that these members saw and did becomes zeros."""
        chosen = list(members)
        learnt = () if self.learnt is None else self.learnt
        self.latest = self.latest.copy()  # it may be the environments' own
        kept: list[Any] = [self._obs, self._action, *self._host.values(), self.latest, *learnt]
        for values in kept:
            values[chosen] = 0

    # -- as what a checkpoint and a change of the task know ------------------------------------------------------

    def clear(self) -> None:
        """Forgets the rollout under way, and what was learnt from last; the agent begins a new course next."""
        self.learnt = None
        self._begin_rollout()

    def meta(self) -> dict[str, Any]:
        """Everything stands in ``state_dict``."""
        return {}

    def export(self, since_row: int) -> dict[str, Tensor]:
        """Nothing is saved row by row."""
        return {}

    def restore(self, meta: dict[str, Any], chunks: Iterable[tuple[int, MemberRows]], parents: Sequence[int]) -> None:
        """There is nothing to load row by row."""
        for _ in chunks:
            pass

    def _live(self) -> dict[str, Any]:
        rows: dict[str, Any] = {"obs": self._obs, "action": self._action, **self._host, **self._flags}
        return {name: values[:, : self.length] for name, values in rows.items()}

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors ``[M, ...]`` of the rollout under way and of what was learnt from last, and plain data."""
        tensors = {f"rollout/{name}": _copy(values) for name, values in self._live().items()}
        tensors |= {"rollout/latest": _copy(self.latest), "rollout/ended": _copy(self._ended)}
        if self.learnt is not None:
            tensors |= {f"learnt/{name}": _copy(values) for name, values in self.learnt._asdict().items()}
        return tensors, {"length": self.length, "is_cut": self._is_cut}

    def load_state_dict(self, tensors: dict[str, Tensor], plain: dict[str, Any], parents: Sequence[int]) -> None:
        """Member i goes on as the saved member ``parents[i]``."""
        chosen = torch.tensor(list(parents))
        own = {name: tensor.index_select(0, chosen) for name, tensor in tensors.items() if name[:7] in _SAVED}
        self.length, self._is_cut = plain["length"], plain["is_cut"]
        for name, values in self._live().items():
            saved = own[f"rollout/{name}"]
            values[:] = saved.to(self.device) if isinstance(values, Tensor) else saved.numpy()
        self.latest, self._ended = own["rollout/latest"].numpy(), own["rollout/ended"].numpy()
        names = [f"learnt/{name}" for name in Rows._fields]
        self.learnt = Rows(*(own[name].to(self.device) for name in names)) if names[0] in own else None


_SAVED = ("rollout", "learnt/")


def _copy(values: np.ndarray | Tensor) -> Tensor:
    return values.detach().cpu().clone() if isinstance(values, Tensor) else torch.from_numpy(values.copy())
