"""The course of supervised tracks (see ``contracts.learner``): a learner in phases of data, one update a stride.

Everything that chance decides about the data depends on seeds, phase and update alone, so that a course goes on from
its clock; what is saved is what was measured on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plasticbench.contracts.learner import Population
from plasticbench.contracts.supervised import Entered, Material, PhaseClock, Pieces, SupervisedLearner
from plasticbench.contracts.task import EnvSpec
from plasticbench.seeding import Streams

MAX_REMEMBERED = 10
"""Earlier phases of which it is asked, at each evaluation, what has been forgotten."""


class SupervisedCourse:
    """M members, each with its own rows, labels and order."""

    stride_steps = 1
    clears_replay = False
    resets_see_new_phase = True

    def __init__(
        self, material: Material, learner: Any, num_members: int, change_steps: tuple[int, ...], budget_steps: int
    ) -> None:
        self._material, self._learner = material, learner
        self.change_steps, self._begins = change_steps, (0, *change_steps, budget_steps)
        self.failed: dict[int, str] = {}
        self.lowest = {"eval/score": 0.0}
        self._phase = -1
        self.entered: Entered | None = None
        device = learner.trained[0].online.flat.device
        zeros = torch.zeros(num_members, dtype=torch.float64, device=device)
        self._told = {name: zeros.clone() for name in ("phase", "before")}  # sums of accuracies before updates
        self._scores = np.zeros((num_members, 2))  # sum and number of the scores so far
        self._at_ends = np.full((num_members, len(change_steps) + 1), np.nan)  # test accuracy where each phase ended

    @property
    def learner(self) -> SupervisedLearner:
        """Who is trained."""
        learner: SupervisedLearner = self._learner
        return learner

    # -- training ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Nothing is met before the first phase is set."""

    def restart(self, step: int) -> None:
        """The data know no past that could start anew."""

    def set_phase(self, phase: int, step: int) -> None:
        """The rows, labels and pixels of the phase; a new one begins at its first update."""
        self._enter(phase)
        if step == self._begins[phase]:
            self._told["before"] += self._told["phase"]
            self._told["phase"].zero_()
            if step > 0:
                self.learner.begin_phase()

    def _enter(self, phase: int) -> Entered:
        """Makes the rows of a phase those that are read."""
        if self.entered is None or phase != self._phase:
            self._phase, self.entered = phase, self._material.enter(phase)
            self.learner.meet(self.entered)
        return self.entered

    def advance(self, step: int) -> Iterator[Mapping[str, Tensor]]:
        """One update of every member."""
        first, end = self._begins[self._phase], self._begins[self._phase + 1]
        batch = self._enter(self._phase).batch(step - first)
        metrics = self.learner.update(batch, step + 1, PhaseClock(step - first, end - first))
        self._told["phase"] += metrics["online/accuracy"]
        yield metrics

    # -- measures ------------------------------------------------------------------------------------------------

    def evaluate(self, step: int, phase: int) -> dict[str, np.ndarray]:
        """Accuracies ``[M]`` online, on training and test rows; area, forgetting and the score.

        Online accuracy is the mean over the updates of the phase so far, so at a phase's end that of the phase.
        """
        entered = self._enter(phase)
        found = self._online(step, phase)
        if (known := entered.known()) is not None:
            found["eval/train_accuracy"], _ = self._judged(known)
        for name, pieces in entered.tests().items():
            found[f"eval/{name}_accuracy"], found[f"eval/{name}_loss"] = self._judged(pieces)
        if step == self._begins[phase + 1] and "eval/test_accuracy" in found:
            self._at_ends[:, phase] = found["eval/test_accuracy"]
        if self._material.differs and phase > 0 and (lost := self._forgotten(phase)) is not None:
            found["eval/forgetting"] = lost
        score = self._material.score(found)
        self._scores += np.stack([score, np.ones_like(score)], axis=1)
        return {"eval/score": score, **found, "eval/area": self._scores[:, 0] / self._scores[:, 1]}

    def _online(self, step: int, phase: int) -> dict[str, np.ndarray]:
        now, before = (self._told[name].cpu().numpy() for name in ("phase", "before"))
        updates = step - self._begins[phase]
        return {"eval/online_accuracy": now / updates, "eval/stream_accuracy": (before + now) / step}

    def _judged(self, pieces: Pieces) -> tuple[np.ndarray, np.ndarray]:
        """Mean accuracy and loss ``[M]``."""
        sums: list[Tensor] = []
        for batch, weights in pieces:
            is_right, loss = self.learner.judge(batch)
            sums.append(torch.stack([(is_right * weights).sum(1), (loss * weights).sum(1)]))
        accuracy, loss = torch.stack(sums).double().sum(0).cpu().numpy()
        return accuracy, loss

    def _forgotten(self, phase: int) -> np.ndarray | None:
        """How much less of earlier phases' tests is told right than where they ended: the mean over the latest.

        Phases at whose end there was no evaluation are left out; ``None`` where there is no other. Chaudhry et al. 2018
        (arXiv 1801.10112) compare with the best accuracy so far in place of that at the end.
        """
        lost: list[np.ndarray] = []
        for earlier in range(max(0, phase - MAX_REMEMBERED), phase):
            if np.isfinite(self._at_ends[:, earlier]).all():
                test = self._material.enter(earlier).tests()["test"]
                lost.append(self._at_ends[:, earlier] - self._judged(test)[0])
        return np.mean(lost, axis=0) if lost else None

    def training_metrics(self) -> dict[str, tuple[Sequence[int], Sequence[float]]]:
        """Updates say it all."""
        return {}

    def policy(self, member: int, phase: int) -> Callable[[np.ndarray], np.ndarray]:
        """Nobody acts here; a file that asks for films is refused."""
        raise NotImplementedError("a learner of data has no policy")

    # -- saving and going on -------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, np.ndarray]:
        """What was measured so far."""
        told = {f"course/told_{name}": total.cpu().numpy() for name, total in self._told.items()}
        return told | {"course/scores": self._scores, "course/at_ends": self._at_ends}

    def load_state_dict(
        self, state: Mapping[str, np.ndarray], parents: Sequence[int], *, phase: int, restarts: bool
    ) -> None:
        """Goes on as saved, in ``phase``."""
        own = {name: state[name][list(parents)] for name in self.state_dict()}
        for name, total in self._told.items():
            total.copy_(torch.from_numpy(own[f"course/told_{name}"]))
        self._scores, self._at_ends = own["course/scores"], own["course/at_ends"]
        self._enter(phase)

    def close(self) -> None:
        """There is nothing outside this process."""


def supervised_course(
    material: Material, population: Population, spec: EnvSpec, change_steps: tuple[int, ...]
) -> SupervisedCourse:
    """The phases of a population, and its learner in them."""
    learner = population.agent.build(
        spec=spec,
        num_envs=1,
        streams=[Streams(seed) for seed in population.seeds],
        budget_steps=population.budget_steps,
        device=population.device,
        parts=population.parts,
    )
    return SupervisedCourse(material, learner, len(population.seeds), change_steps, population.budget_steps)
