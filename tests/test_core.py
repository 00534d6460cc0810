"""Streams, schedules, records and plug-ins: the parts that everything else stands on."""

import json
import math

import numpy as np
import pytest

from plasticbench import plugins
from plasticbench.records import Record, RecordWriter, read_records
from plasticbench.schedules import At, Every, LinearSchedule, Trigger, schedule_to_dict
from plasticbench.seeding import Streams, derive_generator, derive_seed


def test_streams_of_one_seed_are_independent_of_each_other_and_of_their_order():
    first, second = Streams(3), Streams(3)
    first["a"].random(5)
    assert first["b"].random() == second["b"].random()
    assert Streams(3)["a"].random() != Streams(3)["b"].random()
    assert Streams(3)["a"].random() != Streams(4)["a"].random()


def test_streams_go_on_after_a_round_trip_through_json():
    streams = Streams(7)
    streams["a"].random(3)
    restored = Streams(0)
    restored.load_state_dict(json.loads(json.dumps(streams.state_dict())))
    expected = [streams["a"].random(), streams["new"].random()]
    assert [restored["a"].random(), restored["new"].random()] == expected


def test_derived_seeds_depend_on_every_name_and_fit_foreign_generators():
    seeds = {derive_seed(0, "environment", step, i) for step in range(20) for i in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert derive_generator(1, "probe", 5).random() != derive_generator(1, "probe", 6).random()


def test_linear_schedule_by_hand():
    schedule = LinearSchedule(start=1.0, end=0.2, begin_step=100, duration_steps=400)
    assert [schedule.value(step) for step in (0, 100, 300, 500, 900)] == pytest.approx([1.0, 1.0, 0.6, 0.2, 0.2])
    assert LinearSchedule(start=1.0, end=0.0, begin_step=5, duration_steps=0).value(5) == 0.0


def test_event_schedules_by_hand():
    assert At(at=(0.25, 0.5)).steps(1_000) == (250, 500)
    assert Every(every=300).steps(1_000) == (300, 600, 900)
    assert Every(every=300, until=900).steps(1_000) == (300, 600)
    trigger = Trigger(probe="dormant_ratio", above=0.3, at_most_every=100)
    assert trigger.fires(0.4, step=100, last_event_step=0)
    assert not trigger.fires(0.4, step=99, last_event_step=0)
    assert not trigger.fires(0.3, step=500, last_event_step=0)
    assert not trigger.fires(math.nan, step=500, last_event_step=0)
    assert Trigger(probe="srank", below=0.0, at_most_every=1).fires(-1.0, 1, 0)
    assert schedule_to_dict(trigger)["when"]["above"] == 0.3


@pytest.mark.parametrize("at", [(0.0,), (1.0,), (0.5, 0.5), (0.6, 0.4), ()])
def test_impossible_fractions_are_refused(at):
    with pytest.raises(ValueError, match="at: "):
        At(at=at)


@pytest.mark.parametrize("value", [1.5, -0.0, math.nan, math.inf, -math.inf, 1e-300])
def test_records_survive_the_file_exactly(tmp_path, value):
    record = Record("t", 4, "a/b", value, 1_700_000_000.123456)
    writer = RecordWriter(tmp_path / "t.jsonl", 0)
    writer.write([record])
    writer.sync()
    writer.close()
    (found,) = read_records(tmp_path / "t.jsonl")
    assert repr(found) == repr(record)
    json.loads((tmp_path / "t.jsonl").read_text(), parse_constant=lambda name: pytest.fail(f"not JSON: {name}"))


def test_a_writer_cuts_back_to_the_last_commit(tmp_path):
    path = tmp_path / "t.jsonl"
    writer = RecordWriter(path, 0)
    writer.write([Record("t", 1, "x", 1.0, 0.0)])
    committed = writer.sync()
    writer.write([Record("t", 2, "x", 2.0, 0.0)])
    writer.sync()
    writer.write([Record("t", 3, "x", 2.0, 0.0)])
    writer.close()
    assert [record.value for record in read_records(path)] == [1.0, 2.0], "only what was synced is there"
    writer = RecordWriter(path, committed)
    writer.write([Record("t", 2, "x", 3.0, 0.0)])
    writer.sync()
    assert [record.value for record in read_records(path)] == [1.0, 3.0]


def test_a_torn_last_line_is_left_out_and_a_broken_one_is_named(tmp_path):
    path = tmp_path / "t.jsonl"
    whole = Record("t", 1, "x", 1.0, 0.0).to_json() + "\n"
    path.write_text(whole + whole[:10])
    assert len(list(read_records(path))) == 1
    path.write_text(whole + "{}\n" + whole)
    with pytest.raises(ValueError, match=r"t\.jsonl: line 2"):
        list(read_records(path))


@pytest.mark.parametrize("group", sorted(plugins.PACKAGES))
def test_every_plug_in_has_a_config_and_a_first_line(group):
    for name in plugins.names(group):
        assert plugins.load(group, name).Config
        assert len(plugins.summary(group, name)) > 20


def test_unknown_plug_ins_settings_and_presets_suggest_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'fire'"):
        plugins.load("treatments", "fir")
    with pytest.raises(ValueError, match="Did you mean 'iterations'"):
        plugins.config_from("treatments", "fire", {"iteration": 3})
    with pytest.raises(ValueError, match="Did you mean 'fire_paper_"):
        plugins.config_from("treatments", "fire", {}, preset="fire_paper")


def test_learning_core_imports_with_torch_and_numpy_alone():
    import subprocess
    import sys

    code = (
        "import sys\n"
        "import plasticbench.agents.dqn, plasticbench.learning.event, plasticbench.learning.treatments.fire\n"
        "heavy = {'ray', 'mlflow', 'envpool', 'gymnasium', 'pandas', 'pydantic', 'scipy', 'matplotlib', 'yaml'}\n"
        "sys.exit(', '.join(sorted(heavy & sys.modules.keys())) or 0)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_uniform_blocks_go_on_in_the_middle():
    from plasticbench.agents._uniforms import MemberUniforms

    streams = [Streams(0), Streams(1)]
    uniforms = MemberUniforms(streams, "x", (3,))
    for _ in range(70):
        uniforms.draw()
    state, saved = uniforms.state_dict(), [one.state_dict() for one in streams]
    fork_streams = [Streams(9), Streams(9), Streams(9)]
    fork = MemberUniforms(fork_streams, "x", (3,))
    fork.load_state_dict(json.loads(json.dumps(state)), [1, 0, 1])
    for one, parent in zip(fork_streams, [1, 0, 1], strict=True):
        one.load_state_dict(saved[parent])
    for _ in range(130):
        np.testing.assert_array_equal(fork.draw(), uniforms.draw()[[1, 0, 1]])
