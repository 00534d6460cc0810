"""Which commit of its source this package is, for whoever asks later what produced a result."""

from __future__ import annotations

import json
import os
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

COMMIT_VARIABLE = "PLASTICBENCH_COMMIT"
"""Names it where the source travelled without its repository, as with jobs of a cluster."""
_TIMEOUT_S = 10.0


@cache
def code_commit(folder: Path = Path(__file__).parents[1]) -> str | None:
    """The commit's hash, followed by ``-dirty`` where files differ from it; ``None`` where nothing tells.

    ``folder`` is where the package lies. A repository that merely has it somewhere inside is not its own.
    """
    if (folder / ".git").exists():
        return _of_checkout(folder)
    told = os.environ.get(COMMIT_VARIABLE)
    return _of_installation() if told is None else told or None


def _of_checkout(folder: Path) -> str | None:
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        told = subprocess.run(command, env=own, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None  # no git here, or a repository that it does not trust
    return told.stdout.strip() or None


def _of_installation() -> str | None:
    """Of ``pip install git+...``."""
    try:
        note = metadata.distribution("plasticbench").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return None
    commit: str | None = json.loads(note or "{}").get("vcs_info", {}).get("commit_id")
    return commit
