"""A learner in phases of data: what an update does, what is measured, and what forks and interruptions leave equal."""

import numpy as np
import pytest
import torch
from contract import KINDS, NEEDS
from small_runs import facts, prepare, run_all
from small_streams import course, go, small_stream, stream
from treated import part

from plasticbench.agents.learners import classifier
from plasticbench.analysis.report import write_report
from plasticbench.contracts.supervised import PhaseClock
from plasticbench.contracts.treatment import hooks_of
from plasticbench.envs.datasets import digits
from plasticbench.learning.networks import mlp
from plasticbench.platform.training.segment import SegmentRun
from plasticbench.seeding import derive_generator


def plain_network(one, member):
    """An ordinary module with the weights of a member."""
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 12), torch.nn.ReLU(), torch.nn.Linear(12, 10))
    own = {name: value[member].detach().clone() for name, value in one.learner.classifier.online.parameters.items()}
    module.load_state_dict({f"{1 + 2 * i}.{k}": own[f"fc{i + 1}.{k}"] for i in range(2) for k in ("weight", "bias")})
    return module


def plain_rows(seed, phase, update, rows, batch_rows):
    """The rows of an update, pass after pass, as the page on supervised tracks says."""
    found = []
    for place in range(update * batch_rows, (update + 1) * batch_rows):
        number, within = divmod(place, len(rows))
        found.append(rows[derive_generator(seed, "pass", phase, number).permutation(len(rows))[within]])
    return found


def test_members_train_as_a_plain_loop_would_with_warm_up_clipping_and_a_new_optimizer_each_phase() -> None:
    settings = classifier.Config(
        network=mlp.Config(hidden=(12,), initializer="torch_default"),
        batch_rows=7,
        learning_rate=1e-2,
        max_gradient_norm=0.5,
        warm_up_fraction=0.3,
        final_rate_fraction=0.1,
        optimizer_at_phases="reset",
    )
    one = course("permuted_inputs", phases=2, samples=20, budget=20, learner=settings)
    modules = [plain_network(one, member) for member in range(2)]
    go(one, 0, 20)
    data = digits.Config().load()
    pictures = torch.from_numpy(data.images).float() / 255
    pictures = (pictures - data.mean[0]) / data.std[0]
    for seed, module in enumerate(modules):
        for phase in range(2):
            met = stream("permuted_inputs", phases=2, samples=20).phase(data, seed, phase)
            optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
            for update in range(10):
                rate = (update + 1) / 3 if update < 3 else 0.1 + 0.45 * (1 + np.cos(np.pi * (update - 3) / 6))
                optimizer.param_groups[0]["lr"] = 1e-2 * rate
                rows = plain_rows(seed, phase, update, met.train.rows, 7)
                x = pictures[rows].flatten(1)
                x = x if met.permutation is None else x[:, met.permutation]
                loss = torch.nn.functional.cross_entropy(module(x), torch.from_numpy(data.labels[rows]))
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(module.parameters(), 0.5)
                optimizer.step()
        for ours, theirs in zip(plain_network(one, seed).parameters(), module.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_every_row_is_read_once_a_pass() -> None:
    one = course(phases=2, samples=24, budget=30)
    one.set_phase(0, 0)
    read = np.concatenate([one.entered.passes.places(update) for update in range(6)], axis=1)
    for member in range(2):
        assert sorted(read[member, :24]) == sorted(read[member, 24:]) == list(range(24))
    assert read[0].tolist() != read[1].tolist()


def test_accuracies_by_hand() -> None:
    one = course(phases=3, samples=16, budget=12)
    told = []
    for step in range(12):
        one.set_phase(sum(change <= step for change in one.change_steps), step)
        (metrics,) = one.advance(step)
        told.append(metrics["online/accuracy"].numpy())
        if step == 5:
            assert one.evaluate(6, 1)["eval/score"] == pytest.approx(np.mean(told[4:6], axis=0))
    found = one.evaluate(12, 2)
    assert found["eval/score"] == pytest.approx(np.mean(told[8:], axis=0))
    assert found["eval/stream_accuracy"] == pytest.approx(np.mean(told, axis=0))
    assert found["eval/area"] == pytest.approx((np.mean(told[4:6], axis=0) + np.mean(told[8:], axis=0)) / 2)
    batch = one.entered.feed.at(np.tile(np.arange(16), (2, 1)))
    with torch.no_grad():
        logits = one.learner.classifier.online.forward(batch.inputs)
    assert found["eval/train_accuracy"] == pytest.approx((logits.argmax(-1) == batch.labels).float().mean(1).numpy())


def test_what_was_learned_before_is_forgotten_and_how_much_is_said() -> None:
    one = course("class_incremental", phases=5, rows="new", budget=200)
    at_end = {}
    for phase, end in enumerate((40, 80)):
        go(one, end - 40, end)
        at_end[phase] = one.evaluate(end, phase)
    assert at_end[0]["eval/test_accuracy"].min() > 0.9
    assert "eval/forgetting" not in at_end[0]
    assert at_end[1]["eval/forgetting"].min() > 0.5
    assert at_end[1]["eval/all_classes_accuracy"].max() < 0.4


def test_a_member_learns_the_same_alone_and_in_company() -> None:
    together, alone = course(seeds=(0, 1, 2), phases=2, samples=40), course(seeds=(1,), phases=2, samples=40)
    for one in (together, alone):
        go(one, 0, 20)
    ours, theirs = (one.learner.classifier.online.parameters for one in (together, alone))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name][1], value[0], rtol=1e-5, atol=1e-5)


