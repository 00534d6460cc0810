"""Trains one population over one segment, step by step, and says what it measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plasticbench.agents._agent import Agent
from plasticbench.contracts.task import Scenario
from plasticbench.platform.definition.reading import Benchmark, Method
from plasticbench.platform.planning.plan import Segment
from plasticbench.platform.training.evaluation import evaluate
from plasticbench.platform.training.process_usage import ProcessUsage
from plasticbench.platform.training.world import World
from plasticbench.records import Record
from plasticbench.schedules import Trigger
from plasticbench.seeding import Streams, derive_generator


class Trainer:
    """A population at one step; ``state_dict`` and the replay's chunks are all that it needs to go on elsewhere."""

    def __init__(self, benchmark: Benchmark, segment: Segment) -> None:
        self.benchmark, self.segment = benchmark, segment
        self.environment = benchmark.environment(segment.task)
        self.seeds = [member.seed for member in segment.members]
        self.num_members = len(self.seeds)
        config, method = self.environment.config, benchmark.method(segment.agent_method)
        self.stride_steps = method.stride_steps(config.num_envs)
        budget_steps = benchmark.budget_steps
        self.scenario: Scenario = self.environment.scenario.build(
            config.spec, self.seeds, budget_steps, self.stride_steps
        )
        self.agent: Agent = method.agent.build(
            spec=config.spec,
            num_envs=config.num_envs,
            streams=[Streams(seed) for seed in self.seeds],
            budget_steps=budget_steps,
            device=torch.device(benchmark.execution.device),
        )
        self.step = segment.from_step
        self.last_evaluation: float | None = None
        self._num_threads = max(1, int(segment.num_cpus))
        self.world = World(config, self.scenario, self.seeds, self._num_threads)
        self._window = _MetricWindow()
        self._methods = [benchmark.method(m.method) if m.method else None for m in segment.members]
        self._reset_steps = [self._known_reset_steps(method) for method in self._methods]
        self._last_reset = [0] * self.num_members
        self._triggered: list[int] = []
        self._probes = [config.build() for _, config in benchmark.probes.probes]
        self._log_clock = (time.monotonic(), self.step)
        self._usage = ProcessUsage(torch.device(benchmark.execution.device))

    def _known_reset_steps(self, method: Method | None) -> frozenset[int]:
        if method is None or method.schedule is None:
            return frozenset()
        steps = method.schedule.steps(self.benchmark.budget_steps)
        return frozenset(-(-step // self.stride_steps) * self.stride_steps for step in steps)

    # -- the course ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins at step 0, where there is nothing to load."""
        self.agent.begin(self.world.obs)

    def advance(self) -> Iterator[list[Record]]:
        """Trains to the segment's end; yields after every stride of the clock, at which point it may be saved."""
        while self.step < self.segment.to_step:
            records = self._events()
            for metrics in self.agent.advance(self.world, self.step):
                self._window.add(metrics)
            self.step += self.stride_steps
            yield records + self._measurements()

    def _phase(self, changes_until: int) -> int:
        return sum(change <= changes_until for change in self.scenario.change_steps)

    def _is_due(self, every_steps: int) -> bool:
        return self.step // every_steps > (self.step - self.stride_steps) // every_steps

    # -- events: what happens at a step before anybody acts ------------------------------------------------------

    def _events(self) -> list[Record]:
        resets = [m for m, steps in enumerate(self._reset_steps) if self.step in steps or m in self._triggered]
        batch = self._probe_batch() if resets else None
        restarts = self.segment.fork and self.step == self.segment.from_step
        changes = self.step in self.scenario.change_steps
        if restarts:
            self.world.restart(self.step)
        self.world.phase = self._phase(changes_until=self.step)
        if changes and self.scenario.clears_replay:
            self.agent.replay.clear()
        if restarts or changes:
            self.agent.begin(self.world.obs)
        return self._reset(resets, batch) if resets else []

    def _reset(self, members: list[int], batch: Any | None) -> list[Record]:
        records = self._probe_records("reset/before", batch, None, members)
        previous = self.agent.weights()
        for method in self.benchmark.methods:
            if concerned := [m for m in members if self._methods[m] == method]:
                records += self._apply(method, concerned, batch)
        self._last_reset = [self.step if m in members else last for m, last in enumerate(self._last_reset)]
        self._triggered = []
        return records + self._probe_records("reset/after", batch, previous, members)

    def _apply(self, method: Method, members: list[int], batch: Any | None) -> list[Record]:
        records: list[Record] = []
        for network, report in self.agent.reset(members, method.policy, batch).items():
            for name, values in report.measurements.items():
                records += self._records(f"reset/{network}/{name}", values.tolist(), members)
        return records

    # -- measurements: what is looked at after a step, leaving no trace in the training --------------------------

    def _measurements(self) -> list[Record]:
        benchmark = self.benchmark
        records: list[Record] = []
        if self._is_due(benchmark.records.every_steps) or self.step == benchmark.budget_steps:
            records += self._training_records()
        if self._is_due(benchmark.probes.every_steps):
            records += self._probe_records("plasticity", self._probe_batch(), None, range(self.num_members))
        if self._is_due(benchmark.evaluation.every_steps) or self.step == benchmark.budget_steps:
            records += self._evaluation_records()
        return records

    def _training_records(self) -> list[Record]:
        returns, lengths, counts = self.world.episodes.drain(self.num_members)
        finished = [m for m in range(self.num_members) if counts[m] > 0]
        records = self._records("train/return", [float(returns[m] / counts[m]) for m in finished], finished)
        records += self._records("train/length", [float(lengths[m] / counts[m]) for m in finished], finished)
        for name, values in self._window.drain().items():
            records += self._records(name, values, range(self.num_members))
        now = time.monotonic()
        speed = (self.step - self._log_clock[1]) / max(now - self._log_clock[0], 1e-9)
        self._log_clock = (now, self.step)
        for name, value in {"speed/steps_per_s": speed, **self._usage.drain()}.items():
            records += self._records(name, [value] * self.num_members, range(self.num_members))
        return records

    def _evaluation_records(self) -> list[Record]:
        evaluation = self.benchmark.evaluation
        result = evaluate(
            self.agent.act_in_evaluation,
            self._seen_in_evaluation,
            self.environment.config,
            self.seeds,
            at_step=self.step,
            num_envs=evaluation.num_envs,
            episodes=evaluation.episodes,
            steps=evaluation.steps,
            num_threads=self._num_threads,
        )
        self.last_evaluation = float(result.mean_return.mean())
        everyone = range(self.num_members)
        scores = [self.environment.config.score(float(value)) for value in result.mean_return]
        return (
            self._records("eval/return", result.mean_return.tolist(), everyone)
            + self._records("eval/score", scores, everyone)
            + self._records("eval/length", result.mean_length.tolist(), everyone)
            + self._records("eval/episodes", result.episodes.tolist(), everyone)
        )

    def _seen_in_evaluation(self, obs: np.ndarray) -> np.ndarray:
        # A change at this very step has not happened yet: events come after measurements.
        return self.scenario.transform(obs, self._phase(changes_until=self.step - 1))

    def policy(self, member: int) -> Callable[[np.ndarray], np.ndarray]:
        """How ``member`` acts in evaluation now: raw observations ``[1, ...]`` to actions ``[1, ...]``."""
        generator = derive_generator(self.seeds[member], "picture", "policy")

        def act(obs: np.ndarray) -> np.ndarray:
            everyone = np.repeat(obs[None], self.num_members, axis=0)  # the agent acts for all members at once
            uniforms = np.repeat(generator.random((1, 1, 2)), self.num_members, axis=0)
            action: np.ndarray = self.agent.act_in_evaluation(self._seen_in_evaluation(everyone), uniforms)[member]
            return action

        return act

    def _probe_batch(self) -> Any | None:
        rows = self.benchmark.probes.batch_rows
        uniforms = [derive_generator(seed, "probe", self.step).random(rows) for seed in self.seeds]
        return self.agent.probe_batch(np.stack(uniforms))

    def _probe_records(
        self, prefix: str, batch: Any | None, previous: Mapping[str, Any] | None, members: Iterable[int]
    ) -> list[Record]:
        if batch is None or not self._probes:
            return []
        members = list(members)
        records: list[Record] = []
        totals: dict[tuple[str, str], list[float]] = {}
        for view in self.agent.views(batch, previous):
            for probe in self._probes:
                for layer, tensor in probe.measure(view).items():
                    values = tensor.tolist()
                    name = f"{prefix}/{view.name}/{probe.label}" + (f"/{layer}" if layer else "")
                    records += self._records(name, [values[m] for m in members], members)
                    if not layer:
                        totals[view.name, probe.label] = values
        if prefix == "plasticity":
            self._trigger(totals)
        return records

    def _trigger(self, totals: Mapping[tuple[str, str], Sequence[float]]) -> None:
        for m, method in enumerate(self._methods):
            if method is None or not isinstance(method.schedule, Trigger) or m in self._triggered:
                continue
            schedule = method.schedule
            if (schedule.network, schedule.probe) not in totals:
                raise ValueError(
                    f"methods.{method.name}.when.probe: {schedule.probe!r} has no total on the {schedule.network!r} "
                    "network between resets. Choose another probe or network"
                )
            if schedule.fires(totals[schedule.network, schedule.probe][m], self.step, self._last_reset[m]):
                self._triggered.append(m)

    def _records(self, name: str, values: Sequence[float], members: Iterable[int]) -> list[Record]:
        now = time.time()
        return [
            Record(trial, self.step, name, value, now)
            for m, value in zip(members, values, strict=True)
            for trial in self.segment.members[m].trials
        ]

    # -- saving and going on -------------------------------------------------------------------------------------

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain data of everything but the replay's rows, which ``agent.replay.export`` gives in chunks."""
        tensors, agent = self.agent.state_dict()
        tensors = tensors | {
            name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in self.world.state_dict().items()
        }
        plain = {
            "agent": agent,
            "replay": self.agent.replay.meta(),
            "window": self._window.state_dict(),
            "last_reset": self._last_reset,
            "triggered": self._triggered,
        }
        return tensors, plain

    def load_state_dict(
        self,
        tensors: dict[str, Tensor],
        plain: dict[str, Any],
        chunks: Iterable[tuple[int, dict[str, Tensor]]],
        *,
        step: int,
        parents: Sequence[int],
    ) -> None:
        """Goes on at ``step`` where a population was saved; member i as its member ``parents[i]``.

        Where the segment is about to restart its environments, their course is not replayed first.
        """
        self.step = step
        self.agent.load_state_dict(tensors, plain["agent"], parents)
        self.agent.replay.restore(plain["replay"], chunks, parents)
        self._window.load_state_dict(plain["window"], parents)
        self._last_reset = [plain["last_reset"][parent] for parent in parents]
        self._triggered = list(plain["triggered"]) if list(parents) == list(range(self.num_members)) else []
        arrays = {
            name: value.numpy() for name, value in tensors.items() if name.startswith(("environment/", "episodes/"))
        }
        restarts = self.segment.fork and step == self.segment.from_step
        self.world.load_state_dict(arrays, parents, replay=not restarts)

    def close(self) -> None:
        """Frees the environments and whatever the agent holds."""
        self.world.close()
        self.agent.close()


class _MetricWindow:
    """Means of what updates reported since the last training record, ``[M]`` by name."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        for name, value in metrics.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._count += 1

    def drain(self) -> dict[str, list[float]]:
        means = {name: (total / self._count).tolist() for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        return means

    def state_dict(self) -> dict[str, Any]:
        return {"count": self._count, "sums": {name: total.tolist() for name, total in self._sums.items()}}

    def load_state_dict(self, state: dict[str, Any], parents: Sequence[int]) -> None:
        self._count = state["count"]
        self._sums = {name: torch.tensor([sums[p] for p in parents]) for name, sums in state["sums"].items()}
