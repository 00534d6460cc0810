"""Agreement with recordings of the public HumanoidBench package, made with MuJoCo 3.1.6.

A step is a chaotic map where contacts are ambiguous: rounding decides between two contact normals. MuJoCo 3.1.6 itself,
with positions moved by 1e-15, differs from the recording of ``balance_simple`` by 2.1e-3 to 3.0e-3 in the 95th
percentile (five draws), and from that of ``walk`` by 3e-4 to 4e-4.
"""

import os
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest

from plasticbench.envs.humanoid._model import physics_model
from plasticbench.envs.humanoid._rewards import Readings
from plasticbench.envs.humanoid._simulation import Simulation
from plasticbench.envs.humanoid._tasks import TASKS

DIRECTORY = Path(
    os.environ.get("PLASTICBENCH_HUMANOIDBENCH_DIR", Path(__file__).resolve().parents[2] / "shared" / "humanoidbench")
)
TRACES = DIRECTORY / "traces"
MESHES = DIRECTORY / "meshes"
RECORDED = [task for task in TASKS if (TRACES / f"{task.removesuffix('-v0')}.npz").exists()]
pytestmark = pytest.mark.skipif(
    not RECORDED, reason=f"{TRACES} holds no recordings; PLASTICBENCH_HUMANOIDBENCH_DIR names another folder"
)
by_task = pytest.mark.parametrize("task", RECORDED)
needs_meshes = pytest.mark.skipif(not MESHES.exists(), reason=f"{MESHES} is absent")

MESH_MEDIAN, MESH_95TH = 1e-7, 2e-3
FOOT_MEDIAN, FOOT_95TH = 4e-4, 1.5e-2

Recording = dict[str, np.ndarray]


def load(task: str) -> Recording:
    with np.load(TRACES / f"{task.removesuffix('-v0')}.npz") as arrays:
        return dict(arrays)


def simulation(task: str, num_envs: int, ankle_meshes: Path | None = None) -> Simulation:
    return Simulation(physics_model(task, "published", ankle_meshes), task, num_envs, num_threads=1)


def goals(recorded: Recording) -> np.ndarray:
    return recorded.get("goal", np.zeros((len(recorded["reward"]), 3)))


def read_after_recorded_step(sim: Simulation, recorded: Recording) -> Readings:
    """Readings from the next states alone: the poses of the last substep follow from Euler's step backwards."""
    for data, qpos, qvel in zip(sim.datas, recorded["next_qpos"], recorded["next_qvel"], strict=True):
        data.qpos[:] = qpos
        mujoco.mj_integratePos(sim.model, data.qpos, qvel, -sim.model.opt.timestep)
        mujoco.mj_fwdPosition(sim.model, data)
        data.qpos[:], data.qvel[:] = qpos, qvel
    return sim.read(goals(recorded), np.zeros(len(sim.datas), np.int64))


def stages(task: str, recorded: Recording, readings: Readings) -> np.ndarray:
    """Checkpoints of the maze that were passed before each step."""
    stage = np.zeros(len(readings.stage), np.int64)
    next_stage = TASKS[task].next_stage
    for i in range(1, len(stage) if next_stage else 0):
        assert next_stage
        if recorded["ep"][i] == recorded["ep"][i - 1]:
            stage[i] = next_stage(replace(readings, stage=stage))[i - 1]
    return stage


def step_once(sim: Simulation, recorded: Recording) -> np.ndarray:
    """Largest error of the positions ``[N]`` after one step from each recorded state."""
    for data, qpos, qvel, warm in zip(sim.datas, recorded["qpos"], recorded["qvel"], recorded["warm"], strict=True):
        data.qpos[:], data.qvel[:], data.qacc_warmstart[:] = qpos, qvel, warm
    sim.step(recorded["action"], np.ones(len(sim.datas), bool))
    errors: np.ndarray = np.abs(np.stack([data.qpos for data in sim.datas]) - recorded["next_qpos"]).max(axis=1)
    return errors


@by_task
def test_terminations_follow_from_the_recorded_next_states(task: str) -> None:
    recorded = load(task)
    readings = read_after_recorded_step(simulation(task, len(recorded["reward"])), recorded)
    np.testing.assert_array_equal(TASKS[task].is_over(readings), recorded["terminated"])


@pytest.mark.parametrize("task", [task for task in RECORDED if "reach" in task])
def test_rewards_and_observations_of_reach_follow_from_the_recorded_next_states(task: str) -> None:
    recorded = load(task)
    readings = read_after_recorded_step(simulation(task, len(recorded["reward"])), recorded)
    np.testing.assert_allclose(TASKS[task].reward(readings), recorded["reward"], atol=1e-6, rtol=0)
    np.testing.assert_allclose(readings.left_hand, recorded["obs"][:, 51:54], atol=1e-12)


@needs_meshes
@by_task
def test_rewards_and_terminations_agree_to_1e_6_wherever_the_step_does(task: str) -> None:
    recorded = load(task)
    num_steps = len(recorded["reward"])
    sim = simulation(task, num_steps, MESHES)
    stage = stages(task, recorded, read_after_recorded_step(sim, recorded))
    same = step_once(sim, recorded) < 1e-9
    assert same.mean() > 0.5
    readings = sim.read(goals(recorded), stage)
    np.testing.assert_allclose(TASKS[task].reward(readings)[same], recorded["reward"][same], atol=1e-6, rtol=0)
    np.testing.assert_array_equal(TASKS[task].is_over(readings)[same], recorded["terminated"][same])


@needs_meshes
@by_task
def test_a_step_with_the_original_ankle_meshes_agrees(task: str) -> None:
    recorded = load(task)
    errors = step_once(simulation(task, len(recorded["reward"]), MESHES), recorded)
    assert np.median(errors) <= MESH_MEDIAN
    assert np.percentile(errors, 95) <= MESH_95TH


@by_task
def test_a_step_with_the_rebuilt_foot_agrees(task: str) -> None:
    recorded = load(task)
    errors = step_once(simulation(task, len(recorded["reward"])), recorded)
    assert np.median(errors) <= FOOT_MEDIAN
    assert np.percentile(errors, 95) <= FOOT_95TH


@by_task
def test_the_public_packages_observations_are_positions_and_velocities(task: str) -> None:
    recorded = load(task)
    state = np.concatenate([recorded["next_qpos"], recorded["next_qvel"]], axis=1)
    np.testing.assert_array_equal(recorded["obs"][:, : state.shape[1]], state)
    assert recorded["obs"].shape[1] == TASKS[task].obs_size
