"""How often boards without any difference claim one: ``python -m benchmarks.null_claims [--quick]``.

Draws scores of methods that have equal means, in each cell with other numbers of methods, seeds and tasks, other shapes
and spreads, and runs the platform's test over them. Prints the share of boards with any claim (5 % at most; the level
is of the family, and the leader is chosen from the data), below it how often methods that play at random are said to
have learned something, and the differences that the test finds with 80 %.
The whole table takes about half an hour on one core.

Sharp modes are printed and held to nothing: with five seeds a method falls into one of two modes in 6 % of boards,
where its mean is far off and its spread small, which no test can tell from a difference.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

import numpy as np

from plasticbench.analysis.claims import above_zero, compare, correlation_bound, detectable_spreads

_CHUNK_SCORES = 3_000_000
LEVEL = 0.05


def _modes(width: float) -> Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]:
    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        modes = np.where(rng.random(shape) < 0.5, 1.0, -1.0) + width * rng.standard_normal(shape)
        return modes / np.hypot(1.0, width)

    return draw


SHAPES: Mapping[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "exponential": lambda rng, shape: rng.exponential(size=shape) - 1.0,
    "two modes": _modes(0.5),
    "sharp modes": _modes(0.2),
}
"""Scores of mean 0 and standard deviation 1; modes lie at plus and minus 1, their widths are 0.5 and 0.2."""


def spreads(num_methods: int) -> dict[str, np.ndarray]:
    """Standard deviations ``[M]`` of the methods, from 1 to 10."""
    ones, half = np.ones(num_methods), num_methods // 2
    return {
        "equal": ones,
        "from 1 to 10": np.geomspace(1.0, 10.0, num_methods),
        "one of 10": np.append(ones[1:], 10.0),
        "one of 1": np.append(10.0 * ones[1:], 1.0),
        "half of 10": np.append(ones[half:], 10.0 * ones[:half]),
    }


def false_claims(
    shape: str,
    spread: np.ndarray,
    num_tasks: int,
    num_seeds: int,
    boards: int,
    rng: np.random.Generator,
    shared: float = 0.0,
) -> float:
    """Share of boards with any claim; ``shared`` is the correlation of methods seed by seed."""
    num_methods, claims = len(spread), 0
    counts = np.full((num_methods, num_tasks), num_seeds)
    size = max(1, min(boards, _CHUNK_SCORES // (counts.size * num_seeds)))
    for start in range(0, boards, size):
        chunk = min(size, boards - start)
        own = SHAPES[shape](rng, (chunk, num_methods, num_tasks, num_seeds))
        common = SHAPES[shape](rng, (chunk, 1, num_tasks, num_seeds))
        scores = (np.sqrt(1 - shared) * own + np.sqrt(shared) * common) * spread[:, None, None]
        means = scores.mean(axis=-1)
        correlation = correlation_bound(scores - means[..., None])
        found = compare(means, scores.var(axis=-1, ddof=1), counts, correlation)
        claims += int(found.is_ahead.any(axis=(-1, -2)).sum())
    return claims / boards


def print_table(methods: list[int], seeds: list[int], tasks: list[int], boards: int) -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    columns = [(shape, shared) for shape in SHAPES for shared in (0.0, 0.9)]
    titles = [f"{shape}{', shared' if shared else ''}" for shape, shared in columns]
    print(f"| methods | seeds | tasks | spreads | {' | '.join(titles)} |\n{'| --- ' * (4 + len(columns))}|")
    for m, s, t in ((m, s, t) for m in methods for s in seeds for t in tasks):
        for name, spread in spreads(m).items():
            shares = [false_claims(shape, spread, t, s, boards, rng, shared) for shape, shared in columns]
            cells = [f"{100 * share:.1f}%{'' if share <= LEVEL else ' **'}" for share in shares]
            print(f"| {m} | {s} | {t} | {name} | {' | '.join(cells)} |", flush=True)


def print_random_play(methods: list[int], seeds: list[int], tasks: list[int], boards: int) -> None:
    """Boards of methods that all play at random: how often any is said to have learned something."""
    rng = np.random.Generator(np.random.PCG64(1))
    shapes = [shape for shape in SHAPES if "modes" not in shape]
    print(f"\nMethods at random play, any said to be above it:\n\n| methods | seeds | tasks | {' | '.join(shapes)} |")
    print("| --- " * (3 + len(shapes)) + "|")
    for m, s, t in ((m, s, t) for m in methods for s in seeds for t in tasks):
        counts, shares = np.full((m, t), s), []
        for shape in shapes:
            scores = SHAPES[shape](rng, (boards, m, t, s))
            found = above_zero(scores.mean(axis=(-1, -2)), scores.var(axis=-1, ddof=1), counts)
            shares.append(found.any(axis=-1).mean())
        cells = [f"{100 * share:.1f}%{'' if share <= LEVEL else ' **'}" for share in shares]
        print(f"| {m} | {s} | {t} | {' | '.join(cells)} |", flush=True)


def print_power(methods: list[int], seeds: list[int], tasks: list[int]) -> None:
    titles = " | ".join(f"{s} seeds, {t} task{'s' * (t > 1)}" for s in seeds for t in tasks)
    print(f"\nDifferences found with 80 %, in standard deviations of one run:\n\n| methods | {titles} |")
    print("| --- " * (1 + len(seeds) * len(tasks)) + "|")
    for m in methods:
        found = [detectable_spreads(np.full((m, t), s)) for s in seeds for t in tasks]
        print(f"| {m} | {' | '.join(f'{value:.2f}' for value in found)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="four cells, a minute")
    parser.add_argument("--boards", type=int, help="simulated boards per cell")
    arguments = parser.parse_args()
    if arguments.quick:
        methods, seeds, tasks, boards = [2, 4], [5], [1], 2_000
    else:
        methods, seeds, tasks, boards = [2, 4, 12, 24], [5, 10, 20], [1, 6], 4_000
    print_table(methods, seeds, tasks, arguments.boards or boards)
    print_random_play(methods, seeds, tasks, min(arguments.boards or boards, 4_000))
    print_power(methods, seeds, tasks)


if __name__ == "__main__":
    main()
