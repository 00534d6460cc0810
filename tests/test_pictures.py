"""Films of final policies: what a file may ask for, whose policy is filmed, and how the report shows it."""

import base64
import ctypes.util
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from run_directory import write_run
from small_runs import prepare, run_all, small

from plasticbench.analysis.report import write_report
from plasticbench.envs import humanoid
from plasticbench.envs.humanoid.rendering import check_rendering
from plasticbench.platform.definition.reading import BenchmarkError, Pictures, from_dict
from plasticbench.platform.planning.plan import Plan, make_plan
from plasticbench.platform.rundir import RunDirectory
from plasticbench.platform.training.checkpoint import CheckpointStore
from plasticbench.platform.training.pictures import write_film
from plasticbench.platform.training.segment import SegmentRun
from plasticbench.platform.training.trainer import Trainer


def tiny(**changes: Any) -> dict[str, Any]:
    """Two methods and two seeds on a humanoid that can do nothing yet; the first seed is 3."""
    agent = {
        "kind": "sac",
        "actor_network": {"kind": "mlp", "hidden": [8]},
        "critic_network": {"kind": "mlp", "hidden": [8]},
        "batch_rows": 8,
        "learning_starts_steps": 10,
        "capacity_transitions": 40,
    }
    data = small(
        environments=[{"kind": "humanoid", "task": "h1-stand-v0", "action_repeat": 2}],
        agent=agent,
        seeds=[3, 0],
        budget_steps=40,
        evaluation={"every_steps": 40, "steps": 2},
        probes={"kinds": []},
        records={"every_steps": 20},
        pictures={"num_steps": 9, "width": 64, "height": 48},
    )
    return data | changes


def problems_of(data: dict[str, Any]) -> list[str]:
    with pytest.raises(BenchmarkError) as caught:
        from_dict(data, source="bench.yaml")
    return str(caught.value).splitlines()


def _can_draw() -> bool:
    try:
        return bool(check_rendering())
    except RuntimeError:
        return False


# -- what a file may ask for ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("graphics_library")
@pytest.mark.parametrize(
    ("given", "expected"), [(None, None), ({}, Pictures()), ({"num_steps": 5}, Pictures(num_steps=5))]
)
def test_pictures_are_made_on_request_alone_and_read_back(
    given: dict[str, int] | None, expected: Pictures | None
) -> None:
    benchmark = from_dict(tiny(pictures=given))
    assert benchmark.pictures == expected
    assert from_dict(benchmark.resolved()) == benchmark


@pytest.mark.usefixtures("graphics_library")
def test_pictures_change_no_trial_id() -> None:
    with_pictures, without = (make_plan(from_dict(tiny(pictures=given))) for given in ({}, None))
    assert with_pictures.trials == without.trials


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"steps": 3}, "pictures.steps: there is no such setting. Did you mean 'num_steps'?"),
        ({"num_steps": 0}, "pictures.num_steps: must be at least 1, got 0"),
        ({"width": 8}, "pictures.width: must be 16 to 1920 pixels, got 8"),
        ({"height": 4000}, "pictures.height: must be 16 to 1920 pixels, got 4000"),
        (3, "pictures: must be a mapping of settings, got 3"),
    ],
)
def test_bad_settings_are_refused(given: Any, line: str) -> None:
    assert problems_of(tiny(pictures=given)) == [f"bench.yaml: {line}"]


def test_a_kind_that_cannot_be_drawn_is_refused_with_those_that_can() -> None:
    (line,) = problems_of(small(pictures={}))
    assert line.startswith("bench.yaml: pictures: every environment must be of a kind that can be drawn (humanoid), ")
    assert "got classic. Remove 'pictures'" in line


def test_a_missing_graphics_library_is_one_problem_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    environments = [{"kind": "humanoid", "task": task} for task in ("h1-walk-v0", "h1-run-v0")]
    (line,) = problems_of(tiny(environments=environments))
    assert line.startswith("bench.yaml: pictures: pictures of humanoids need egl or osmesa")
    assert line.endswith("apt-get install libosmesa6, or remove 'pictures'")


# -- whose policy ---------------------------------------------------------------------------------------------------


