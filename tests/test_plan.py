from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from small_runs import offer, small

from plasticbench.platform.definition.reading import from_dict
from plasticbench.platform.planning.lineage import PIECE_BYTES, balanced
from plasticbench.platform.planning.plan import Plan, Segment, make_plan, summary
from plasticbench.settings import Settings

BUDGET = 10_000
FORKING: dict[str, Any] = {
    "name": "tiny",
    "environments": [{"kind": "classic", "task": "Acrobot-v1"}],
    "agent": {"kind": "dqn"},
    "resets": {"at": [0.5]},
    "methods": {"none": {"kind": "none"}, "full_reset": {"kind": "full_reset"}, "fire": {"kind": "fire"}},
    "seeds": 2,
    "budget_steps": BUDGET,
    "evaluation": {"every_steps": 1_000, "episodes": 5},
}


def plan_of(**changes: Any) -> Plan:
    """The plan of the forking benchmark with top-level settings replaced (``None`` removes one)."""
    data = {**copy.deepcopy(FORKING), **changes}
    return make_plan(from_dict({name: value for name, value in data.items() if value is not None}))


def with_methods(resets: Any = None, **methods: Any) -> Plan:
    return plan_of(methods=methods, resets=resets)


def shape(segment: Segment) -> tuple[int, int, bool, list[tuple[int, str | None]]]:
    members = [(member.seed, member.method) for member in segment.members]
    return segment.from_step, segment.to_step, segment.fork, members


def ids(plan: Plan) -> dict[tuple[str, str, int], str]:
    return {(trial.task, trial.method, trial.seed): trial.id for trial in plan.trials}


# -- forking --------------------------------------------------------------------------------------------------------


def test_three_methods_share_one_prefix_per_seed_and_fork_at_the_first_reset() -> None:
    prefix, branches = plan_of().segments
    assert shape(prefix) == (0, 5_000, False, [(0, None), (1, None)])
    assert (prefix.start, prefix.parents) == (None, ())
    expected = [(seed, method) for seed in (0, 1) for method in ("none", "full_reset", "fire")]
    assert shape(branches) == (5_000, BUDGET, True, expected)
    assert branches.start == prefix.id
    assert branches.parents == (0, 0, 0, 1, 1, 1)


def test_a_shared_member_records_for_all_its_trials_and_a_branch_for_its_own() -> None:
    plan = plan_of()
    prefix, branches = plan.segments
    trial_ids = ids(plan)
    of_seed_1 = {trial_ids["Acrobot-v1", method, 1] for method in ("none", "full_reset", "fire")}
    assert set(prefix.members[1].trials) == of_seed_1
    assert branches.members[5].trials == (trial_ids["Acrobot-v1", "fire", 1],)


def test_the_fork_falls_on_the_first_whole_vector_step_at_or_after_the_reset() -> None:
    plan = plan_of(environments=[{"kind": "classic", "task": "Acrobot-v1", "num_envs": 8}], resets={"at": [0.5001]})
    assert [segment.to_step for segment in plan.segments] == [5_008, BUDGET]
    assert plan.trials[0].reset_steps == (5_008,)


def test_methods_that_reset_at_different_times_leave_a_common_trunk() -> None:
    plan = with_methods(
        late={"kind": "fire", "at": [0.75]},
        early={"kind": "fire", "at": [0.25]},
        often={"kind": "full_reset", "every": 2_500},
        never={"kind": "none"},
    )
    trunk, leave_early, trunk_on, leave_late, never = plan.segments
    assert shape(trunk) == (0, 2_500, False, [(0, None), (1, None)])
    assert shape(leave_early) == (
        2_500, BUDGET, True, [(0, "early"), (0, "often"), (1, "early"), (1, "often")],
    )  # fmt: skip
    assert shape(trunk_on) == (2_500, 7_500, False, [(0, None), (1, None)])
    assert (trunk_on.start, trunk_on.parents) == (trunk.id, (0, 1))
    assert shape(leave_late) == (7_500, BUDGET, True, [(0, "late"), (1, "late")])
    assert (leave_late.start, leave_late.parents) == (trunk_on.id, (0, 1))
    assert shape(never) == (7_500, BUDGET, False, [(0, "never"), (1, "never")])
    assert (never.start, never.parents) == (trunk_on.id, (0, 1))
    trial_ids = ids(plan)
    assert set(trunk_on.members[0].trials) == {trial_ids["Acrobot-v1", name, 0] for name in ("late", "never")}


