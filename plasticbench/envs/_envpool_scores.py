"""Reference returns of EnvPool's groups, as published."""

from __future__ import annotations

import re

from plasticbench.envs._scores import RAW_RETURN, Reference

_PROCGEN = {
    # game: minimum and maximum in easy levels, then in hard ones
    "Coinrun": (5.0, 10.0, 5.0, 10.0),
    "Starpilot": (2.5, 64.0, 1.5, 35.0),
    "Caveflyer": (3.5, 12.0, 2.0, 13.4),
    "Dodgeball": (1.5, 19.0, 1.5, 19.0),
    "Fruitbot": (-1.5, 32.4, -0.5, 27.2),
    "Chaser": (0.5, 13.0, 0.5, 14.2),
    "Miner": (1.5, 13.0, 1.5, 20.0),
    "Jumper": (3.0, 10.0, 1.0, 10.0),
    "Leaper": (3.0, 10.0, 1.5, 10.0),
    "Maze": (5.0, 10.0, 4.0, 10.0),
    "Bigfish": (1.0, 40.0, 0.0, 40.0),
    "Heist": (3.5, 10.0, 2.0, 10.0),
    "Climber": (2.0, 12.6, 1.0, 12.6),
    "Plunder": (4.5, 30.0, 3.0, 30.0),
    "Ninja": (3.5, 10.0, 2.0, 10.0),
    "Bossfight": (0.5, 13.0, 0.5, 13.0),
}
_SOURCES = {
    "dmc": ("no reward at all", "the reward of 1 at each of 1,000 steps (Tassa et al. 2018, arXiv:1801.00690)"),
    "metaworld": (
        "no success",
        "success at one of the 500 steps of every episode, of which the share is reported as return as well "
        "(Yu et al. 2019, arXiv:1910.10897)",
    ),
    "procgen": (
        "the return that is possible without seeing",
        "the largest possible one, both from Cobbe et al. 2020 (arXiv:1912.01588, appendix C)",
    ),
}


def reference(group: str, task: str) -> tuple[Reference | None, str]:
    """The two reference returns of a task, if there are any, and where its scores come from."""
    found = _found(group, task)
    return found, RAW_RETURN if found is None else found.source(*_SOURCES[group])


def _found(group: str, task: str) -> Reference | None:
    if group == "dmc":
        return Reference(0.0, 1000.0)
    if group == "metaworld":
        return Reference(0.0, 1.0)
    if group == "procgen" and (level := re.fullmatch(r"([A-Z][a-z]+)(Easy|Hard)-v0", task)):
        easy_low, easy_high, hard_low, hard_high = _PROCGEN[level[1]]
        return Reference(easy_low, easy_high) if level[2] == "Easy" else Reference(hard_low, hard_high)
    return None
