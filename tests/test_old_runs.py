"""Run directories of version 0.1 go on and are reported; shipped benchmark files keep their trial ids."""

import hashlib
import json
import tarfile
from pathlib import Path

import pytest
from small_runs import facts

from plasticbench.analysis.report import write_report
from plasticbench.platform.definition.reading import load
from plasticbench.platform.planning.plan import make_plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.segment import SegmentRun

DATA = Path(__file__).parent / "data" / "old_runs"
CONFIGS = Path(__file__).parents[1] / "configs"
FAMILIES = ["dqn", "sac", pytest.param("rllib", marks=[pytest.mark.ray, pytest.mark.slow])]

NEW_NAMES = {"q/bound_ratio"}
"""What version 0.1 did not record."""
PLANS = {
    "demo_bandit": ("digits--none--s0--ca972ce0", "22e4b541e0cef6fd"),
    "demo_digits": ("digits-random-labels--none--s0--552c5752", "d8ddce4ef08bb4c9"),
    "fire_atari": ("asterix--none--s0--86d3afa2", "d82b7e35442880b4"),
    "fire_humanoid": ("h1-balance-simple-v0--none--s0--c15bce20", "be68f52a50a510d9"),
    "pendulum": ("pendulum-v1--none--s0--bf93efc5", "8f760014cc698951"),
    "quickstart": ("acrobot-v1--none--s0--4d395ddb", "561a73f928101c9d"),
    "rllib_cartpole": ("cartpole-v1--none--s0--5d996cf0", "ddd0027750a2ff6a"),
    "smoke_atari": ("asterix--none--s0--93e0d132", "476124ad1530276f"),
    "smoke_humanoid": ("h1-walk-v0--none--s0--6a7d7c14", "37acf357e063c3ad"),
}
"""First trial, and a hash over all trial ids and segments, of version 0.1, but for five files. Those of the demo are
younger. The two of Atari share exploration among environments, which version 0.1 did otherwise
(``planning/corrections.py``), and by their preset updates now begin a step later, as in its source (``update_clock``).
``rllib_cartpole`` says that its agents descend squared errors."""


@pytest.fixture
def ray_is_running():
    import ray

    from plasticbench.platform.cluster.connection import start_own_node

    start_own_node()
    yield
    ray.shutdown()


def _unpacked(name: str, folder: Path) -> Path:
    with tarfile.open(DATA / f"{name}.tar.xz") as archive:
        archive.extractall(folder / name, filter="data")
    return folder / name


@pytest.mark.parametrize("family", FAMILIES)
def test_an_interrupted_old_run_goes_on_to_the_end_that_it_would_have_had(family, tmp_path, request):
    if family == "rllib":
        request.getfixturevalue("ray_is_running")
    finished, resumed = _unpacked(f"{family}_finished", tmp_path), _unpacked(f"{family}_interrupted", tmp_path)
    plan = RunDirectory(resumed).plan()
    before = {trial.id: RunDirectory(resumed).record_file(trial.id).read_bytes() for trial in plan.trials}
    for segment in plan.segments:
        assert SegmentRun(resumed, segment.id).run()
    for trial in plan.trials:
        assert RunDirectory(resumed).record_file(trial.id).read_bytes().startswith(before[trial.id])
    expected, got = facts(finished, plan), facts(resumed, plan)
    for key, records in expected.items():
        # Another processor may round otherwise, which training amplifies, so values are not part of the claim.
        known = [(step, name) for step, name, _ in got[key] if name not in NEW_NAMES]
        assert known == [(step, name) for step, name, _ in records]


@pytest.mark.parametrize("family", ["dqn", "sac", "rllib"])
def test_an_old_run_is_reported(family, tmp_path):
    page = write_report(_unpacked(f"{family}_finished", tmp_path))
    rows = json.loads((page.parent / "leaderboard.json").read_text())["rows"]
    assert all(row["diverged_trials"] is None for row in rows)  # version 0.1 did not record how large values are
    assert {row["method"] for row in rows} == {trial.method for trial in RunDirectory(page.parent.parent).plan().trials}


@pytest.mark.parametrize("name", PLANS)
def test_shipped_benchmarks_keep_their_trial_ids_and_segments(name, graphics_library):
    plan = make_plan(load(CONFIGS / f"{name}.yaml"))
    courses = [
        [
            s.id,
            s.from_step,
            s.to_step,
            s.start,
            list(s.parents),
            s.fork,
            [[m.seed, m.method, list(m.trials)] for m in s.members],
        ]
        for s in plan.segments
    ]
    text = json.dumps([[trial.id for trial in plan.trials], courses])
    assert (plan.trials[0].id, hashlib.sha256(text.encode()).hexdigest()[:16]) == PLANS[name]
