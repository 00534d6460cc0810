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
_PROCGEN_SOURCE = (
    "0: the return that is possible without seeing, 1: the largest possible one, both from Cobbe et al. 2020 "
    "(arXiv:1912.01588, appendix C)"
)
_DMC_SOURCE = "0: no reward at all; 1: the reward of 1 at each of 1,000 steps (Tassa et al. 2018, arXiv:1801.00690)"
_METAWORLD_SOURCE = (
    "share of episodes with success at one of their 500 steps, which is also what is reported as return "
    "(Yu et al. 2019, arXiv:1910.10897)"
)


def reference(group: str, task: str) -> tuple[Reference | None, str]:
    """The two reference returns of a task, if there are any, and where its scores come from."""
    if group == "dmc":
        return Reference(0.0, 1000.0), _DMC_SOURCE
    if group == "metaworld":
        return Reference(0.0, 1.0), _METAWORLD_SOURCE
    if group == "procgen" and (level := re.fullmatch(r"([A-Z][a-z]+)(Easy|Hard)-v0", task)):
        easy_low, easy_high, hard_low, hard_high = _PROCGEN[level[1]]
        found = Reference(easy_low, easy_high) if level[2] == "Easy" else Reference(hard_low, hard_high)
        return found, _PROCGEN_SOURCE
    return None, RAW_RETURN