def test_triggered_methods_are_trained_from_the_start() -> None:
    when = {"probe": "srank", "below": 8.0, "at_most_every": 1_000}
    plan = with_methods(a={"kind": "fire", "when": when}, b={"kind": "full_reset", "when": when})
    (alone,) = plan.segments
    assert shape(alone) == (0, BUDGET, False, [(0, "a"), (0, "b"), (1, "a"), (1, "b")])
    assert plan.trials[0].reset_steps == ()


def test_a_method_without_events_is_trained_from_the_start_where_nothing_forks() -> None:
    (alone,) = with_methods(only={"kind": "none"}).segments
    assert shape(alone) == (0, BUDGET, False, [(0, "only"), (1, "only")])


def test_methods_with_other_agents_share_nothing() -> None:
    plan = with_methods(
        resets={"at": [0.5]},
        small={"kind": "fire"},
        large={"kind": "fire", "agent": {"network": {"kind": "mlp", "hidden": [128, 128]}}},
        same={"kind": "full_reset", "agent": {"network": {"kind": "mlp", "hidden": [64, 64]}}},
    )
    assert [segment.agent_method for segment in plan.segments] == ["small", "small", "large", "large"]
    assert [member.method for member in plan.segments[1].members] == ["small", "same"] * 2
    assert [member.method for member in plan.segments[3].members] == ["large"] * 2


def test_a_single_method_has_the_segments_that_it_has_among_others() -> None:
    together = [shape(segment)[:3] for segment in plan_of().segments]
    alone = [shape(segment)[:3] for segment in with_methods(resets={"at": [0.5]}, fire={"kind": "fire"}).segments]
    assert alone == together


# -- populations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "limit", "sizes"), [(5, 3, [3, 2]), (6, 3, [3, 3]), (7, 3, [3, 2, 2]), (1, 9, [1]), (0, 3, [])]
)
def test_balanced_cuts_into_consecutive_runs_of_nearly_equal_length(count: int, limit: int, sizes: list[int]) -> None:
    runs = balanced(list(range(count)), limit)
    assert [len(run) for run in runs] == sizes
    assert [item for run in runs for item in run] == list(range(count))


def test_large_benchmarks_are_cut_by_seed_so_that_each_branch_has_one_prefix() -> None:
    plan = plan_of(seeds=5, execution={"members_per_population": 9})
    assert [len(segment.members) for segment in plan.segments] == [3, 9, 2, 6]
    assert [segment.start for segment in plan.segments] == [None, plan.segments[0].id, None, plan.segments[2].id]


def test_more_methods_than_a_population_holds_are_cut_by_method() -> None:
    plan = plan_of(seeds=1, execution={"members_per_population": 2})
    assert [len(segment.members) for segment in plan.segments] == [1, 2, 1]
    assert [segment.parents for segment in plan.segments] == [(), (0, 0), (0,)]


def test_resources_and_sizes_come_from_execution_and_agent() -> None:
    plan = plan_of(execution={"num_cpus": 2, "num_gpus": 0.5, "device": "cuda"})
    prefix, branches = plan.segments
    assert (prefix.num_cpus, prefix.num_gpus) == (2, 0.5)
    assert branches.disk_bytes == 3 * prefix.disk_bytes > 0
    context_bytes = 2**30
    assert branches.gpu_memory_bytes - context_bytes == 3 * (prefix.gpu_memory_bytes - context_bytes) > 0
    process_bytes = 3 * 2**30 + 2 * PIECE_BYTES
    assert branches.memory_bytes - process_bytes == 3 * (prefix.memory_bytes - process_bytes) > 0, "a fork is no copy"


