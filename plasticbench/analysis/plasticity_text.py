"""Who keeps its networks plastic, in a table of methods by probes and in a few sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from plasticbench.analysis.headline import listed
from plasticbench.analysis.plasticity import ProbeRow, networks_of, ordered_probes
from plasticbench.analysis.probe_facts import ProbeFacts, facts_of, short_number
from plasticbench.analysis.rows import ALL

_MAX_NAMED = 4  # methods of which the sentence about all probes speaks


class ProbeTable(NamedTuple):
    """One network's probes at the end: ``cells`` by method and probe; ``best`` is the best method of each probe."""

    task: str
    network: str
    facts: Mapping[str, ProbeFacts]
    methods: list[str]
    cells: Mapping[tuple[str, str], ProbeRow]
    best: Mapping[str, str]

    def text(self, row: ProbeRow) -> str:
        """A cell's value."""
        return value_text(row, row.estimate.value)

    def bounds(self, row: ProbeRow) -> str:
        """A cell's interval, empty where there is none."""
        return _bounds(row)

    def tally(self, method: str) -> str:
        """Of how many probes a method is surely better and worse than the control; empty for the control itself."""
        signs = [s for probe in self.facts if (s := self._against(method, probe)) is not None]
        return f"{signs.count(1)} better, {signs.count(-1)} worse, {signs.count(0)} open" if signs else ""

    def _against(self, method: str, probe: str) -> int | None:
        row = self.cells.get((method, probe))
        return None if row is None else row.against_control


def probe_tables(rows: Sequence[ProbeRow], methods: Sequence[str]) -> list[ProbeTable]:
    """A table for each task and network, all tasks first and targets last."""
    tables = []
    for task in dict.fromkeys(row.task for row in rows):
        on_task = [row for row in rows if row.task == task]
        for network in networks_of(on_task):
            own = [row for row in on_task if row.network == network]
            probes = ordered_probes(own)
            cells = {(row.method, row.probe): row for row in own}
            present = [method for method in methods if any((method, probe) in cells for probe in probes)]
            best = {p: b for p in probes if (b := _best([r for r in own if r.probe == p])) is not None}
            tables.append(
                ProbeTable(
                    task, network, {p: facts_of(p) for p in probes}, present, cells, {p: best[p].method for p in best}
                )
            )
    return tables


def plasticity_answer(rows: Sequence[ProbeRow], control: str | None) -> list[str]:
    """Sentences about the trained networks: the first probe that has a direction, then all of them together."""
    tasks = list(dict.fromkeys(row.task for row in rows))
    pooled = ALL if ALL in tasks else tasks[0] if len(tasks) == 1 else None
    ranked = [row for row in rows if row.task == pooled and not row.is_reference]
    own = [row for row in ranked if "target" not in row.network and facts_of(row.probe).sign]
    if not own:
        return []
    network = networks_of(own)[0]
    probe = ordered_probes([row for row in own if row.network == network])[0]
    first = [row for row in own if (row.network, row.probe) == (network, probe)]
    return [s for s in (_of_probe(first, control), _of_all(own, control)) if s]


def _of_probe(rows: Sequence[ProbeRow], control: str | None) -> str:
    best, by_method = _best(rows), {row.method: row for row in rows}
    if best is None or len(rows) < 2:
        return ""
    facts = facts_of(best.probe)
    network = "" if best.network == "online" else f", in the {best.network} network"
    having = f"{best.method} has the {facts.superlative} {facts.phrase} at the end{network}: {_full(best)}"
    if control is None or control not in by_method:
        worst = min(rows, key=lambda row: facts.sign * (row.estimate.value or 0.0))
        return f"{having}; {worst.method} has {_full(worst)}."
    if best.method == control:
        return f"{having}: no method does better than the control there."
    beside = f"{having}; the control ({control}) has {_full(by_method[control])}"
    if best.against_control is None:
        return f"{beside}; with so few seeds this is indicative."
    return f"{beside}: {'a certain difference' if best.against_control == 1 else 'not a certain difference'}."


def _of_all(rows: Sequence[ProbeRow], control: str | None) -> str:
    judged = [row for row in rows if row.against_control is not None]
    if not judged or control is None:
        return ""
    better, worse = (_counts(judged, sign) for sign in (1, -1))
    count = len({(row.network, row.probe) for row in judged})
    order = sorted((m for m in better if better[m]), key=lambda method: (-better[method], worse[method]))
    if not order:
        losers = sum(count > 0 for count in worse.values())
        others = f"; {losers} of {len(worse)} are surely worse in some" if losers else ""
        nowhere = f"In none of {count} probes with a direction is any method surely better than the control ({control})"
        return f"{nowhere}{others}."
    told = [f"{m} in {better[m]}{f' (worse in {worse[m]})' if worse[m] else ''}" for m in order[:_MAX_NAMED]]
    rest = len(order) - len(told)
    others = f"; {rest} other{'s' * (rest > 1)} in no more" if rest else ""
    return f"Of {count} probes with a direction, surely better than the control ({control}): {listed(told)}{others}."


def _counts(rows: Iterable[ProbeRow], sign: int) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.method] = counts.get(row.method, 0) + (row.against_control == sign)
    return counts


def _best(rows: Sequence[ProbeRow]) -> ProbeRow | None:
    known = [row for row in rows if row.estimate.value is not None and not row.is_reference]
    sign = facts_of(rows[0].probe).sign if rows else 0
    return max(known, key=lambda row: sign * (row.estimate.value or 0.0)) if known and sign else None


def value_text(row: ProbeRow, value: float | None) -> str:
    """A probe's value, or the multiple of the control's that it is."""
    if row.is_relative and value is not None:
        return f"× {short_number(value)}"  # noqa: RUF001
    return facts_of(row.probe).text(value)


def _full(row: ProbeRow) -> str:
    return f"{value_text(row, row.estimate.value)}{' ' * bool(_bounds(row))}{_bounds(row)}"


def _bounds(row: ProbeRow) -> str:
    if row.estimate.low is None or row.estimate.high is None:
        return ""
    return f"[{value_text(row, row.estimate.low)}, {value_text(row, row.estimate.high)}]"
