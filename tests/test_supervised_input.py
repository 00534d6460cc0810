"""What can be got wrong in a file of a learner, and what people are told."""

# ruff: noqa: E501 (one case a line)

import pytest
from small_runs import small
from small_streams import small_stream

from plasticbench.platform.definition.reading import BenchmarkError, from_dict, from_resolved
from plasticbench.platform.planning.plan import make_plan

IMAGES = {"kind": "images", "stream": {"kind": "random_labels", "phases": 4}}


def learner(**changes):
    return small_stream()["learner"] | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [  
        ({"learner": learner(replay_ratio=1.0)}, "learner.replay_ratio: is a setting of agents in environments; "),
        ({"learner": learner(epsilon_start=1.0)}, "learner.epsilon_start: is a setting of agents in environments; "),
        ({"learner": learner(batch_size=8)}, "learner.batch_size: there is no such setting. Here it is called 'batch_rows'"),
        ({"learner": {"kind": "dqn"}}, "learner.kind: no learners plug-in is called 'dqn'"),
        ({"agent": {"kind": "dqn"}}, "agent: belongs to files of the other family, and this one trains learners of data"),
        ({"budget_steps": 40}, "budget_steps: belongs to files of the other family"),
        ({"budget_updates": 3, "evaluation": {"every_updates": 1}}, "stream.phases: each needs an update, and 4 phases do not"),
        ({"budget_updates": 0}, "budget_updates: must be at least 1 update, got 0"),
        ({"evaluation": {"every_steps": 20}}, "evaluation.every_steps: belongs to files of the other family"),
        ({"evaluation": {"every_updates": 500}}, "evaluation.every_updates: must be at most the budget of 80 updates"),
        ({"evaluation": {"every_updates": 20, "episodes": 3}}, "evaluation.episodes: there is no such setting"),
        ({"environments": [{"kind": "classic", "task": "CartPole-v1"}]}, "environments.0.kind: 'classic' is a task of the"),
        ({"environments": [IMAGES | {"scenario": {"kind": "stationary"}}]}, "environments.0.scenario: has no effect"),
        ({"environments": [IMAGES | {"step_timeout_s": 5.0}]}, "environments.0.step_timeout_s: has no effect: data are no"),
        ({"environments": [IMAGES | {"stream": {"kind": "random_labels", "samples": 9_999}}]}, "samples: must be at most"),
        ({"environments": [IMAGES | {"stream": {"kind": "random_label"}}]}, "Did you mean 'random_labels'?"),
        ({"environments": [{"kind": "images"}]}, "never changes, so there are no boundaries"),
        ({"resets": {"at": "boundary"}}, "resets.at"),
        ({"learner": learner(network={"kind": "nature_cnn"})}, "learner: does not fit 'digits_random_labels'"),
        ({"learner": learner(optimizer={"kind": "adam", "learning_rate": 0.1})}, "learner.optimizer.learning_rate"),
        ({"learner": learner(warm_up_max_updates=5)}, "learner.warm_up_max_updates: this setting has no effect"),
        ({"pictures": {}}, "pictures: every environment must be of a kind that can be drawn"),
    ],
)  # fmt: skip
def test_one_clear_message(changes: dict, message: str) -> None:
    with pytest.raises(BenchmarkError) as caught:
        from_dict(small_stream(**changes))
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2, caught.value


def test_data_in_a_file_of_an_agent_are_refused() -> None:
    with pytest.raises(BenchmarkError, match=r"environments\.0\.kind: 'images' is a task of the other family"):
        from_dict(small(environments=[IMAGES]))
    with pytest.raises(BenchmarkError, match="agent: belongs to files of the other family"):
        from_dict(small(learner={"kind": "classifier"}))


def test_a_file_reads_back_as_it_was_resolved() -> None:
    benchmark = from_dict(small_stream())
    resolved = benchmark.resolved()
    assert {"learner", "budget_updates"} <= resolved.keys()
    assert resolved["evaluation"] == {"every_updates": 20}
    assert from_resolved(resolved, "again").resolved() == resolved
    assert make_plan(from_resolved(resolved, "again")).trials == make_plan(benchmark).trials


def test_what_set_says_is_told_from_what_the_file_says() -> None:
    from plasticbench.platform.definition.effects import Given

    given = Given({"agent": {"warm_up_max_updates": 3}}, ["agent.warm_up_max_updates=3"])
    assert given.is_override("agent.warm_up_max_updates")


def test_resets_at_boundaries_follow_a_scenario_as_well() -> None:
    benchmark = from_dict(small(resets={"at": "boundaries"}))
    assert {trial.reset_steps for trial in make_plan(benchmark).trials if trial.method == "fire"} == {(200,)}
