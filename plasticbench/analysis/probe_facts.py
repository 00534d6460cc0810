"""What the probes measure, in words: titles, units, and which way is better, where there is one.

A probe that is not here, an installed one say, is shown under its own name, without a direction.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

Better = Literal["lower", "higher", ""]


class ProbeFacts(NamedTuple):
    """``better`` says which way is healthier; empty where no size is better in itself. ``low`` and ``high``: its range.

    ``phrase`` completes "X has the lowest ..."; ``is_share``: shown in percent; ``is_whole``: drawn over all its
    range.
    """

    title: str
    phrase: str
    hint: str = ""
    better: Better = ""
    low: float = -math.inf
    high: float = math.inf
    is_share: bool = False
    is_whole: bool = False

    @property
    def arrow(self) -> str:
        """Which way is better, as a sign."""
        return {"lower": "↓", "higher": "↑", "": ""}[self.better]

    @property
    def direction(self) -> str:
        """The same in words."""
        return f"{self.better} is better" if self.better else "no size is better in itself"

    @property
    def superlative(self) -> str:
        """Of the best value."""
        return {"lower": "lowest", "higher": "highest", "": ""}[self.better]

    @property
    def sign(self) -> int:
        """1 if higher is better, -1 if lower is, 0 if neither."""
        return {"lower": -1, "higher": 1, "": 0}[self.better]

    def text(self, value: float | None) -> str:
        """A value as people read it."""
        if value is None or not math.isfinite(value):
            return "–"  # noqa: RUF001
        shown = f"{100 * value:.1f}%" if self.is_share else short_number(value)
        return shown.replace("-", "\N{MINUS SIGN}")


def short_number(value: float) -> str:
    """Three significant digits, whole thousands with commas, an exponent from a million on."""
    if not 1e3 <= abs(value) < 1e6:
        return f"{value:.3g}" if abs(value) < 1e6 else f"{value:.2e}"
    return f"{value:,.0f}"


_KNOWN = {
    "dormant_ratio": ProbeFacts(
        "Dormant units", "share of dormant units", "share of hidden units that hardly respond", "lower", 0.0, 1.0, True
    ),
    "srank": ProbeFacts(
        "Feature rank (srank)", "feature rank (srank)", "directions that carry 99% of the features", "higher", 0.0
    ),
    "effective_rank": ProbeFacts(
        "Effective rank", "effective rank of the features", "by the entropy of their singular values", "higher", 0.0
    ),
    "stable_rank": ProbeFacts(
        "Stable rank", "stable rank of the features", "squared Frobenius over squared spectral norm", "higher", 0.0
    ),
    "fraction_active": ProbeFacts(
        "Active units (FAU)",
        "share of active units",
        "share of hidden activations above zero",
        "higher",
        0.0,
        1.0,
        True,
    ),
    "zero_activation": ProbeFacts(
        "Zero activations", "share of zero activations", "share of hidden activations at zero", "lower", 0.0, 1.0, True
    ),
    "dfi": ProbeFacts(
        "Deviation from isometry (DfI)",
        "deviation from isometry",
        "squared, of each weight's Gram matrix",
        "lower",
        0.0,
    ),
    "weight_norm": ProbeFacts(
        "Weight norm", "weight norm", "of all weights; growth makes every step relatively smaller", "lower", 0.0
    ),
    "gradient_norm": ProbeFacts(
        "Gradient norm", "gradient norm", "of the agent's own loss; near zero nothing is learned", "", 0.0
    ),
    "update_ratio": ProbeFacts(
        "Update ratio", "update ratio", "size of an optimizer step relative to the weights", "", 0.0
    ),
    "feature_norm": ProbeFacts("Feature norm", "feature norm", "mean length of what enters the output layer", "", 0.0),
    "weight_distance": ProbeFacts(
        "Weight distance", "distance of the weights", "from their first initialisation", "", 0.0
    ),
    "trainability": ProbeFacts(
        "Trainability", "trainability", "a fresh network's error on random targets over a copy's own", "higher", 0.0
    ),
    "dead_units": ProbeFacts(
        "Dead units", "share of dead units", "share of hidden units that no row moves", "lower", 0.0, 1.0, True
    ),
    "gradient_dormancy": ProbeFacts(
        "Units without gradient",
        "share of units without gradient",
        "share of hidden units that learn next to nothing",
        "lower",
        0.0,
        1.0,
        True,
    ),
    "saturation": ProbeFacts(
        "Saturation", "share of saturated activations", "close to a bound of tanh", "lower", 0.0, 1.0, True
    ),
    "unit_entropy": ProbeFacts(
        "Unit entropy", "entropy of the units", "bits in whether a unit is on", "higher", 0.0, 1.0
    ),
    "pca_rank": ProbeFacts("PCA rank", "PCA rank of the features", "directions of 99% of their squares", "higher", 0.0),
    "feature_rank": ProbeFacts(
        "Feature rank (absolute)", "number of large feature directions", "singular values above 0.01", "higher", 0.0
    ),
    "ntk_rank": ProbeFacts(
        "Rank of the tangent kernel",
        "rank of the tangent kernel",
        "directions in which outputs can move",
        "higher",
        0.0,
    ),
    "ntk_condition": ProbeFacts(
        "Condition of the tangent kernel",
        "condition number of the tangent kernel",
        "of gradients of rows",
        "lower",
        1.0,
    ),
    "gradient_covariance_rank": ProbeFacts(
        "Rank of gradients' cosines", "rank of the gradients of single rows", "1 where all agree", "higher", 0.0
    ),
    "effective_learning_rate": ProbeFacts(
        "Effective learning rate", "effective learning rate", "over the norm of the weights", "", 0.0
    ),
    "singular_value_spread": ProbeFacts(
        "Spread of singular values", "spread of singular values", "of each weight, over their mean", "lower", 0.0
    ),
    "hessian_top": ProbeFacts(
        "Sharpness", "top eigenvalue of the Hessian", "largest curvature of the agent's own loss"
    ),
    "hessian_trace": ProbeFacts(
        "Hessian trace", "trace of the Hessian", "sum of the curvatures of the agent's own loss"
    ),
    "policy_churn": ProbeFacts("Policy churn", "policy churn", "change of the policy by one update", "", 0.0),
    "value_churn": ProbeFacts("Value churn", "value churn", "change of values by one update", "", 0.0),
    "co_adaptation": ProbeFacts("Co-adaptation (DR3)", "co-adaptation", "product of neighbouring states' features"),
    "overestimation": ProbeFacts("Overestimation", "overestimation", "values less the returns that followed"),
    "adam_health": ProbeFacts(
        "Idle parameters", "share of idle parameters", "whose gradients the optimizer has not seen", "lower", 0.0, 1.0
    ),
    "sfe": ProbeFacts("Squared Frobenius error", "squared Frobenius error", "how far a reset moved weights", "", 0.0),
}

MOST_TELLING = ("dormant_ratio", "srank", "gradient_norm", "dfi", "weight_norm", "update_ratio")
"""Kinds whose figures are shown at once; all others are folded away."""
KNOWN_KINDS = tuple(_KNOWN)


def kind_of(label: str) -> str:
    """The kind of a probe's label, which ends with those of its settings that differ from the defaults."""
    fitting = [kind for kind in _KNOWN if label == kind or label.startswith(f"{kind}_")]
    return max(fitting, key=len, default=label)


def facts_of(label: str) -> ProbeFacts:
    """What a probe of a record's name measures."""
    kind = kind_of(label)
    known = _KNOWN.get(kind, ProbeFacts(label.replace("_", " ").capitalize(), label.replace("_", " ")))
    settings = label[len(kind) :].strip("_").replace("_", ", ")
    return known._replace(title=f"{known.title}, {settings}") if settings else known


def order(label: str) -> tuple[int, str]:
    """Probes with a direction and the most telling ones first."""
    kinds = list(_KNOWN)
    kind = kind_of(label)
    return (kinds.index(kind) if kind in kinds else len(kinds), label)
