"""Names in any script become parts of paths; names of other libraries are answered with ours."""

from __future__ import annotations

import pytest
from small_runs import small

from plasticbench.platform.definition.names import MAX_NAME_CHARACTERS, folder_name, slug
from plasticbench.platform.definition.reading import BenchmarkError, from_dict
from plasticbench.platform.planning.plan import make_plan


@pytest.mark.parametrize(
    ("name", "in_ids", "as_folder"),
    [
        ("A_b C", "a-b-c", "A_b-C"),
        ("fire 2.5", "fire-2.5", "fire-2.5"),
        ("naïve Größe", "naive-grosse", "naive-Grosse"),
        ("\u03b1\u03b2", "alphabeta", "alphabeta"),
        ("\u0416", "zhe", "ZHE"),
        ("\u4e2d\u6587", "4e2d6587", "4e2d6587"),
        ("\ud55c", "han", "han"),
        ("x\u00b2", "x2", "x2"),
        ("!", "", "-"),
    ],
)
def test_letters_of_any_script_are_letters(name: str, in_ids: str, as_folder: str) -> None:
    assert (slug(name), folder_name(name)) == (in_ids, as_folder)


def test_methods_in_other_scripts_have_trials_of_their_own() -> None:
    methods = {"\u03b1": {"kind": "none"}, "\u03b2": {"kind": "fire"}, "\u4e2d": {"kind": "full_reset"}}
    trials = make_plan(from_dict(small(methods=methods))).trials
    assert {trial.id.split("--")[1] for trial in trials} == {"alpha", "beta", "4e2d"}


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"name": "n" * 101}, "name"),
        ({"methods": {"m" * 101: {"kind": "fire"}}}, f"methods.{'m' * 101}"),
        ({"environments": [{"kind": "classic", "task": "CartPole-v1", "name": "\u03b1" * 21}]}, "environments.0.name"),
    ],
)
def test_a_name_too_long_for_a_file_is_a_problem_of_the_benchmark_file(changes: dict[str, object], key: str) -> None:
    with pytest.raises(BenchmarkError, match=rf"{key}: is part of the names of files, so it may have 100 characters"):
        from_dict(small(**changes))


def test_the_longest_names_are_files(tmp_path) -> None:
    longest = "x" * MAX_NAME_CHARACTERS
    environment = {"kind": "classic", "task": "CartPole-v1", "name": longest}
    methods = {"none": {"kind": "none"}, longest: {"kind": "fire", "agent": {"discount": 0.5}}}
    data = small(environments=[environment], methods=methods, seeds=[2**62], budget_steps=10_000_000)
    plan = make_plan(from_dict(data))
    for trial in plan.trials:
        (tmp_path / f"{trial.id}.safetensors.new").touch()
    for segment in plan.segments:
        (tmp_path / segment.id).mkdir()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"agent": {"kind": "dqn", "lr": 1e-3}},
            "agent.lr: there is no such setting. Here it is called 'learning_rate'.",
        ),
        (
            {"agent": {"kind": "dqn", "gamma": 0.9}},
            "agent.gamma: there is no such setting. Here it is called 'discount'.",
        ),
        (
            {"agent": {"kind": "dqn", "tau": 0.1}},
            "agent.tau: there is no such setting. Here it is called 'target_tau'.",
        ),
        ({"agent": {"kind": "dqn", "buffer_size": 9}}, "Here it is called 'capacity_transitions'."),
        (
            {"methods": {"fire": {"kind": "fire", "resets": {"at": [0.3]}}}},
            "methods.fire.resets: there is no such setting. The top of the file has 'resets', for all methods;",
        ),
        ({"agent": {"kind": "dqn", "batch_size": 9}}, "Here it is called 'batch_rows'."),
        ({"agent": {"kind": "dqn", "learning_starts": 9}}, "Here it is called 'learning_starts_steps'."),
        ({"agent": {"kind": "dqn", "train_freq": 9}}, "Here it is called 'update_period_steps'."),
        (
            {"agent": {"kind": "dqn", "total_timesteps": 9}},
            "Here it is budget_steps (agent steps), at the top of the file.",
        ),
        ({"total_timesteps": 1_000}, "total_timesteps: there is no such setting. Here it is called 'budget_steps'."),
        ({"lr": 1e-3}, "lr: there is no such setting. Here it is agent.learning_rate."),
        ({"sead": 3}, "sead: there is no such setting. Did you mean 'seeds'?"),
    ],
)
def test_names_of_other_libraries_are_answered_with_ours(changes: dict[str, object], line: str) -> None:
    with pytest.raises(BenchmarkError) as caught:
        from_dict(small(**changes))
    assert line in str(caught.value)
