"""Writes docs/settings.md from the ``Config`` classes; with ``--check`` it only says whether that is due."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

from plasticbench import plugins
from plasticbench.platform.definition import benchmark
from plasticbench.platform.definition import setting_words as words
from plasticbench.platform.definition.reading import DEFAULT_PROBES
from plasticbench.platform.definition.start import Start
from plasticbench.schedules import At, Every, Trigger

PAGE = Path(__file__).with_name("settings.md")
INTRODUCTION = """\
# Settings

Every key of a benchmark file. This page is made from the code by `make docs`; `make check` says when that is due.
What has no default must be given where its section or kind is used.

| key | value |
| --- | --- |
| `name`, `description` | text; the name must contain a letter or a digit |
| `environments` | a list of `{kind: ..., name: ..., scenario: {kind: ...}}` with settings of the kind |
| `agent` or `learner` | `{kind: ...}` or `{kind: ..., preset: ...}`, with settings of the kind |
| `resets` | a schedule (below) for reset policies that have none of their own |
| `methods` | a mapping from names to a part, a list of parts, or `{parts: [...], agent: {...}}` |
| `seeds` | how many, from 0 on, or a list of different ones |
| `budget_steps` | agent steps of each trial, at least 1; with a learner `budget_updates` |
| `evaluation` to `pictures` | the sections below |

A file has an agent that acts in environments, or a learner of data, which counts updates: there `budget_steps` is
`budget_updates`, `every_steps` is `every_updates`, and the evaluation has a cadence alone. Data change as their
`stream` says, and have no scenario.

An environment's `name` is its task and its scenario `stationary` where they are left out; with `boundaries: hidden`
(else `known`) nothing in the file may act just where the task changes ([environments.md](environments.md)). A call of
an environment (to build, reset or step all of a population) that lasts longer than its `step_timeout_s` fails that
population, with the stack of where it sits; 600 where it is left out, `null` for no limit. A method's `agent` holds
what differs from the file's. `at: boundaries` is a schedule too: whenever a task changes.

A **part** is `{kind: ..., preset: ...}` with settings of a treatment, a structure or an optimizer, and where and when
it acts: `networks` (`all`, or one of the agent's), `from` (a fraction of the budget), and for treatments one of the
schedules below; `at`, `every`, `until` and `when` may stand beside `parts` as well. In place of any value,
`{sweep: [...]}` makes one method of each.
"""
SECTIONS = ("evaluation", "probes", "records", "tracking", "checkpoint", "execution", "pictures")
SCHEDULES = {"at": At, "every": Every, "when": Trigger}


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION, "## Sections\n"]
    parts += [_described(f"`{name}`", getattr(benchmark, name.capitalize())) for name in SECTIONS]
    parts.append(_described("`start`, of an `agent`", Start))
    parts += ["## Schedules\n", *(_described(f"`{name}`", kind) for name, kind in SCHEDULES.items())]
    for group in plugins.PACKAGES:
        parts += [f"## {group.capitalize()}\n", *(_plugin(group, kind) for kind in plugins.names(group))]
    return "\n".join(parts)


def known() -> set[str]:
    """Dotted keys of all sections, and of the settings of all agents: ``execution.num_gpus``, ``agent.discount``."""
    kinds = {name: [getattr(benchmark, name.capitalize())] for name in SECTIONS}
    for group in ("agents", "learners"):
        kinds[group[:-1]] = [plugins.load(group, kind).Config for kind in plugins.names(group)]
    names = {f"{key}.{field.name}" for key, own in kinds.items() for cls in own for field in dataclasses.fields(cls)}
    cadences = {f"{section}.every_updates" for section in ("evaluation", "probes", "records")}
    return names | cadences | {"probes.kinds"}


def _plugin(group: str, kind: str) -> str:
    module = plugins.load(group, kind)
    heading = f"`{kind}`"
    presets = "".join(
        f"* preset `{name}`: {'; '.join(words.differences(module.Config, preset)) or 'the defaults'}\n"
        for name, preset in getattr(module, "PRESETS", {}).items()
        if name != "clean"
    )
    return _described(heading, module.Config, plugins.summary(group, kind)) + (f"{presets}\n" if presets else "")


def _described(heading: str, cls: Any, summary: str = "") -> str:
    text = "\n\n".join(filter(None, [summary, inspect.getdoc(cls) or ""]))
    rows = "".join(f"| {' | '.join(row)} |\n" for row in _rows(cls))
    table = f"| setting | value | default |\n| --- | --- | --- |\n{rows}\n" if rows else ""
    return f"### {heading}\n\n{text.replace('``', '`')}\n\n{table}"


def _rows(cls: Any) -> Iterator[tuple[str, str, str]]:
    hints = get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        if cls is benchmark.Probes and field.name == "probes":
            yield (
                "`kinds`",
                "list of probes, each a name or `{kind: ...}` with its settings",
                words.shown(DEFAULT_PROBES),
            )
            continue
        default = words.default_of(field)
        shown = "" if default is dataclasses.MISSING else words.shown(default)
        if cls in (benchmark.Probes, benchmark.Records) and field.name == "every_steps":
            shown = "a hundredth of the budget"
        yield f"`{field.name}`", words.allowed(hints[field.name]), shown


def main() -> None:
    """Writes the page, or exits with a message where it is not what it would write."""
    text = page().rstrip("\n") + "\n"
    if "--check" not in sys.argv:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        raise SystemExit("docs/settings.md is not what the code says: run `make docs`")


if __name__ == "__main__":
    main()
