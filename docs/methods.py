"""Writes docs/methods.md from the kinds' own files; with ``--check`` it only says whether that is due."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from plasticbench import plugins
from plasticbench.contracts.treatment import FAMILIES
from plasticbench.platform import explain

PAGE = Path(__file__).with_name("methods.md")
INTRODUCTION = """\
# Methods

What keeps networks plastic here, read from the files of the kinds themselves by `make docs`; `make check` says when
that is due. `plasticbench explain KIND` prints everything about one, and [settings.md](settings.md) holds all their
settings. A method combines parts as it likes: README, section "A benchmark file".
"""
FAMILY_WORDS = {
    "treatments": "Treatments act on networks while they are trained.",
    "structures": "Structures change how networks are built.",
    "optimizers": "Optimizers take the place of the agent's own.",
}
COST_WORDS = """\
## What an update costs

What acts at every update takes at most one and a half times as long as `none`, DQN with batches of 32 on one thread,
which is as small as updates get (`python -m benchmarks.treatments`; figures: [benchmarks.md](benchmarks.md)). These
take longer, and why:
"""
TAXONOMY_WORDS = """\
## The survey's taxonomy

Klein et al., *Plasticity Loss in Deep Reinforcement Learning: A Survey* (arXiv 2411.04832), sort what was proposed by
how it acts. Categories and papers are those of the list that its authors publish beside it, the last category aside,
which holds what it does not list. Here: which kinds do it, or why there is none.
"""


class Strategy(NamedTuple):
    """A row of the taxonomy: kinds or networks that do it, with a note, or why there is none."""

    name: str
    paper: str
    kinds: Sequence[str] = ()
    note: str = ""
    why_not: str = "not written yet"


TAXONOMY: dict[str, list[Strategy]] = {
    "Weight resets, non-targeted": [
        Strategy("Resets against the primacy bias", "2205.07802", ["full_reset", "last_layers"]),
        Strategy(
            "Resets at high replay ratios (SR-SAC, SR-SPR)",
            "ICLR 2023",
            ["full_reset", "shrink_perturb"],
            "presets `sr_sac` and `sr_spr`",
        ),
        Strategy("DrM", "2310.19668", ["drm"], "without its exploration"),
    ],
    "Weight resets, targeted": [
        Strategy("Continual backprop", "2306.13812", ["continual_backprop"]),
        Strategy("ReDo", "2302.12902", ["redo"]),
        Strategy("Utility-based perturbed gradient descent", "2404.00781", ["upgd"]),
        Strategy("Plasticity injection", "2305.15555", ["plasticity_injection"]),
    ],
    "Parameter regularisation": [
        Strategy("Regenerative regularisation (L2 Init)", "2308.11958", ["l2_init"]),
        Strategy(
            "Spectral normalisation",
            "2105.05246, 2106.01151",
            ["spectral_reparameterisation"],
        ),
        Strategy("Weight clipping", "2407.01704", ["weight_clipping"]),
        Strategy("Wasserstein distance to the initialisation", "2312.00246", ["wasserstein_init"]),
        Strategy("Spectral regularisation", "2406.06811", ["spectral"]),
    ],
    "Feature rank regularisation": [
        Strategy(
            "Penalty of the features' singular values",
            "2010.14498",
            why_not="would factorise features at each update; `feature_decorrelation` is the cheaper relative",
        ),
        Strategy("InFeR", "2204.09560", ["infer"]),
        Strategy("DR3", "2112.04716", ["dr3"]),
        Strategy("A study of implicit regularisation offline", "2207.02099", why_not="a study, of offline learning"),
        Strategy("BEER", "2404.12754", why_not="its bound is about the agent's value target, which no treatment sees"),
    ],
    "Activation functions": [
        Strategy("Parametric activations", "IEEE SMC 2019", ["adalin"]),
        Strategy("Concatenated ReLU", "2303.07507", ["crelu"]),
        Strategy("Adaptive rational activations", "2102.09407", why_not="`adalin` learns slopes, and nothing more"),
        Strategy("Hadamard representations", "2406.09079", why_not="a layer would need two weights for one output"),
        Strategy("Deep Fourier features", "2410.20634", ["deep_fourier"]),
    ],
    "Categorical losses": [
        Strategy("Histogram losses", "ICML 2018", why_not="a loss of the agent; those here regress scalars"),
        Strategy("Classification in place of regression", "2403.03950", why_not="as above"),
    ],
    "Distillation": [
        Strategy("ITER", "2006.05826", why_not="the student is trained beside the agent, by a loss of its own"),
        Strategy("Hare and tortoise", "2406.02596", ["hare_tortoise"]),
    ],
    "Architectures": [
        Strategy("BRO", "2405.16158", ["full_reset"], "preset `bro`, with `layer_norm` and `adamw`"),
        Strategy("SimBa", "2410.09754", ["simba"], "a network"),
        Strategy("Gradual pruning", "2402.12479", why_not="no mask over weights lasts between updates"),
        Strategy(
            "Neuroplastic expansion", "2410.07994", why_not="members of a population share the shapes of their weights"
        ),
        Strategy("Mixtures of experts", "2402.08609", why_not="no network routes its inputs"),
    ],
    "Other approaches": [
        Strategy(
            "Normalised features against saturated actions",
            "2110.11222",
            why_not="no structure normalises what an output layer reads and nothing else",
        ),
        Strategy("Optimizer resets", "2306.17833", ["optimizer_reset"]),
        Strategy("Adaptive replay ratio", "2310.07418", note="`adaptive_ratio`, a setting of `dqn` and `sac`"),
        Strategy("Sharpness-aware minimisation", "2010.01412", why_not="needs a second gradient at other weights"),
        Strategy(
            "Discrete representations", "2312.01203", why_not="needs a codebook that is trained by a loss of its own"
        ),
        Strategy(
            "A study of on-policy learning", "2405.19153", ["soft_shrink_perturb", "l2_init", "l2", "wasserstein_init"]
        ),
    ],
    "Combined methods": [
        Strategy(
            "PLASTIC", "2306.10711", ["layer_norm", "crelu", "last_layers"], "without sharpness-aware minimisation"
        ),
        Strategy("BBF", "2305.19452", ["shrink_perturb", "adamw"], "preset `bbf`"),
        Strategy("Regularised actor-critics", "2403.00514", ["layer_norm", "adamw", "full_reset"]),
        Strategy("LayerNorm with weight decay", "2402.18762", ["layer_norm", "l2"]),
        Strategy("Normalize-and-Project", "2407.01800", ["layer_norm", "nap"]),
        Strategy(
            "LayerNorm, weight decay, categorical loss", "2303.01486", ["layer_norm", "adamw"], "without that loss"
        ),
    ],
    "Not in the list": [
        Strategy("Selective weight reinitialisation", "2508.00212", ["selective_weight_reinit"]),
        Strategy("FIRE", "2602.08040", ["fire"]),
        Strategy("AltNet", "2512.01034", ["altnet"]),
        Strategy("AdamO", "2606.09762", ["adamo"]),
        Strategy("Interval-wise dropout", "2502.01342", ["aid"]),
        Strategy("Adaptive linearity", "2505.09486", ["adalin"]),
        Strategy(
            "CrossQ with weight normalisation",
            "2502.07523",
            ["batch_norm", "weight_projection"],
            "preset `crossq_wn`; with targets, and without passes of two batches at once",
        ),
        Strategy("SimBa v2", "2502.15280", ["simbav2"], "a network; without its categorical critic and scaled rewards"),
        Strategy("Truncated geometric replay", "2605.10236", note="`replay: {kind: recency}` of `dqn` and `sac`"),
        Strategy(
            "Sample weight decay",
            "2604.01913",
            note="`replay: {kind: age_weighted}` of `dqn` and `sac`, by a formula of ours, as theirs could not be read",
        ),
        Strategy("Module-specific training", "2510.12096", why_not="no mask over weights lasts between updates"),
        Strategy("SPHERE", "2605.04712", why_not="no network has experts"),
        Strategy(
            "Fast and slow successor features", "2605.26357", why_not="agents learn values, no successor features"
        ),
        Strategy("FlashSAC", "2604.04539", why_not="its formulas could not be looked up"),
    ],
}


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for family in FAMILIES:
        rows = [_row(kind) for kind in explain.kinds([family])]
        heads = f"{family.capitalize()}\n\n{FAMILY_WORDS[family]} Here are {len(rows)}.\n"
        parts.append(
            f"## {heads}\n| kind | what it does | source | acts at | presets |\n| --- | --- | --- | --- | --- |"
        )
        parts.append("\n".join(rows) + "\n")
    return "\n".join([*parts, COST_WORDS, *_costs(), TAXONOMY_WORDS, *_taxonomy()])


def _costs() -> Iterator[str]:
    yield "| kind | an update takes |\n| --- | --- |"
    for kind in explain.kinds():
        if costs := getattr(plugins.load(kind.family, kind.name), "COSTS", ""):
            yield f"| `{kind.name}` | {costs} |"
    yield ""


def _row(kind: explain.Kind) -> str:
    presets = ", ".join(f"`{name}`" for name in kind.presets if name != "clean")
    cells = [f"`{kind.name}`", kind.summary, kind.citation, ", ".join(kind.hooks), presets]
    return f"| {' | '.join(cell.replace('``', '`').replace('|', chr(92) + '|') for cell in cells)} |"


def _taxonomy() -> Iterator[str]:
    known = {kind.name for kind in explain.kinds()} | set(plugins.names("networks"))
    yield "| category | strategy | paper | here |\n| --- | --- | --- | --- |"
    for category, strategies in TAXONOMY.items():
        for strategy in strategies:
            yield f"| {category} | {strategy.name} | {_paper(strategy.paper)} | {_here(strategy, known)} |"
    named = {kind for strategies in TAXONOMY.values() for strategy in strategies for kind in strategy.kinds}
    others = ", ".join(f"`{kind.name}`" for kind in explain.kinds() if kind.name not in named | {"none"})
    yield f"\nKinds that no row has: {others}."


def _paper(paper: str) -> str:
    return f"arXiv {paper}" if paper[:4].isdigit() else paper


def _here(strategy: Strategy, known: set[str]) -> str:
    if found := [f"`{kind}`" for kind in strategy.kinds if kind in known]:
        return ", ".join(found) + (f" ({strategy.note})" if strategy.note else "")
    return f"none: {strategy.why_not}" if strategy.kinds or not strategy.note else strategy.note


def main() -> None:
    """Writes the page, or exits with a message where it is not what it would write."""
    text = page().rstrip("\n") + "\n"
    if "--check" not in sys.argv:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        raise SystemExit("docs/methods.md is not what the code says: run `make docs`")


if __name__ == "__main__":
    main()