def test_a_rate_factor_is_a_learning_rate() -> None:
    slow, scaled = (
        course(phases=2, learner=classifier.Config(learning_rate=rate, final_rate_fraction=1.0))
        for rate in (5e-4, 1e-3)
    )
    for one in (slow, scaled):
        one.set_phase(0, 0)
        batch = one.entered.batch(0)
        loss = classifier.cross_entropy(one.learner.classifier.forward(batch.inputs), batch.labels).mean(1)
        one.learner.classifier.descend(loss, 1, 0.5 if one is scaled else 1.0)
    ours, theirs = (one.learner.classifier.online.flat for one in (slow, scaled))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


def test_the_rate_of_a_language_model_by_hand() -> None:
    settings = classifier.Config(warm_up_fraction=0.1, warm_up_max_updates=5, final_rate_fraction=0.1)
    rates = [settings.rate_factor(PhaseClock(update, 105)) for update in (0, 4, 5, 104)]
    assert rates == pytest.approx([0.2, 1.0, 1.0, 0.1])


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_acts_on_a_learner(kind: str) -> None:
    own = [*(part(structure) for structure in NEEDS.get(kind, ())), part(kind)]
    one = course(seeds=(0,), phases=2, samples=40, budget=12, parts=[own])
    for step in range(12):
        one.set_phase(sum(change <= step for change in one.change_steps), step)
        if step == 6 and own[-1].family == "treatments" and "event" in hooks_of(own[-1].config.build()):
            batch = one.learner.probe_batch(np.full((1, 32), 0.5))
            one.learner.treat([0], len(own) - 1, step, batch)
        for metrics in one.advance(step):
            assert np.isfinite(metrics["loss/cross_entropy"].numpy()).all()
    one.learner.check_finite()
    assert not one.learner.not_finite


def test_a_run_that_was_interrupted_at_any_update_shows_what_an_undisturbed_one_does(tmp_path) -> None:
    whole = run_all(tmp_path / "whole", small_stream())
    plan = prepare(tmp_path / "cut", small_stream())
    for segment in plan.segments:
        for stop_after in (1, 7, 20, 33):
            steps = iter(range(stop_after))
            if SegmentRun(tmp_path / "cut", segment.id).run(lambda left=steps: next(left, None) is None):
                break
        assert SegmentRun(tmp_path / "cut", segment.id).run()
    assert facts(tmp_path / "cut", plan) == facts(tmp_path / "whole", whole)


def test_methods_share_the_first_phase_and_an_unforked_trial_shows_the_same(tmp_path) -> None:
    together = run_all(tmp_path / "together", small_stream())
    assert [segment.to_step for segment in together.segments] == [20, 80]
    assert {trial.reset_steps for trial in together.trials if trial.method == "fire"} == {(20, 40, 60)}
    alone = run_all(tmp_path / "alone", small_stream(methods={"fire": {"kind": "fire"}}))
    ours, theirs = facts(tmp_path / "together", together), facts(tmp_path / "alone", alone)
    for seed in range(2):
        assert len(ours["fire", seed]) == len(theirs["fire", seed])
        for (step, name, value), (step_alone, name_alone, other) in zip(
            ours["fire", seed], theirs["fire", seed], strict=True
        ):
            assert (step, name) == (step_alone, name_alone)
            assert float(value) == pytest.approx(float(other), rel=1e-3, abs=2e-2)


def test_a_reset_is_seen_in_what_is_learned(tmp_path) -> None:
    plan = run_all(tmp_path, small_stream())
    found = facts(tmp_path, plan)
    norms = {
        method: [float(value) for step, name, value in found[method, 0] if name == "plasticity/online/weight_norm"]
        for method in ("none", "full_reset")
    }
    assert norms["none"][-1] > norms["full_reset"][-1]
    names = {name for _, name, _ in found["fire", 0]}
    assert {"eval/score", "eval/online_accuracy", "eval/stream_accuracy", "loss/cross_entropy"} <= names
    assert any(name.startswith("reset/classifier/") for name in names) or any("reset/after" in name for name in names)


def test_the_report_counts_updates_and_speaks_of_no_steps_of_agents(tmp_path) -> None:
    run_all(tmp_path, small_stream())
    text = write_report(tmp_path).read_text()
    assert "agent step" not in text.lower()
    assert "<dt>Updates per trial</dt>" in text
    assert text.count("updates") > 10
