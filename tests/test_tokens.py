"""Language models on texts: what is read, what a mixture is, what is measured, and what is told of texts amiss."""

import math

import numpy as np
import pytest
import torch
from small_runs import facts, prepare, run_all
from small_streams import small_stream

from plasticbench.envs import tokens
from plasticbench.envs._corpus import corpora
from plasticbench.envs._windows import TokenPhase
from plasticbench.platform.definition.reading import BenchmarkError, from_dict
from plasticbench.platform.training.segment import SegmentRun

GPT = {"kind": "gpt", "width": 16, "num_blocks": 1, "num_heads": 2, "dropout": 0.1}


@pytest.fixture
def texts(tmp_path):
    paths = [tmp_path / "abc.txt", tmp_path / "vowels.txt"]
    paths[0].write_text("abcdefgh" * 60)
    paths[1].write_text("aeiou, uoiea. " * 40)
    return [str(path) for path in paths]


def data(texts, **changes):
    task = {"kind": "tokens", "corpora": texts, "mixtures": [[1, 0], [0.1, 0.9]], "context": 8}
    learner = {"kind": "classifier", "network": GPT, "batch_rows": 6, "accumulate": 2, "learning_rate": 0.01}
    return small_stream(environments=[task], learner=learner, **changes)


def phase(texts, weights, seeds=(0, 1), rows=64):
    found, _ = corpora(tuple(texts), 8)
    return TokenPhase(found, weights, 8, seeds, 0, rows, torch.device("cpu"))


def test_characters_are_tokens_of_one_vocabulary_and_the_last_tenth_is_validation(texts) -> None:
    (first, second), size = corpora(tuple(texts), 8)
    assert size == len(set("abcdefgh" + "aeiou, ."))
    assert len(first.train) == 432
    assert len(first.validation) == 48
    assert first.train[0] == second.train[0], "an a is an a"


def test_token_files_are_read_as_nanogpt_writes_them(tmp_path) -> None:
    for name, count in (("train.bin", 50), ("val.bin", 20)):
        np.arange(count, dtype=np.uint16).tofile(tmp_path / name)
    (corpus,), size = corpora((str(tmp_path),), 8)
    assert size == 50
    assert corpus.validation.tolist() == list(range(20))


def test_labels_are_the_next_tokens_and_members_draw_apart_and_alike_again(texts) -> None:
    one = phase(texts, (1.0, 0.0)).batch(3)
    assert one.inputs.shape == one.labels.shape == (2, 64, 8)
    assert torch.equal(one.inputs[..., 1:], one.labels[..., :-1])
    assert torch.equal(one.inputs, phase(texts, (1.0, 0.0)).batch(3).inputs)
    assert not torch.equal(one.inputs[0], one.inputs[1])
    alone = phase(texts, (1.0, 0.0), seeds=(1,)).batch(3)
    assert torch.equal(alone.inputs[0], one.inputs[1])


def test_a_mixture_draws_in_proportion(texts) -> None:
    (first, _), _ = corpora(tuple(texts), 8)
    windows = phase(texts, (0.1, 0.9), rows=2_000).batch(0).inputs[0].numpy()
    only_first = set(first.train.tolist()) - set(corpora(tuple(texts), 8)[0][1].train.tolist())
    share = np.mean([bool(set(window) & only_first) for window in windows])
    assert 0.07 < share < 0.13


def test_the_validation_of_a_mixture_weighs_corpora_as_it_draws_them(texts) -> None:
    tests = phase(texts, (0.25, 0.75)).tests()
    assert set(tests) == {"test", "abc", "vowels"}
    sums = {name: sum(float(weights[0].sum()) for _, weights in pieces) for name, pieces in tests.items()}
    assert sums == pytest.approx(dict.fromkeys(tests, 1.0))
    assert sum(1 for _ in phase(texts, (1.0, 0.0)).tests()["test"]) == 1


def test_a_language_model_learns_and_goes_on_after_an_interruption(texts, tmp_path) -> None:
    whole, plan = run_all(tmp_path / "whole", data(texts)), prepare(tmp_path / "cut", data(texts))
    for segment in plan.segments:
        steps = iter(range(17))
        SegmentRun(tmp_path / "cut", segment.id).run(lambda left=steps: next(left, None) is None)
        assert SegmentRun(tmp_path / "cut", segment.id).run()
    found = facts(tmp_path / "whole", whole)
    assert facts(tmp_path / "cut", plan) == found
    own = {(step, name): float(value) for step, name, value in found["none", 0]}
    guess = math.log(14)
    assert own[40, "eval/test_loss"] < 0.5 * guess
    assert own[40, "eval/score"] == pytest.approx(1 - own[40, "eval/test_loss"] / guess)
    assert own[80, "eval/vowels_loss"] < own[40, "eval/vowels_loss"]
    assert "eval/train_accuracy" not in {name for _, name in own}


@pytest.mark.slow
def test_pieces_of_a_batch_are_the_batch(texts, tmp_path) -> None:
    losses = []
    for pieces in (1, 3):
        changed = data(texts, budget_updates=20, evaluation={"every_updates": 10}, methods={"none": {"kind": "none"}})
        changed["learner"] = changed["learner"] | {"accumulate": pieces, "network": GPT | {"dropout": 0.0}}
        found = facts(tmp_path / str(pieces), run_all(tmp_path / str(pieces), changed))["none", 0]
        losses.append([float(value) for _, name, value in found if name == "loss/cross_entropy"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"context": 60}, "abc has 48 validation tokens, which is shorter than one context of 60"),
        ({"vocabulary": 5}, "vocabulary: must hold all tokens of the corpora, 14, got 5"),
        ({"mixtures": [[1.0]]}, "mixtures: each needs a weight for each of the 2 corpora, not all 0, got [1.0]"),
        ({"lengths": [1.0]}, "lengths: needs one for each of the 2 phases, got [1.0]"),
        ({"corpora": ["nowhere"], "mixtures": None}, "nowhere/train.bin; expected is a text file, or a folder with"),
    ],
)
def test_texts_that_do_not_do_are_named(texts, task, message: str) -> None:
    changed = data(texts)
    changed["environments"] = [changed["environments"][0] | task]
    with pytest.raises(BenchmarkError) as caught:
        from_dict(changed)
    assert message in str(caught.value)


def test_networks_that_read_something_else_are_refused(texts) -> None:
    changed = data(texts)
    changed["learner"] = changed["learner"] | {"network": {"kind": "mlp"}}
    with pytest.raises(BenchmarkError, match=r"learner\.network: reads numbers, and 'abc_vowels' shows tokens"):
        from_dict(changed)
    with pytest.raises(
        BenchmarkError, match=r"learner\.network: reads tokens, and 'digits_random_labels' shows numbers"
    ):
        from_dict(small_stream(learner={"kind": "classifier", "network": GPT}))


def test_the_score_source_says_what_a_score_is(texts) -> None:
    assert "ln(vocabulary)" in tokens.Config(corpora=tuple(texts)).score_source