def test_on_a_gpu_frames_and_networks_are_asked_of_it_and_indices_of_the_host() -> None:
    """Frames 8, action 8, reward and end 8 bytes a transition on the device; age, validity and queue 10 on the host."""
    gpu = {"num_gpus": 1, "device": "cuda"}
    on_gpu, larger = (
        plan_of(agent={"kind": "dqn", "capacity_transitions": capacity}, budget_steps=20_000, execution=gpu)
        for capacity in (10_000, 20_000)
    )
    members = len(on_gpu.segments[0].members)
    frame_bytes = 4 * 6  # Acrobot's
    grown = larger.segments[0].gpu_memory_bytes - on_gpu.segments[0].gpu_memory_bytes
    assert grown == members * 10_000 * (frame_bytes + 8 + 8)
    assert larger.segments[0].memory_bytes - on_gpu.segments[0].memory_bytes == members * 10_000 * 10
    assert all(segment.gpu_memory_bytes == 0 for segment in plan_of().segments)


def test_a_replay_is_planned_no_larger_than_the_budget_fills_and_no_id_moves() -> None:
    small, large = (
        plan_of(agent={"kind": "dqn", "capacity_transitions": capacity}, budget_steps=10_000)
        for capacity in (10_000, 1_000_000)
    )
    assert [s.memory_bytes for s in small.segments] == [s.memory_bytes for s in large.segments]
    assert [s.disk_bytes for s in small.segments] == [s.disk_bytes for s in large.segments]
    assert large.trials[0].settings["agent"]["capacity_transitions"] == 1_000_000


def test_a_twin_takes_the_memory_of_a_second_agent() -> None:
    """Acrobot's 6 numbers, 8 units, 3 actions; of each weight there are six numbers of four bytes."""
    agent = {"kind": "dqn", "network": {"kind": "mlp", "hidden": [8]}}
    plain, twins = (plan_of(agent=agent, methods={"only": {"kind": kind}}) for kind in ("full_reset", "altnet"))
    members, twin_bytes = 2, (8 * 6 + 3 * 8) * 24
    assert [len(segment.members) for segment in twins.segments] == [members, members]
    for one, other in zip(plain.segments, twins.segments, strict=True):
        assert other.memory_bytes - one.memory_bytes == other.disk_bytes - one.disk_bytes == members * twin_bytes


@pytest.mark.parametrize(
    ("kind", "weights", "passes"), [("ntk_rank", 2 * 64, 0), ("trainability", 6, 0), ("hessian_trace", 6, 2)]
)
def test_a_probe_that_tries_things_on_copies_takes_their_memory(kind: str, weights: int, passes: int) -> None:
    agent = {"kind": "dqn", "network": {"kind": "mlp", "hidden": [8]}}
    probes = [{"every_steps": 1_000, "batch_rows": 100, "kinds": [name]} for name in ("dfi", kind)]
    (plain, *_), (costly, *_) = (plan_of(agent=agent, probes=own).segments for own in probes)
    weight_bytes, pass_bytes = (8 * 6 + 3 * 8) * 4, 100 * 4 * 4 * 6  # four copies of what is read
    expected = weights * weight_bytes + passes * pass_bytes
    assert costly.memory_bytes - plain.memory_bytes == len(plain.members) * expected


