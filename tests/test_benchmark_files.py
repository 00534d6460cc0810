"""Benchmark files, and overrides on the command line."""

from __future__ import annotations

import pickle
import textwrap
from pathlib import Path

import pytest

from plasticbench.platform.definition.reading import BenchmarkError, load

CONFIGS = Path(__file__).parents[1] / "configs"


def write(folder: Path, text: str) -> Path:
    path = folder / "bench.yaml"
    path.write_text(textwrap.dedent(text))
    return path


YAML = """
    name: tiny
    environments: [{kind: classic, task: Acrobot-v1}]
    agent: {kind: dqn, learning_rate: 1e-4}
    methods: {none: {kind: none}}
    seeds: 2
    budget_steps: 10_000
    evaluation: {every_steps: 1_000, episodes: 5}
"""


def test_scientific_notation_without_a_point_is_a_number(tmp_path: Path) -> None:
    assert load(write(tmp_path, YAML)).method("none").agent_config.learning_rate == 1e-4


def test_overrides_reach_nested_settings_lists_and_absent_sections(tmp_path: Path) -> None:
    benchmark = load(
        write(tmp_path, YAML),
        [
            "environments.0.num_envs=2",
            "agent.network={kind: mlp, hidden: [8]}",
            "agent.network.hidden.0=16",
            "execution.num_cpus=2",
            "seeds=[7, 9]",
        ],
    )
    assert benchmark.environments[0].config.num_envs == 2
    assert benchmark.method("none").agent_config.network.hidden == (16,)
    assert benchmark.execution.num_cpus == 2
    assert benchmark.seeds == (7, 9)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seeds", "--set: must have the form dotted.key=value, got 'seeds'"),
        ("environments.1.num_envs=2", "environments is a list, so name an item 0 to 0, got '1'"),
        ("seeds.count=2", "seeds holds the single value 2"),
        ("agent.learning_rat=1", "agent.learning_rat: there is no such setting. Did you mean 'learning_rate'?"),
        ("seeds=[1", "not valid YAML"),
    ],
)
def test_an_override_that_points_nowhere_is_an_error(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(BenchmarkError) as caught:
        load(write(tmp_path, YAML), [override])
    assert message in str(caught.value)
    assert "bench.yaml" in str(caught.value)


def test_a_repeated_key_is_an_error_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"line 9, column 1: .*'seeds' stands here twice"):
        load(write(tmp_path, YAML + "    seeds: 3\n"))


def test_a_tag_that_would_run_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="not valid YAML"):
        load(write(tmp_path, "name: !!python/object/apply:os.getcwd []\n"))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(BenchmarkError, match=r"nowhere\.yaml: cannot be read"):
        load("nowhere.yaml")


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_shipped_benchmark_reaches_another_process_as_it_is(file: Path, graphics_library: None) -> None:
    benchmark = load(file)
    assert pickle.loads(pickle.dumps(benchmark)) == benchmark