def _trainer(path: Path, **changes: Any) -> Trainer:
    pendulum = [
        {"kind": "classic", "task": "Pendulum-v1", "scenario": {"kind": "observation_permutation", "at": [0.5]}}
    ]
    data = tiny(environments=pendulum, pictures=None, methods={"none": {"kind": "none"}}, **changes)
    plan = prepare(path, data)
    trainer = Trainer(from_dict(data), plan.segments[0])
    trainer.start()
    trainer.step = 40  # in the scenario's last phase
    return trainer


def test_each_member_acts_as_it_would_alone_and_training_does_not_notice(tmp_path: Path) -> None:
    together, alone = _trainer(tmp_path / "together"), _trainer(tmp_path / "alone", seeds=[0])
    before = together.state_dict()
    obs = np.array([[0.3, -0.8, 2.0]], np.float32)
    first, second = (together.policy(member)(obs) for member in (0, 1))
    np.testing.assert_allclose(second, alone.policy(0)(obs), rtol=1e-5)
    assert (first != second).all()
    assert first.shape == (1, 1)
    after = together.state_dict()
    assert after[1] == before[1]
    assert all((after[0][name] == tensor).all() for name, tensor in before[0].items())
    together.close()
    alone.close()


# -- the film and the report ----------------------------------------------------------------------------------------


def test_a_film_plays_as_fast_as_the_robot_moves_and_rests_at_the_end(tmp_path: Path) -> None:
    shots = np.random.default_rng(0).integers(0, 255, (5, 48, 64, 3), np.uint8)
    write_film(tmp_path / "pictures" / "film.webp", shots, apart_s=0.08)
    durations_ms = []
    with Image.open(tmp_path / "pictures" / "film.webp") as film:
        for frame in range(film.n_frames):
            film.seek(frame)
            film.load()
            durations_ms.append(film.info["duration"])
    assert durations_ms == [80, 80, 80, 80, 1000]
    assert [file.name for file in (tmp_path / "pictures").iterdir()] == ["film.webp"]


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Plan]:
    if not _can_draw():
        pytest.skip("no EGL or OSMesa: apt-get install libosmesa6")
    path = tmp_path_factory.mktemp("filmed")
    return path, run_all(path, tiny())


def test_the_first_seed_of_each_method_is_filmed(filmed: tuple[Path, Plan]) -> None:
    path, plan = filmed
    expected = {f"{trial.id}.webp" for trial in plan.trials if trial.seed == 3}
    assert {file.name for file in (path / "pictures").iterdir()} == expected
    assert len(expected) == 2
    for file in (path / "pictures").iterdir():
        with Image.open(file) as film:
            assert (film.size, film.n_frames) == ((64, 48), 5)


def test_the_report_holds_the_films_in_plan_order(filmed: tuple[Path, Plan]) -> None:
    path, _ = filmed
    page = write_report(path).read_text(encoding="utf-8")
    assert "<h2>Final policies</h2>" in page
    found = re.findall(r'<img src="data:image/webp;base64,([^"]+)" alt="([^"]+)">', page)
    assert page.count("<img") == 2
    assert [text for _, text in found] == [
        f"Film of h1-stand-v0: the final policy of {method}, seed 3" for method in ("none", "fire")
    ]
    assert all(Image.open(io.BytesIO(base64.b64decode(data))).format == "WEBP" for data, _ in found)


def test_a_report_without_films_says_nothing_of_them(tmp_path: Path) -> None:
    page = write_report(write_run(tmp_path, {("A", "none"): [0.1], ("A", "fire"): [0.2]})).read_text(encoding="utf-8")
    assert "Final policies" not in page
    assert "<img" not in page


@pytest.mark.usefixtures("graphics_library")
def test_a_driver_that_fails_costs_a_warning_and_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> np.ndarray:
        raise RuntimeError("no device")

    monkeypatch.setattr(humanoid.Config, "render", fail)
    plan = prepare(tmp_path, tiny())
    assert all(SegmentRun(tmp_path, segment.id).run() for segment in plan.segments)
    store = CheckpointStore(RunDirectory(tmp_path).checkpoints)
    assert all((commit := store.latest(segment.id)) is not None and commit.complete for segment in plan.segments)
    assert caplog.text.count("there will be no pictures of its policy: RuntimeError: no device") == 2
