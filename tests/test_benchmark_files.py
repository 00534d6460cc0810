"""Benchmark files, and overrides on the command line."""

from __future__ import annotations

import pickle
import re
import textwrap
from pathlib import Path

import pytest
from shipped_files import smoke_overrides

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


def test_an_override_reaches_a_method_whose_name_has_dots(tmp_path: Path) -> None:
    dotted = "methods: {none: {kind: none}, none.v1: {kind: shrink_perturb, keep: 0.5, at: [0.5]}}"
    text = YAML.replace("methods: {none: {kind: none}}", dotted)
    benchmark = load(write(tmp_path, text), ["methods.none.v1.keep=0.25"])
    assert benchmark.method("none.v1").parts[0].chosen.config.keep == 0.25


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
    benchmark = load(file, smoke_overrides(file))
    assert pickle.loads(pickle.dumps(benchmark)) == benchmark


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "budget_steps: 0600",
            "line 1, column 15: not valid YAML: 0600 would be read in base 8: write it in quotes if it",
        ),
        ("seeds: [1, -017]", "line 1, column 12: not valid YAML: -017 would be read in base 8"),
        ("budget_steps: 1:30", "1:30 would be read in base 60: write it in quotes if it is text"),
    ],
)
def test_numbers_that_yaml_1_1_and_people_read_otherwise_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bench.yaml"
    path.write_text(text)
    with pytest.raises(BenchmarkError, match=re.escape(message)):
        load(path)


def test_whole_numbers_may_be_written_as_powers_of_ten(tmp_path: Path) -> None:
    text = (
        YAML.replace("10_000", "1e4")
        .replace("seeds: 2", "seeds: 2.0")
        .replace("kind: dqn", "kind: dqn, batch_rows: 3.2e1")
    )
    benchmark = load(write(tmp_path, text), ["agent.network={kind: mlp, hidden: [1.6e1, 8]}"])
    assert benchmark == load(write(tmp_path, YAML), ["agent.network={kind: mlp, hidden: [16, 8]}"])
    assert repr(benchmark.budget_steps) == "10000"
    with pytest.raises(BenchmarkError, match=r"seeds: must be a valid integer, got 2\.5"):
        load(write(tmp_path, YAML), ["seeds=2.5"])


def test_a_file_in_another_encoding_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "bench.yaml"
    path.write_bytes("name: x\ndescription: caf\u00e9\n".encode("latin-1"))
    with pytest.raises(
        BenchmarkError, match=r"line 2: holds the byte 0xe9, which is not UTF-8 .* Save the file as UTF-8"
    ):
        load(path)
    path.write_bytes(b"\xef\xbb\xbf" + textwrap.dedent(YAML).encode())
    assert load(path).name == "tiny"


def test_keys_that_start_with_x_hold_anchors(tmp_path: Path) -> None:
    text = "x-agents: {fast: &fast {kind: dqn, learning_rate: 0.1}}\n" + textwrap.dedent(YAML)
    assert (
        load(write(tmp_path, text.replace("{kind: dqn, learning_rate: 1e-4}", "*fast")))
        .method("none")
        .agent_config.learning_rate
        == 0.1
    )


@pytest.mark.parametrize("seeds", ["1000000000", "10001", "1e9"])
def test_a_count_of_seeds_that_no_machine_holds_is_refused_at_once(seeds: str, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="seeds: must be at most 10,000"):
        load(write(tmp_path, YAML), [f"seeds={seeds}"])