def test_memory_side_by_side_is_that_of_the_widest_cut_through_the_tree() -> None:
    plan = plan_of(seeds=4, execution={"members_per_population": 6})
    sizes = [segment.memory_bytes for segment in plan.segments]
    assert [segment.start is None for segment in plan.segments] == [True, False, True, False]
    assert summary(plan)["memory_side_by_side_bytes"] == max(sizes[:2]) + max(sizes[2:])
    wide = plan_of(seeds=1, execution={"members_per_population": 2})  # a trunk and two branches
    trunk, *branches = (segment.memory_bytes for segment in wide.segments)
    assert summary(wide)["memory_side_by_side_bytes"] == max(trunk, sum(branches))


def _messy_benchmark(limit: int) -> Plan:
    when = {"probe": "srank", "below": 8.0, "at_most_every": 1_000}
    return plan_of(
        environments=[
            {"kind": "classic", "task": "Acrobot-v1", "num_envs": 4},
            {"kind": "classic", "task": "CartPole-v1"} | {"scenario": {"kind": "observation_permutation", "at": [0.3]}},
        ],
        methods={
            "none": {"kind": "none"},
            "early": {"kind": "fire", "at": [0.2, 0.9]},
            "often": {"kind": "full_reset", "every": 3_000},
            "triggered": {"kind": "fire", "when": when},
            "other": {"kind": "fire", "agent": {"learning_rate": 0.5}},
            "other triggered": {"kind": "fire", "when": when, "agent": {"learning_rate": 0.5}},
        },
        seeds=[4, 0, 9],
        execution={"members_per_population": limit},
    )


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 32])
def test_every_trial_is_trained_exactly_once_from_0_to_the_budget(limit: int) -> None:
    plan = _messy_benchmark(limit)
    courses: dict[str, list[tuple[int, int]]] = {trial.id: [] for trial in plan.trials}
    for segment in plan.segments:
        for member in segment.members:
            for trial in member.trials:
                courses[trial].append((segment.from_step, segment.to_step))
    for course in courses.values():
        steps = sorted(course)
        assert steps[0][0] == 0
        assert steps[-1][1] == BUDGET
        assert all(earlier[1] == later[0] for earlier, later in pairwise(steps))


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 32])
def test_segments_are_well_formed(limit: int) -> None:
    plan = _messy_benchmark(limit)
    seen: dict[str, Segment] = {}
    trials = {trial.id: trial for trial in plan.trials}
    for segment in plan.segments:
        assert segment.id not in seen
        assert len(segment.members) <= limit
        assert segment.from_step < segment.to_step
        if segment.start is None:
            assert (segment.from_step, segment.parents, segment.fork) == (0, (), False)
        else:
            origin = seen[segment.start]
            assert origin.to_step == segment.from_step
            assert len(segment.parents) == len(segment.members)
            for member, parent in zip(segment.members, segment.parents, strict=True):
                assert set(member.trials) <= set(origin.members[parent].trials)
        for member in segment.members:
            assert {trials[trial].seed for trial in member.trials} == {member.seed}
            assert {trials[trial].task for trial in member.trials} == {segment.task}
        seen[segment.id] = segment


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 32])
def test_episodes_restart_at_each_trials_own_first_known_reset_and_nowhere_else(limit: int) -> None:
    plan = _messy_benchmark(limit)
    restarts: dict[str, list[int]] = {trial.id: [] for trial in plan.trials}
    for segment in plan.segments:
        for trial in (trial for member in segment.members if segment.fork for trial in member.trials):
            restarts[trial].append(segment.from_step)
    for trial in plan.trials:
        assert restarts[trial.id] == list(trial.reset_steps[:1])


# -- identity -------------------------------------------------------------------------------------------------------


