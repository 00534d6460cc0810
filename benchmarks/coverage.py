"""What 95% intervals of the IQM cover: ``python -m benchmarks.coverage``; a minute on one core.

Draws scores of known distributions and counts how often the interval holds the population's 25 % trimmed mean. Beside
it, what the percentile bootstrap of version 0.1 covers; where the middle half holds both of two modes also the best
that any interval can reach which is made of the spread of its sample: all seeds fall into one with probability
p^n + (1 - p)^n.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

import numpy as np

from plasticbench.analysis.aggregate import iqm
from plasticbench.analysis.intervals import iqm_interval

_POPULATION = 400_000
_BOOTSTRAPPED = 400
_RESAMPLES = 1_000


def _modes(share: float) -> Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]:
    return lambda rng, shape: np.where(rng.random(shape) < share, 1.0, 0.0) + 0.05 * rng.standard_normal(shape)


SHAPES: Mapping[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "uniform": lambda rng, shape: rng.uniform(size=shape),
    "exponential": lambda rng, shape: rng.exponential(size=shape),
    "t(3)": lambda rng, shape: rng.standard_t(3, size=shape),
    "modes 60:40": _modes(0.6),
    "modes 80:20": _modes(0.8),
}
_BOTH_INSIDE = {"modes 60:40": 0.6}


def trimmed_mean(shape: str, rng: np.random.Generator) -> float:
    """The population's 25 % trimmed mean, from a large sample."""
    return float(iqm([SHAPES[shape](rng, (_POPULATION,))]))


def coverage(shape: str, num_seeds: int, num_tasks: int, boards: int, rng: np.random.Generator) -> float:
    """Share of intervals that hold what they are about; tasks have equal distributions."""
    truth = trimmed_mean(shape, rng)
    low, high = iqm_interval([SHAPES[shape](rng, (boards, num_seeds)) for _ in range(num_tasks)])
    return float(np.mean((low <= truth) & (truth <= high)))


def bootstrap_coverage(shape: str, num_seeds: int, num_tasks: int, rng: np.random.Generator) -> float:
    """The same of percentile intervals of a stratified bootstrap."""
    truth, hits = trimmed_mean(shape, rng), 0
    for _ in range(_BOOTSTRAPPED):
        tasks = [SHAPES[shape](rng, (num_seeds,)) for _ in range(num_tasks)]
        drawn = [task[rng.integers(num_seeds, size=(_RESAMPLES, num_seeds))] for task in tasks]
        low, high = np.percentile(iqm(drawn), [2.5, 97.5])
        hits += low <= truth <= high
    return hits / _BOOTSTRAPPED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boards", type=int, default=20_000)
    boards = parser.parse_args().boards
    rng = np.random.Generator(np.random.PCG64(0))
    print(f"| tasks | seeds | {' | '.join(SHAPES)} |\n{'| --- ' * (2 + len(SHAPES))}|")
    for num_tasks in (1, 6):
        for num_seeds in (5, 6, 8, 10, 20):
            cells = []
            for shape in SHAPES:
                cell = f"{100 * coverage(shape, num_seeds, num_tasks, boards, rng):.1f}%"
                cell += f" (bootstrap {100 * bootstrap_coverage(shape, num_seeds, num_tasks, rng):.0f}%"
                if num_tasks == 1 and (share := _BOTH_INSIDE.get(shape)):
                    cell += f", at best {100 * (1 - share**num_seeds - (1 - share) ** num_seeds):.0f}%"
                cells.append(cell + ")")
            print(f"| {num_tasks} | {num_seeds} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
