"""What the curves of a report show beside probes, in words, and how scores and returns belong together."""

from __future__ import annotations

import numpy as np
import pandas as pd

from plasticbench.analysis.probe_facts import ProbeFacts

_KNOWN = {
    "eval/score": ProbeFacts("Score", "score", "normalised return: 0 and 1 are the reference returns", "higher"),
    "eval/return": ProbeFacts("Return", "return", "mean over the episodes of an evaluation", "higher"),
    "train/return": ProbeFacts("Training return", "training return", "of episodes with exploration", "higher"),
    "q/mean": ProbeFacts("Mean value", "mean value", "mean of the values in an update's batch"),
    "q/bound_ratio": ProbeFacts(
        "Values over their bound", "values over their bound", "above 2 in ten records running: diverged", "", 0.0
    ),
    "eval/forgetting": ProbeFacts(
        "Forgetting", "forgetting", "how much less of earlier phases is told right than where each ended", "lower"
    ),
    "eval/area": ProbeFacts("Area", "area", "mean of the scores so far", "higher"),
    **{
        name: ProbeFacts(title, title.lower(), hint, "higher", 0.0, 1.0, is_whole=True)
        for name, (title, hint) in {
            "online/accuracy": ("Online accuracy", "of the batches of updates, before them"),
            "eval/online_accuracy": ("Online accuracy of the phase", "before updates, mean over the phase so far"),
            "eval/stream_accuracy": ("Online accuracy of the stream", "before updates, mean over all so far"),
            "eval/train_accuracy": ("Training accuracy", "on rows of the phase: what is known by heart"),
            "eval/test_accuracy": ("Test accuracy", "on the test rows of the phase"),
            "eval/all_classes_accuracy": ("Accuracy on all classes", "on the whole test set"),
            "eval/seen_classes_accuracy": ("Accuracy on seen classes", "on the test rows of classes seen so far"),
        }.items()
    },
}


def quantity(name: str) -> ProbeFacts:
    """What records of a name tell; a loss, or whatever is not known, under its own name."""
    group, _, rest = name.partition("/")
    if group == "loss":
        return ProbeFacts(f"Loss, {rest.replace('_', ' ')}", "loss", "of the updates; its size compares with nothing")
    return _KNOWN.get(name, ProbeFacts(name, name))


def return_scale(table: pd.DataFrame) -> tuple[float, float] | None:
    """The returns that scores 0 and 1 stand for, from the records of one task.

    ``None`` where scores are no linear function of returns, as where an evaluation counts as the reference low.
    """
    keys = ["method", "seed", "step"]
    pairs = [table[table["name"] == name].drop_duplicates(keys, keep="last") for name in ("eval/score", "eval/return")]
    both = pairs[0].merge(pairs[1], on=keys, suffixes=("_score", "_return"))
    score, returned = both["value_score"].to_numpy(), both["value_return"].to_numpy()
    known = np.isfinite(score) & np.isfinite(returned)
    score, returned = score[known], returned[known]
    if len(score) < 2 or np.ptp(score) == 0.0:
        return None
    first, last = int(score.argmin()), int(score.argmax())
    slope = (returned[last] - returned[first]) / (score[last] - score[first])
    zero = float(returned[first] - slope * score[first])
    if not np.allclose(zero + slope * score, returned, rtol=1e-6, atol=1e-6 * float(np.abs(returned).max())):
        return None
    return zero, zero + float(slope)