def test_ids_are_readable_and_end_in_a_hash() -> None:
    plan = plan_of(environments=[{"kind": "classic", "task": "Acrobot-v1", "name": "Acrobot (hard)"}])
    assert re.fullmatch(r"acrobot-hard--full-reset--s1--[0-9a-f]{8}", plan.trials[3].id)
    assert len(set(ids(plan).values())) == 6


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"description": "other"},
        {"seeds": [1, 0, 7]},
        {"execution": {"members_per_population": 2}},
        {"checkpoint": {"every_s": 1.0}},
        {"methods": FORKING["methods"] | {"more": {"kind": "last_layers"}}},
        {"agent": {"kind": "dqn", "learning_rate": 0.001}},
        {"environments": [{"kind": "classic", "task": "Acrobot-v1"}, {"kind": "classic", "task": "CartPole-v1"}]},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_cannot_change_a_result_leaves_its_id_alone(changes: dict[str, Any]) -> None:
    before, after = ids(plan_of()), ids(plan_of(**changes))
    assert before.items() <= after.items()


@pytest.mark.parametrize(
    "changes",
    [
        {"environments": [{"kind": "classic", "task": "Acrobot-v1", "num_envs": 2}]},
        {
            "environments": [
                {"kind": "classic", "task": "Acrobot-v1"}
                | {"scenario": {"kind": "observation_permutation", "at": [0.5]}}
            ]
        },
        {"agent": {"kind": "dqn", "learning_rate": 0.002}},
        {"resets": {"at": [0.6]}},
        {"budget_steps": 12_000},
        {"evaluation": {"every_steps": 1_000, "episodes": 6}},
        {"probes": {"kinds": ["srank"]}},
        {"records": {"every_steps": 500}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_can_change_a_result_changes_every_id(changes: dict[str, Any]) -> None:
    assert set(ids(plan_of()).values()).isdisjoint(ids(plan_of(**changes)).values())


def test_a_policys_own_setting_changes_only_its_own_trials() -> None:
    before = ids(plan_of())
    after = ids(plan_of(methods=FORKING["methods"] | {"fire": {"kind": "fire", "scale": "none"}}))
    changed = {key[1] for key in before if before[key] != after[key]}
    assert changed == {"fire"}


def test_trials_carry_their_settings_as_plain_nested_data() -> None:
    settings = plan_of().trials[-1].settings
    assert settings["agent"]["kind"] == "dqn"
    assert settings["method"]["kind"] == "fire"
    assert settings["schedule"] == {"at": [0.5]}
    assert json.loads(json.dumps(settings)) == settings


def test_trials_know_when_their_world_changes() -> None:
    scenario = {"kind": "observation_permutation", "at": [0.25, 0.5]}
    plan = plan_of(environments=[{"kind": "classic", "task": "Acrobot-v1", "scenario": scenario}])
    assert plan.trials[0].change_steps == (2_500, 5_000)
    assert "random" in plan.trials[0].score_source


# -- the file and its cost ------------------------------------------------------------------------------------------


def test_plan_json_reads_back_equal() -> None:
    plan = _messy_benchmark(5)
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"name": 3}'])
def test_other_json_is_not_a_plan(text: str) -> None:
    with pytest.raises(ValueError):
        Plan.from_json(text)


def test_forking_k_methods_at_fraction_f_costs_f_plus_k_times_the_rest() -> None:
    facts = summary(plan_of())
    assert facts["member_steps"] == 2 * (5_000 + 3 * 5_000)
    assert facts["member_steps_without_forks"] == 2 * 3 * BUDGET
    assert facts["saved_by_forks"] == 0.333
    assert facts["trials"] == 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Plain(Settings):
    """A probe that holds to the contract alone."""

    @property
    def label(self):
        return "plain"

    def build(self):
        return self

    def measure(self, view):
        return {}


def test_a_probe_that_says_nothing_of_its_memory_takes_none(monkeypatch):
    offer(monkeypatch, "probes", plain=Plain)
    plans = [
        make_plan(from_dict(small(probes={"every_steps": 100, "batch_rows": 64, "kinds": kinds})))
        for kinds in (["plain"], ["dormant_ratio"])
    ]
    assert plans[0].segments[0].memory_bytes == plans[1].segments[0].memory_bytes
